"""`regrain run`: a task served from panels: its metrics, how close it stays, how long it takes, and what changed."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from regrain import kernels
from regrain.accuracy import Drop, Fidelity
from regrain.artifact.compressed import Artifact
from regrain.artifact.layout import find_layout
from regrain.artifact.reader import open as open_file
from regrain.artifact.threads import resolve_threads
from regrain.core.errors import CorruptArtifactError
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.models.task_file import load_task
from regrain.pipelines.evaluate import load_network
from regrain.planning.evaluate import Evaluator
from regrain.planning.store import Store

if TYPE_CHECKING:
    import torch

    from regrain.runtime import Attachment, Calibrated

Progress = Callable[[str, int, int], None]
"""What is going on, and how much of how much is done."""

ACQUAINTED = 8
"""Batches of calibration data that show what pruning does to the inputs of the layers that follow."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of the stream: seconds as torch runs it, and served. `switches` were in force when it began."""

    plain: float
    served: float
    switches: int


@dataclass(frozen=True, slots=True)
class ServedLayer:
    """A matrix at the end of a run. `granularity` is that of what is dropped, "dense" where nothing is; `layout` says
    what serves how many tokens, in words.
    """

    name: str
    granularity: str
    density: float
    layout: str
    nbytes: int
    switches: int
    refreshes: int
    reverts: int


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A task, served. `metrics` are those of the served model; `drops` and `fidelity` compare it with `against`, or
    with what torch makes of the same weights.
    """

    path: Path
    task: str
    policy: str
    split: str
    threads: int
    instruction_set: str
    batches: Sequence[Batch]
    layers: Sequence[ServedLayer]
    left: Mapping[str, str]
    fidelity: Fidelity
    drops: Mapping[str, Drop] = field(default_factory=dict)
    against: Path | None = None
    confidence: float = 0.95

    @property
    def ratio(self) -> float:
        """How many times faster the middle batch was served than torch ran it."""
        return _middle([batch.plain / batch.served for batch in self.batches])

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "path": str(self.path),
            "task": self.task,
            "policy": self.policy,
            "split": self.split,
            "threads": self.threads,
            "instruction_set": self.instruction_set,
            "ratio": self.ratio,
            "batches": [{name: getattr(batch, name) for name in Batch.__slots__} for batch in self.batches],
            "layers": [{name: getattr(layer, name) for name in ServedLayer.__slots__} for layer in self.layers],
            "left": dict(self.left),
            "fidelity": self.fidelity.to_json(self.confidence),
            "drops": {name: drop.to_json() for name, drop in self.drops.items()},
            "against": None if self.against is None else str(self.against),
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served. `density`, above 0 to 1, is what a policy may keep of each matrix; `pattern` has a bank of
    compensated patterns built; `value` is what weights are kept as, None for what suits the artifact; `activations`
    "i8" has inputs of several tokens rounded to integers, too. `host` is a file that remembers this machine's times.
    """

    policy: str = "auto"
    density: float = 1.0
    pattern: str | None = None
    value: str | None = None
    activations: str = "f32"
    host: Path | None = None


