"""Whole models against each other: they run in turn, in every round, and what they give in the timed runs is kept."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from timing import processors

Work = Callable[[int], Any]
"""What is timed: the round's work, whose result is judged."""


@dataclass(slots=True)
class Times:
    """Of one contender, a round each: seconds on the wall, and seconds of the processor in all of its threads. On a
    machine with nothing else to do they are the same for one thread; on a busy one the first are of no use.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self, jobs: int, against: Times) -> dict[str, float]:
        """Medians in milliseconds for one of a round's jobs; and the median of the rounds' own ratios to another
        contender, in time of the processor.
        """
        ratios = [mine / theirs for mine, theirs in zip(self.cpu, against.cpu, strict=True)]
        return {
            "wall_ms": 1e3 * statistics.median(self.wall) / jobs,
            "cpu_ms": 1e3 * statistics.median(self.cpu) / jobs,
            "least_cpu_ms": 1e3 * min(self.cpu) / jobs,
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }


def race(contenders: Mapping[str, Work], rounds: int, judge: Callable[[str, int, Any], None]) -> dict[str, Times]:
    """Each does the work of each round once, on one processor, after two rounds that don't count. `judge` sees every
    counted result, outside of the clock.
    """
    times = {name: Times() for name in contenders}
    names: Sequence[str] = list(contenders)
    gc.collect()
    gc.disable()
    try:
        for turn in range(-2, rounds):
            for index in range(len(names)):
                name = names[(turn + index) % len(names)]
                with processors(1):
                    wall, cpu = time.perf_counter(), time.process_time()
                    result = contenders[name](max(turn, 0))
                    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if turn >= 0:
                    times[name].wall.append(wall)
                    times[name].cpu.append(cpu)
                    judge(name, turn, result)
    finally:
        gc.enable()
    return times
