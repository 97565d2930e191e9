"""`regrain simulate`: a task's network on the accelerator: its outputs, and for each layer cycles, bytes and energy."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regrain.accuracy import Drop, Fidelity, compare
from regrain.artifact.threads import resolve_threads
from regrain.core.errors import HardwareError
from regrain.hw.area import Area
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.networks.adapting import Adapting
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.models.task_file import load_task
from regrain.pipelines.configurations import Configuration, configurations
from regrain.pipelines.evaluate import load_network
from regrain.pipelines.hardware import Hardware
from regrain.pipelines.simulated_layers import SimulatedLayer, measured
from regrain.planning.evaluate import Evaluator
from regrain.planning.store import Store

Progress = Callable[[str, int, int], None]
"""What is going on, and how much of how much is done."""


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """A network on the accelerator, over some batches of a split of its task.

    `fidelity` compares its outputs on them with those of the same weights in floats, or of `against`; `drops` the
    metrics on the whole split and `configurations` the same weights run in other ways, both empty if nobody asked.
    """

    path: Path
    task: str
    policy: str
    split: str
    batches: int
    hardware: Hardware
    layers: Sequence[SimulatedLayer]
    left: Mapping[str, str]
    fidelity: Fidelity
    drops: Mapping[str, Drop] = field(default_factory=dict)
    configurations: Sequence[Configuration] = ()
    against: Path | None = None
    confidence: float = 0.95

    @property
    def cycles(self) -> int:
        """Of all layers, one after the other."""
        return sum(layer.timing.cycles for layer in self.layers)

    @property
    def dense_cycles(self) -> int:
        """What the same array takes for matrices of the same shapes without a zero."""
        return sum(layer.dense.cycles for layer in self.layers)

    @property
    def utilization(self) -> float:
        """MACs of those that the array could have done in the cycles."""
        macs = sum(layer.timing.events.macs for layer in self.layers)
        return macs / (self.hardware.machine.macs * self.cycles) if self.cycles else 0.0

    @property
    def energy(self) -> dict[str, float]:
        """pJ by part, of all layers."""
        return _added(layer.energy for layer in self.layers)

    @property
    def dense_energy(self) -> float:
        """pJ of the same array, dense."""
        return sum(sum(layer.dense_energy.values()) for layer in self.layers)

    @property
    def rows(self) -> int:
        """Rows of the task's output that were made: of images or texts one each."""
        return self.fidelity.n

    @property
    def energy_delay(self) -> float:
        """Energy x cycles of the same array, dense, over those here."""
        return self.dense_energy / sum(self.energy.values()) * self.dense_cycles / self.cycles

    @property
    def area(self) -> Area:
        """Of the machine."""
        return self.hardware.area

    @property
    def area_delay(self) -> float:
        """Area x cycles of a machine for dense matrices over those here, logic alone."""
        return self.area.dense / self.area.total * self.dense_cycles / self.cycles

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        hardware = self.hardware
        return {
            "path": str(self.path),
            "task": self.task,
            "policy": self.policy,
            "split": self.split,
            "batches": self.batches,
            "machine": {name: getattr(hardware.machine, name) for name in Machine.__slots__},
            "memory": {name: getattr(hardware.memory, name) for name in Memory.__slots__},
            "kept_bytes": hardware.kept_bytes,
            "table": {"name": hardware.table.name, "technology": hardware.table.technology},
            "cycles": self.cycles,
            "dense_cycles": self.dense_cycles,
            "utilization": self.utilization,
            "energy_pj": self.energy,
            "dense_energy_pj": self.dense_energy,
            "rows": self.rows,
            "area": {"table": hardware.areas.name, **self.area.to_json()},
            "energy_delay": self.energy_delay,
            "area_delay": self.area_delay,
            "layers": [layer.to_json() for layer in self.layers],
            "left": dict(self.left),
            "fidelity": self.fidelity.to_json(self.confidence),
            "drops": {name: drop.to_json() for name, drop in self.drops.items()},
            "configurations": [one.to_json() for one in self.configurations],
            "against": None if self.against is None else str(self.against),
            "confidence": self.confidence,
        }


def simulate(
    artifact: str | os.PathLike[str],
    *,
    task: Task | str | os.PathLike[str],
    hardware: Hardware | None = None,
    adapting: Adapting | None = None,
    against: str | os.PathLike[str] | None = None,
    split: str = "search",
    batches: int = 4,
    score: bool = False,
    others: bool = False,
    confidence: float = 0.95,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Run an artifact's or a model's network on the accelerator, on the first `batches` batches of a split of a task.

    Linear layers and convolutions are computed as the accelerator does it, in integers; all else by torch. Calibration
    data say how activations are rounded and, with a policy, what each granularity keeps. `score` runs the task's
    evaluation, too; `others` runs the weights of the end in every encoding, and prices each by every table.

    Raises TaskError, UnsupportedModelError and CorruptArtifactError for what can't be read, HardwareError for what the
    accelerator can't run, OSError.
    """
    import torch

    from regrain.hw.networks.layers import layers_of
    from regrain.hw.networks.simulated import replaced
    from regrain.pipelines.simulated_network import calibrated, prepared, settled

    told = progress or _silent
    count = resolve_threads(threads)
    torch.set_num_threads(count)
    hardware = Hardware() if hardware is None else hardware
    adapting = Adapting() if adapting is None else adapting
    job = task if isinstance(task, Task) else load_task(task)
    few = _limited(job, batches, told)
    network = load_network(Network(job.model()), against or artifact, count)
    with TemporaryDirectory(prefix="regrain-") as folder, torch.inference_mode():
        told("outputs of the original", 0, 1)
        evaluator = Evaluator(network, replace(few, evaluate=None), split, Store(Path(folder)))
        before = job.scores(network.model, split) if score else {}
        evaluator.network = network = load_network(network, artifact, count)
        layers, left = layers_of(network.model)
        known = calibrated(job, network.model, layers, told)
        simulated, unfit = prepared(layers, known, network.model, artifact, adapting, hardware.machine, hardware.memory)
        with replaced(simulated):
            settled(job, network.model, simulated, told)
            raw = evaluator.raw()
            for one in simulated:
                one.recording = False
                one.restart()
            told("scoring", 0, 1)
            after = job.scores(network.model, split) if score else {}
    found = tuple(measured(simulated, hardware, count, told))
    if not found:
        raise HardwareError(
            f"{split} data must reach a layer that the accelerator runs, and reach none in {batches} batches"
        )
    return Simulation(
        path=Path(artifact),
        task=job.name,
        policy=adapting.policy.name,
        split=split,
        batches=min(batches, len(job.batches(split))),
        hardware=hardware,
        layers=found,
        left=left | unfit | {one.layer.path: f"{split} data don't reach it" for one in simulated if not one.calls},
        fidelity=raw.fidelity,
        drops={name: compare(before[name], metric, confidence=confidence) for name, metric in after.items()},
        configurations=tuple(configurations(simulated, hardware)) if others else (),
        against=None if against is None else Path(against),
        confidence=confidence,
    )


def _limited(job: Task, batches: int, told: Progress) -> Task:
    """The task with only the first batches of a split."""
    if batches < 1:
        raise HardwareError(f"batches must be 1 or more, not {batches!r}")

    def inputs(split: str) -> Iterator[Any]:
        for number, batch in enumerate(itertools.islice(job.inputs(split), batches)):
            told("running", number, batches)
            yield batch

    return replace(job, inputs=inputs)


def _added(parts: Any) -> dict[str, float]:
    whole: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            whole[name] = whole.get(name, 0.0) + value
    return whole


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody listens."""