def run(
    artifact: str | os.PathLike[str],
    *,
    task: Task | str | os.PathLike[str],
    serving: Serving = Serving(),
    against: str | os.PathLike[str] | None = None,
    split: str = "held_out",
    trace: str | os.PathLike[str] | None = None,
    confidence: float = 0.95,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Serve an artifact or a model on a split of a task, and compare it with `against`, by default its own weights as
    torch runs them.

    The batches are run once each, by torch and served, one after the other; then the served model is scored. `trace`
    is a file for what was observed and decided, as JSON lines. Raises TaskError, UnsupportedModelError and
    CorruptArtifactError for what can't be read, AttachError for what can't be served, OSError.
    """
    import torch

    from regrain.runtime import Host, attach

    told = progress or _silent
    count = resolve_threads(threads)
    torch.set_num_threads(count)
    job = task if isinstance(task, Task) else load_task(task)
    network = load_network(Network(job.model()), against or artifact, count)
    with TemporaryDirectory(prefix="regrain-") as folder, torch.inference_mode():
        told("outputs of the original", 0, 1)
        evaluator = Evaluator(network, job, split, Store(Path(folder)))
        network = load_network(network, artifact, count)
        evaluator.network = network
        plain = copy.deepcopy(network.model)
        calibration = partial(_outputs, job, network.model, told)
        known = _calibrated(network.model, serving, calibration)
        with attach(
            network.model,
            _if_artifact(artifact),
            serving.policy,
            calibration=known,
            value=serving.value,  # type: ignore[arg-type]  # checked by attach
            activations=serving.activations,  # type: ignore[arg-type]
            host=Host(serving.host),
            threads=count,
            trace=trace,
        ) as attachment:
            attachment.acquaint(lambda: islice(calibration(), ACQUAINTED))
            batches = tuple(_streamed(job, plain, network.model, attachment, split, told))
            told("scoring", 0, 1)
            measured = evaluator.measured(evaluator.raw(), confidence)
            layers = tuple(_layers(attachment))
            left = dict(attachment.left)
    return Run(
        path=Path(artifact),
        task=job.name,
        policy=serving.policy,
        split=split,
        threads=count,
        instruction_set=kernels.instruction_set(),
        batches=batches,
        layers=layers,
        left=left,
        fidelity=measured.fidelity,
        drops=measured.drops,
        against=None if against is None else Path(against),
        confidence=confidence,
    )


def _if_artifact(path: str | os.PathLike[str]) -> str | os.PathLike[str] | None:
    """None for a plain model: it has no descriptors, and every matrix may change."""
    with suppress(CorruptArtifactError):
        if isinstance(open_file(find_layout(path).paths()[0]), Artifact):
            return path
    return None


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""


def _outputs(job: Task, model: torch.nn.Module, told: Progress) -> Iterator[object]:
    """What the model makes of each batch of calibration data."""
    batches = job.batches("calibration")
    for number, batch in enumerate(batches):
        told("calibrating", number, len(batches))
        yield job.outputs(model, batch, where=f"batch {number} of 'calibration'")


def _calibrated(
    model: torch.nn.Module, serving: Serving, run: Callable[[], Iterator[object]]
) -> dict[str, Calibrated] | None:
    """What policies that change anything start from; the static one wants nothing."""
    from regrain.runtime import calibrate

    if serving.policy == "static":
        return None
    skip = serving.policy in ("token-skip", "auto")
    return calibrate(model, run, density=serving.density, pattern=serving.pattern, skip=skip)


def _streamed(
    job: Task,
    plain: torch.nn.Module,
    served: torch.nn.Module,
    attachment: Attachment,
    split: str,
    told: Progress,
) -> Iterator[Batch]:
    """Each batch by torch and served, whichever comes first taking turns."""
    batches = job.batches(split)
    job.outputs(plain, batches[0])  # what happens at the first call only doesn't count
    job.outputs(served, batches[0])
    for number, batch in enumerate(batches):
        told("serving", number, len(batches))
        switches = sum(layer.switches for layer in _layers(attachment))
        order = (plain, served) if number % 2 == 0 else (served, plain)
        seconds = {model: _seconds(job, model, batch) for model in order}
        yield Batch(seconds[plain], seconds[served], switches)


def _seconds(job: Task, model: torch.nn.Module, batch: Any) -> float:
    start = time.perf_counter()
    job.outputs(model, batch)
    return time.perf_counter() - start


def _layers(attachment: Attachment) -> Iterator[ServedLayer]:
    for name, engine in attachment.engines.items():
        layout, adaptation = engine.layout, engine.adaptation
        grain = None if layout.decision is None else layout.decision.granularity
        density = getattr(layout.few, "density", 1.0)
        counts = (0, 0, 0) if adaptation is None else (adaptation.switches, adaptation.refreshes, adaptation.reverts)
        grain_name = str(grain) if grain is not None else "dense" if density == 1.0 else "as stored"
        yield ServedLayer(name, grain_name, density, layout.description, layout.nbytes, *counts)


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
