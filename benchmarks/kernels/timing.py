"""The stopwatch of products: contenders take turns, their results are checked, figures are ratios of medians."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))  # after this folder: both have a module `timing`

import machine

SHAPES = ((384, 384), (1536, 384), (384, 1536), (1024, 1024), (4096, 4096))
"""(rows, columns) of matrices that are measured."""

TURN = 2e-3
"""Seconds of one turn at least."""

PEERS = ("onnxruntime", "deepsparse")
"""Distributions whose versions matter, beside torch."""

FOLDER = Path(__file__).parents[1] / "results" / "kernels"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to a product. `run` fills `out` or, where that is None, gives the result, which must come within `room`
    of `wanted`: checked after every turn.
    """

    name: str
    run: Callable[[], Any]
    out: np.ndarray | None
    wanted: np.ndarray
    room: float = 1e-3


def race(contenders: Sequence[Contender], rounds: int = 15) -> dict[str, float]:
    """Median seconds of a call of each, of this process alone: others may want the processor. Not for several threads.

    Another contender starts every round; one round before the first doesn't count.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    calls = {contender.name: _calls(contender) for contender in contenders}
    for number in range(-1, rounds):
        for index in range(len(contenders)):
            contender = contenders[(number + index) % len(contenders)]
            took = _turn(contender, calls[contender.name])
            if number >= 0:
                seconds[contender.name].append(took)
    return {name: median(each) for name, each in seconds.items()}


def _calls(contender: Contender) -> int:
    """How many make a turn. The first ones are slow: caches are cold, and libraries set themselves up."""
    calls = 1
    while _turn(contender, calls) * calls < TURN:
        calls *= 2
    return calls


def _turn(contender: Contender, calls: int) -> float:
    if contender.out is not None:
        contender.out.fill(np.nan)
    result = None
    start = time.process_time()
    for _ in range(calls):
        result = contender.run()
    took = time.process_time() - start
    found = np.asarray(result) if contender.out is None else contender.out
    if not np.allclose(found, contender.wanted, rtol=0, atol=contender.room):
        raise SystemExit(f"{contender.name} gave a wrong result: its time means nothing")
    return took / calls


def copies(size: int) -> int:
    """How many copies of so many bytes no cache holds: for weights that are read once a step, as whole models are."""
    return max(1, -(-3 * machine.cache_bytes(3, 1 << 25) // size))


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into benchmarks/results/kernels/NAME-MACHINE.json, and print them."""
    for row in rows:
        print(" ".join(f"{key}={value}" for key, value in row.items()))
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}-{machine.kind()}.json"
    peers = {name: found for name in PEERS if (found := _version(name))}
    path.write_text(json.dumps({"machine": machine.describe(), "peers": peers, "rows": rows}, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
