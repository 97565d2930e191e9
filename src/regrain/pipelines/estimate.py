"""How long a job will take and how much memory it will need, from one batch and the sizes of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from regrain.models.network import Network
from regrain.models.task import Task
from regrain.planning.evidence import GRAM_BYTES
from regrain.profiling.sensitivity import LARGEST, gram_bytes

POINTS, JUDGED = 8, 4
"""Points that are built and evaluated on search data, and recipes that are judged on held-out data, typically."""

_FEEDBACK = 4e9
"""Multiplications a second of error feedback on one thread, about."""

_COPIES = 28
"""Bytes a weight: the network, the weights themselves, what is built of them, indices, and what is coded."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`seconds` of the whole job, and `memory` bytes at most, over what the libraries take. Both are rough."""

    seconds: float
    memory: int

    def __str__(self) -> str:
        minutes = self.seconds / 60.0
        time = f"{max(1, round(self.seconds / 10)) * 10} seconds" if minutes < 1.5 else f"{round(minutes)} minutes"
        return f"about {time} and {max(0.1, self.memory / 1e9):.1f} GB of memory"


def estimate(
    network: Network, task: Task, batches: list[Any], probes: int, checked: float, *, measured: bool
) -> Estimate:
    """The estimate of a job on this machine. `checked` is how long checking the task took, in seconds, which evaluates
    the search data once; `measured` says that calibration data are done with.
    """
    import torch

    forward = _seconds(lambda: task.outputs(network.model, batches[0]))
    names = {name for name, place in network.places.items() if place.trainable}
    with network.gathering(names):
        both = _seconds(lambda: task.outputs(network.model, batches[0], grad=True).sum().backward())  # type: ignore[no-untyped-call]
    grams = sum(gram_bytes(place.shape, place.kind) for place in network.places.values())
    weights = sum(math.prod(place.shape) for place in network.places.values())
    room = min(grams, GRAM_BYTES + 4 * weights)
    passes = math.ceil(grams / (GRAM_BYTES + 4 * weights))
    probing = passes * (forward + probes * (both - forward))
    calibrating = 0.0 if measured else len(batches) * (forward + max(probing, 0.0))
    building = _multiplications(network) / _FEEDBACK / torch.get_num_threads()
    larger = len(task.batches("held_out")) / len(task.batches("search"))
    evaluating = POINTS * (building + checked) + JUDGED * (building + larger * checked)
    return Estimate(calibrating + evaluating, _COPIES * weights + room)


def _multiplications(network: Network) -> float:
    """What rounding every matrix with feedback along both sides takes."""
    found = 0.0
    for place in network.places.values():
        if len(place.shape) > 1:
            rows, columns = place.shape[0], math.prod(place.shape[1:])
            sides = [side for side in (rows if place.kind != "embedding" else 0, columns) if side <= LARGEST]
            found += float(rows) * columns * sum(sides) / 2.0
    return found


def _seconds(work: Callable[[], object]) -> float:
    """The better of two runs: the first may have something to set up."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
