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
        self._original: list[NDArray[np.float32]] = []
        digest = hashlib.sha256()
        for rows in self._outputs():
            self.kind: Kind = task.kind_of(rows)
            digest.update(_numpy(rows).tobytes())
            self._original.append(self._kept(_numpy(rows)))
        self.baseline = task.scores(network.model, split)
        for name, metric in self.baseline.items():
            digest.update(name.encode("utf-8"))
            digest.update(metric.values.tobytes() if isinstance(metric, Scores) else repr(metric).encode())
        self.digest = digest.hexdigest()

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

    def _kept(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next of the original's outputs, mapped from the store where they have become too many."""
        if sum(kept.nbytes for kept in self._original) + rows.nbytes <= IN_MEMORY:
            return rows
        key = f"outputs-{self.split}-{len(self._original):05d}"
        self.store.put(key, {}, {"rows": rows})
        found = self.store.get(key)
        assert found is not None
        mapped: NDArray[np.float32] = found[1]["rows"]
        return mapped


def _numpy(rows: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = rows.detach().cpu().numpy()
    return array
