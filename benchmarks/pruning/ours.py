"""regrain beside its peers: recipes, built as the command builds them, and audited in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import results  # first: it makes the folder above this one importable
from lossy import models
from subject import Subject, audit
from torch import nn
from work import work

import regrain
from regrain.accuracy import Budget
from regrain.core.recipe import parse_recipe
from regrain.pipelines.budgeted import compress_within
from regrain.pipelines.options import Options
from regrain.torch import load_file

ANYTHING = Budget(bits=64.0)
"""A budget that no recipe exceeds and that asks for no judgment: the audit split gives it."""


def regrain_points(subject: Subject, recipes: Sequence[Path], folder: Path) -> Iterator[results.Row]:
    """A row for each recipe's file, named by it. `folder` is for artifacts and measurements."""
    source = models.path(subject.task.parent.name)
    options = Options(work=folder / subject.task.parent.name, threads=1)
    for file in recipes:
        artifact = folder / f"{subject.task.parent.name}-{file.stem}.regrain.safetensors"
        recipe = parse_recipe(file.read_text())
        start = time.process_time()
        compress_within(
            source, artifact, task=subject.task, budget=ANYTHING, recipe=recipe, options=options, force=True
        )
        seconds = time.process_time() - start
        model = _restored(subject, artifact)
        yield {
            "subject": subject.name,
            "tool": "regrain",
            "version": regrain.__version__,
            "config": file.stem,
            "amount": "recipe",
            "variant": "",
            **asdict(work(subject, model)),
            "seconds": seconds,
            **audit(subject, model),
        }


def _restored(subject: Subject, artifact: Path) -> nn.Module:
    model = subject.load()
    missing, _ = model.load_state_dict(load_file(artifact), strict=False)
    if missing:
        raise SystemExit(f"{artifact.name} must have all weights of {subject.name}, and lacks {missing[0]}")
    return model
