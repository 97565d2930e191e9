"""The code of docs/training.md runs, and so do the examples' own functions."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from regrain.training import Limit, Schedule

ROOT = Path(__file__).parents[2]
NAMES = ("fashion_mnist", "fashion", "resnet", "task", "train")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_code_of_the_document_runs(number, net, images, labels, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = {
        "model": net,
        "evaluate": lambda _: 0.9,
        "optimizer": torch.optim.SGD(net.parameters(), 0.01),
        "batches": [(images, labels)] * 3,
        "batch": (images, labels),
        "example": images[:1],
        "loss": lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        "limit": Limit(threshold=0.5),
    }
    exec("from regrain.training import *\n" + blocks()[number], known)
    monitor = known["monitor"]
    assert (tmp_path / "model.regrain.safetensors").is_file() == (number == 0)
    assert number == 0 or monitor.recipe.plan("4.weight").pruning is not None


@pytest.fixture
def example(monkeypatch):
    """examples/training/fashion_mnist.py with 128 images in every split, and batches of 64."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "tasks" / "fashion_mnist")
    monkeypatch.syspath_prepend(ROOT / "examples" / "training")
    before = list(sys.path)
    found = importlib.import_module("fashion_mnist")
    read = found.fashion.read
    monkeypatch.setattr(found.fashion, "read", lambda split: tuple(part[:128] for part in read(split)))
    for module in (found, sys.modules["train"]):
        monkeypatch.setattr(module, "BATCH", 64)
    yield found
    sys.path[:] = before
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("goal", ["work", "bytes"])
def test_example_trains_towards_its_goal(example, goal: str, tmp_path) -> None:
    torch.manual_seed(0)
    model = example.task.load_model()
    work = example.work_of(model)
    monitor = example.monitored(model, goal, 1, tmp_path / "log.jsonl")
    assert monitor.schedule == Schedule(every=55_000 // 64 // 2, patience=2)
    example.fine_tune(model, 1, monitor.step, steps=2)
    recipe = monitor.current()
    monitor.detach()
    pruned = {plan.name for plan in recipe.layers if plan.pruning is not None}
    assert bool(pruned) == (goal == "work")
    if goal == "work":
        assert example.work_left(model, work, recipe) <= 0.25
    else:
        assert sum(plan.bytes for plan in recipe.layers) * 8 < 1.1 * sum(p.numel() for p in model.parameters())
