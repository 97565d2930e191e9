"""`regrain eval`: a model's metrics on a task, and beside another model how far it is from that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from regrain.accuracy import Drop, Fidelity
from regrain.artifact.layout import find_layout
from regrain.artifact.threads import resolve_threads
from regrain.core.errors import TaskError
from regrain.core.scores import Scores
from regrain.models import open_any
from regrain.models.network import Network
from regrain.models.slim import fit
from regrain.models.task import Metric, Task
from regrain.models.task_file import load_task
from regrain.planning.evaluate import Evaluator
from regrain.planning.evidence import load_weights
from regrain.planning.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model on one split. `metrics` are its own, `drops` and `fidelity` those beside `against`, if there is one."""

    path: Path
    task: str
    split: str
    metrics: Mapping[str, float]
    against: Path | None = None
    drops: Mapping[str, Drop] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    confidence: float = 0.95

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "path": str(self.path),
            "task": self.task,
            "split": self.split,
            "metrics": dict(self.metrics),
            "against": None if self.against is None else str(self.against),
            "drops": {name: drop.to_json() for name, drop in self.drops.items()},
            "fidelity": None if self.fidelity is None else self.fidelity.to_json(self.confidence),
            "confidence": self.confidence,
        }


def evaluate(
    model: str | os.PathLike[str],
    *,
    task: Task | str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    split: str = "held_out",
    confidence: float = 0.95,
    threads: int | None = None,
) -> Evaluation:
    """Evaluate a model or an artifact on a split of a task: "search" or "held_out".

    With `against`, the original, metrics come with paired bounds of their drops at `confidence`, and with fidelity. A
    task without `evaluate` needs `against`. Who chooses by what held-out data say makes search data of them.

    Raises TaskError, UnsupportedModelError and CorruptArtifactError for what can't be read, OSError.
    """
    import torch

    count = resolve_threads(threads)
    torch.set_num_threads(count)
    job = task if isinstance(task, Task) else load_task(task)
    if against is None and job.evaluate is None:
        raise TaskError(f"{job} must have evaluate() to evaluate a model alone: compare it with another (--against)")
    network = Network(job.model())
    if against is None:
        network = load_network(network, model, count)
        return Evaluation(Path(model), job.name, split, _values(job.scores(network.model, split)))
    network = load_network(network, against, count)
    with TemporaryDirectory(prefix="regrain-") as folder:  # for outputs that are too large for memory
        evaluator = Evaluator(network, job, split, Store(Path(folder)))
        evaluator.network = load_network(network, model, count)
        measured = evaluator.measured(evaluator.raw(), confidence)
    metrics = {name: drop.after for name, drop in measured.drops.items()}
    return Evaluation(
        Path(model), job.name, split, metrics, Path(against), measured.drops, measured.fidelity, confidence
    )


def load_network(network: Network, model: str | os.PathLike[str], threads: int) -> Network:
    """The network with a model's weights; made smaller first where the model is a slim one."""
    sources = [open_any(path, threads) for path in find_layout(model).paths()]
    shapes = {name: entry.shape for source in sources for name, entry in source.header.entries.items()}
    if any(place.shape != shapes.get(name, place.shape) for name, place in network.places.items()):
        fit(network.model, shapes)
        network = Network(network.model)
    load_weights(network, sources)
    return network


def _values(scores: Mapping[str, Metric]) -> dict[str, float]:
    return {name: score.value if isinstance(score, Scores) else score for name, score in scores.items()}
