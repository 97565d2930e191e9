"""64K weights out of the middle of a tensor: only the blocks that hold them are read, checked and decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from models import MODELS, artifact_file, model_file, need
from pagecache import settle
from safetensors.numpy import load_file
from setup import Setup
from tables import Goal, Shown, Table
from timing import Contender, median, race

import regrain.numpy
from regrain import kernels

NAMES = ("minilm-bf16", "minilm-fp32")
TENSOR = "embeddings.word_embeddings.weight"
ROWS, WIDTH = 30522, 384
CALLS = 50

Read = Callable[[int, int], Any]


def measure(setup: Setup) -> dict[str, Any]:
    return {name: _measure(name, setup) for name in (NAMES[:1] if setup.quick else NAMES)}


def _measure(name: str, setup: Setup) -> dict[str, Any]:
    plain = settle(need(model_file(name, setup.folder), MODELS[name].package))
    artifact = settle(need(artifact_file(name, setup.folder), MODELS[name].package))
    right = load_file(plain)[TENSOR]
    words = _block_words(artifact)
    rows = words // WIDTH  # 64K weights, as many as whole rows of a block are
    inside = _starts(words, rows, 0)
    across = _starts(words, rows, rows // 2)
    calls = 4 if setup.quick else CALLS
    with regrain.numpy.safe_open(artifact, threads=1) as mine, safetensors.safe_open(plain, "np") as theirs:
        contenders = [
            _slices("regrain, one block", _reader(mine), inside, rows, right, calls),
            _slices("regrain, across two blocks", _reader(mine), across, rows, right, calls),
            _slices("regrain, open and slice", _opener(artifact), inside, rows, right, max(1, calls // 10)),
        ]
        if name != "minilm-bf16":  # safetensors has no bfloat16 for NumPy
            contenders.append(_slices("safetensors", _reader(theirs), inside, rows, right, calls))
        seconds = race(contenders, setup.rounds)
    return {"seconds": seconds, "rows": rows, "block_words": words}


def _block_words(artifact: Path) -> int:
    with safetensors.safe_open(artifact, "np") as file:
        payload = file.get_tensor(f"{TENSOR}.regrain")
    from regrain.artifact.checksum import seed_of

    return kernels.info(payload, seed=seed_of(TENSOR)).block_words


def _starts(block_words: int, rows: int, shift: int) -> list[int]:
    """First rows of slices all over the tensor, so that none is in a nearer cache than memory's last."""
    every = block_words // WIDTH if block_words % WIDTH == 0 else rows
    starts = [start + shift for start in range(0, ROWS - 2 * every, every)]
    return [int(start) for start in np.random.default_rng(0).permutation(starts)]


def _reader(file: Any) -> Read:
    return lambda start, stop: file.get_slice(TENSOR)[start:stop]


def _opener(path: Path) -> Read:
    def read(start: int, stop: int) -> Any:
        with regrain.numpy.safe_open(path, threads=1) as file:
            return file.get_slice(TENSOR)[start:stop]

    return read


def _slices(name: str, read: Read, starts: list[int], rows: int, right: Any, calls: int) -> Contender:
    """`calls` slices, each somewhere else, in a run."""
    at = 0
    chosen: list[int] = []

    def prepare() -> None:
        nonlocal at
        chosen[:] = [starts[(at + index) % len(starts)] for index in range(calls)]
        at += calls

    def run() -> list[Any]:
        return [read(start, start + rows) for start in chosen]

    def check(found: list[Any]) -> bool:
        return all(
            array.tobytes() == right[start : start + rows].tobytes() for start, array in zip(chosen, found, strict=True)
        )

    return Contender(name, run, 1, prepare, check, calls)


def show(result: dict[str, Any]) -> Shown:
    shown = Shown()
    for name, found in result.items():
        seconds = found["seconds"]
        rows = [
            [
                label,
                f"{1e6 * median(seconds, label):.0f}",
                f"{1e6 * min(seconds[label]):.0f} to {1e6 * max(seconds[label]):.0f}",
            ]
            for label in seconds
        ]
        note = f"{found['rows']} rows of {WIDTH} word embeddings, blocks of {found['block_words']:,} weights."
        shown.tables.append(Table(f"{MODELS[name].title}: a slice", ["contender", "µs", "rounds"], rows, note))
        if name == "minilm-bf16":
            took = 1e6 * median(seconds, "regrain, one block")
            shown.goals.append(
                Goal(f"{MODELS[name].title}: slice of 64K weights, file open, µs", took, 100, least=False, form=".0f")
            )
    return shown
