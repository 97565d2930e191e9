"""The stopwatch: contenders run in turn, in every round, so that whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Seconds = dict[str, list[float]]
"""Name of a contender -> seconds, one for each round, in order."""


def _nothing() -> None:
    pass


def _right(_: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do a job. Only `run` is timed; its result must be fresh in every call.

    prepare: before each run. check: whether a run's result is right; both outside the clock. threads: 1 binds the run
    to one processor. calls: how often `run` does the job, for jobs that are too short for the clock.
    """

    name: str
    run: Callable[[], Any]
    threads: int = 1
    prepare: Callable[[], Any] = _nothing
    check: Callable[[Any], bool] = _right
    calls: int = 1


def race(contenders: Sequence[Contender], rounds: int) -> Seconds:
    """Run each contender once a round, starting with another one each time, after one round that does not count.

    Results are checked in every round and dropped before the next contender runs; no garbage collection meanwhile.
    """
    seconds: Seconds = {contender.name: [] for contender in contenders}
    gc.collect()
    gc.disable()
    try:
        for turn in range(-1, rounds):
            for index in range(len(contenders)):
                contender = contenders[(turn + index) % len(contenders)]
                took = _once(contender)
                if turn >= 0:
                    seconds[contender.name].append(took)
    finally:
        gc.enable()
    return seconds


def _once(contender: Contender) -> float:
    contender.prepare()
    with processors(contender.threads):
        start = time.perf_counter()
        result = contender.run()
        took = time.perf_counter() - start
    if not contender.check(result):
        raise SystemExit(f"{contender.name} gave a wrong result: its time means nothing")
    return took / contender.calls


@contextmanager
def processors(threads: int) -> Iterator[None]:
    """Bind this thread, and the threads that it starts, to one processor if `threads` is 1, where the system can."""
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})  # the first one has most of the interrupts
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster A is than B."""

    of_medians: float
    median: float
    """Median of the ratios of the rounds; `low` and `high` are the least and the greatest of them."""
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.of_medians:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(seconds: Seconds, a: str, b: str) -> Ratio:
    """How many times faster `a` is than `b`, which ran in the same rounds."""
    rounds = [theirs / mine for mine, theirs in zip(seconds[a], seconds[b], strict=True)]
    return Ratio(median(seconds, b) / median(seconds, a), statistics.median(rounds), min(rounds), max(rounds))


def median(seconds: Seconds, name: str) -> float:
    """Median over the rounds, in seconds."""
    return statistics.median(seconds[name])
