"""How good a changed model is: its outputs and metrics beside those of the original, on one split of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.accuracy import Budget, Drop, Fidelity, FidelityMeter, Verdict, compare, judge
from regrain.accuracy.fidelity import Kind
from regrain.core.scores import Scores
from regrain.models.network import Network
from regrain.planning.store import Store

if TYPE_CHECKING:
    from regrain.models.task import Metric, Task

IN_MEMORY = 256 << 20
"""Bytes of the original's outputs that are kept in memory; more are kept in the store."""

RUN = 32
"""Rows of logits in a group."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A changed model on a split."""

    fidelity: Fidelity
    drops: dict[str, Drop]

    def verdict(self, budget: Budget) -> Verdict:
        """Whether it keeps the budget."""
        return judge(budget, self.drops, self.fidelity)


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Scores and losses by example."""

    fidelity: Fidelity
    scores: Mapping[str, Metric]


class Evaluator:
    """One split of a task. The original's outputs and scores are found once, when the evaluator is made, so the network
    must hold the original's weights then. `digest` is the SHA-256 of both: what a task imports may change either while
    its file and inputs stay the same.
    """

    def __init__(self, network: Network, task: Task, split: str, store: Store) -> None:
        self.network = network
        self.task = task
        self.split = split
        self.store = store
        self._batches = task.batches(split)
        outputs = [_numpy(rows) for rows in self._outputs()]
        self.kind: Kind = task.kind_of(_torch(outputs[0]))
        self._original = _kept(outputs, store, split)
        self.baseline = task.scores(network.model, split)
        self.digest = _digest(outputs, self.baseline)

    @property
    def examples(self) -> int:
        """Rows of the output."""
        return sum(len(rows) for rows in self._original)

    def raw(self) -> Raw:
        """The network as it is now, beside the original."""
        meter = FidelityMeter(self.kind)
        start = 0
        for original, rows in zip(self._original, self._outputs(), strict=True):
            # Rows of logits may be tokens of a sequence, which depend on each other: runs of them are taken as groups.
            runs = start + np.arange(len(original)) // RUN
            meter.add(original, _numpy(rows), runs if self.kind == "logits" else None)
            start = int(runs[-1]) + 1
        return Raw(meter.result(), self.task.scores(self.network.model, self.split))

    def measured(self, raw: Raw, confidence: float) -> Measured:
        """Drops against the original, with bounds at that confidence."""
        drops = {name: compare(self.baseline[name], after, confidence=confidence) for name, after in raw.scores.items()}
        return Measured(raw.fidelity, drops)

    def _outputs(self) -> Any:
        for number, batch in enumerate(self._batches):
            yield self.task.outputs(self.network.model, batch, where=f"batch {number} of {self.split!r}")


def _kept(outputs: list[NDArray[np.float32]], store: Store, split: str) -> list[NDArray[np.float32]]:
    """The outputs, mapped from the store where they are large."""
    if sum(rows.nbytes for rows in outputs) <= IN_MEMORY:
        return outputs
    key = f"outputs-{split}"
    store.put(key, {}, {f"{number:05d}": rows for number, rows in enumerate(outputs)})
    found = store.get(key)
    assert found is not None
    return [found[1][f"{number:05d}"] for number in range(len(outputs))]


def _digest(outputs: list[NDArray[np.float32]], scores: Mapping[str, Metric]) -> str:
    found = hashlib.sha256()
    for rows in outputs:
        found.update(rows.tobytes())
    for name, metric in scores.items():
        found.update(name.encode("utf-8"))
        found.update(metric.values.tobytes() if isinstance(metric, Scores) else repr(metric).encode())
    return found.hexdigest()


def _numpy(rows: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.detach().cpu().numpy()
    return array


def _torch(rows: NDArray[np.float32]) -> Any:
    import torch

    return torch.from_numpy(rows)
