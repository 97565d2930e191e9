"""A network's layers before they are simulated: calibration, integers, and what each may become."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from regrain.artifact.compressed import Artifact
from regrain.artifact.handle import open_all
from regrain.artifact.layout import find_layout
from regrain.artifact.reader import WeightFile
from regrain.artifact.reader import open as open_file
from regrain.core.errors import CorruptArtifactError, HardwareError
from regrain.hw.machine import ACTIVATION_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.networks.adapting import Adapting
from regrain.hw.networks.control import OwnControl, check_lanes
from regrain.hw.networks.layers import Layer
from regrain.hw.networks.quantize import Integers
from regrain.hw.networks.simulated import Seen, Simulated, watched
from regrain.hw.networks.stored import stored
from regrain.models.task import Task
from regrain.models.trace import is_tensor, ties
from regrain.policies import Matrix

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]
"""What is going on, and how much of how much is done."""

AT_ONCE = Memory()
"""Without a limit."""


def calibrated(job: Task, model: torch.nn.Module, layers: list[Layer], told: Progress) -> dict[str, Seen]:
    """What calibration data tell of each layer's inputs, by the names of those that they reach. Raises TaskError."""
    batches = job.batches("calibration")
    with watched(layers) as found:
        for number, batch in enumerate(batches):
            told("calibrating", number, len(batches))
            job.outputs(model, batch, where=f"batch {number} of 'calibration'")
    return found


def settled(job: Task, model: torch.nn.Module, simulated: Sequence[Simulated], told: Progress) -> None:
    """Thresholds of the machine's own control, found on calibration data in the network as it begins to run."""
    controls = [one.control for one in simulated if one.control is not None]
    if (
        not any(isinstance(one.policy, OwnControl) and one.policy.thresholds is None for one in simulated)
        or not controls
    ):
        return
    for control in controls:
        control.watch()
    for one in simulated:
        one.recording = False
    batches = job.batches("calibration")
    for number, batch in enumerate(batches):
        told("finding thresholds", number, len(batches))
        job.outputs(model, batch, where=f"batch {number} of 'calibration'")
    for one in simulated:
        one.recording = True
        one.settle()


def prepared(
    layers: list[Layer],
    known: Mapping[str, Seen],
    model: torch.nn.Module,
    path: str | os.PathLike[str],
    adapting: Adapting,
    machine: Machine,
    memory: Memory = AT_ONCE,
) -> tuple[list[Simulated], dict[str, str]]:
    """What stands in for each layer; and why some are left as they are, by path. Raises HardwareError if all are,
    CorruptArtifactError.
    """
    if isinstance(adapting.policy, OwnControl):
        check_lanes(machine)
    files = _if_artifact(path)
    tied = ties({name: value for name, value in model.state_dict(keep_vars=True).items() if is_tensor(value)})
    found: list[Simulated] = []
    left: dict[str, str] = {}
    for layer in layers:
        if layer.name not in known:
            left[layer.path] = "calibration data don't reach it"
            continue
        try:
            own = stored(files, layer, tied, machine)
            may_change = _may_change(files, layer, tied)
            one = _stand_in(layer, own, known[layer.name], adapting, machine, memory, dynamic=may_change)
            one.variant(None).encoded  # noqa: B018 - raises if the matrix doesn't fit
            _check_buffer(layer.shape[1], machine, memory)
        except HardwareError as error:
            left[layer.path] = str(error)
            continue
        found.append(one)
    if not found:
        raise HardwareError(
            "the model must have a linear layer or a convolution that the accelerator can run, and has none"
            + "".join(f"; {path or 'the model'}: {why}" for path, why in list(left.items())[:1])
        )
    return found, left


def _check_buffer(columns: int, machine: Machine, memory: Memory) -> None:
    """Raise HardwareError if the inputs of two passes don't fit: one is multiplied with while the other arrives."""
    needed = 2 * machine.rows * -(-columns // machine.block) * machine.block * ACTIVATION_BITS
    if needed > memory.buffer_bits:
        raise HardwareError(
            f"the activation buffer must have {needed // 8:,} bytes for the inputs of two passes, not "
            f"{memory.buffer_bits // 8:,}"
        )


def _stand_in(
    layer: Layer,
    own: Integers | None,
    seen: Seen,
    adapting: Adapting,
    machine: Machine,
    memory: Memory,
    *,
    dynamic: bool,
) -> Simulated:
    """With its own integers, if it has some; else its weights are rounded."""
    inputs, factors = seen.observation(), np.ones(seen.range.most.size, np.float32)
    if own is None:
        weights = layer.matrix()
        factors = seen.range.factors(weights.reshape(len(weights), -1, layer.span))
        own = Integers.of(weights * np.repeat(factors, layer.span), machine)
    matrix = Matrix.of(
        layer.name,
        own.weights().reshape(len(own.values), -1, layer.span) / factors[:, None],
        inputs.mean,
        inputs.variance,
        density=max(adapting.densities.values()),
        dynamic=dynamic,
        calibrated=inputs.count,
        positions=seen.positions,
    )
    return Simulated(
        layer,
        own,
        factors,
        seen.range.step(factors),
        matrix,
        adapting.policy,
        machine,
        adapting.densities,
        seen.samples,
        memory,
    )


def _may_change(files: Sequence[WeightFile], layer: Layer, tied: Mapping[str, str]) -> bool:
    """The descriptor's flag; a plain model has none, and every matrix may change."""
    for name in (layer.name, tied.get(layer.name)):
        for file in files:
            if name is not None and name in file.tensors:
                return file.descriptor(name).dynamic
    return True


def _if_artifact(path: str | os.PathLike[str]) -> Sequence[WeightFile]:
    """The files of an artifact; none for a plain model, which has no descriptors."""
    with suppress(CorruptArtifactError):
        if isinstance(open_file(find_layout(path).paths()[0]), Artifact):
            return open_all(path)
    return ()
