"""What stands in the place of a layer while its network is simulated: the accelerator's product, in integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.program import Program
from regrain.hw.networks.fixed import Fixed
from regrain.hw.networks.layers import Layer
from regrain.hw.networks.quantize import MOST, Integers, Range
from regrain.hw.networks.schedule import PACKED, Source
from regrain.hw.networks.variants import REORGANIZED, cheapest, encode, keep
from regrain.policies import Decision, Matrix, Monitor, Observation, Policy, State, Static

if TYPE_CHECKING:
    from torch import Tensor

_EXACT = 1 << 24  # below it float32 has every integer


class Call(NamedTuple):
    """One use of a layer: its tokens, the granularity in force (None: as stored), how many numbers came in, and how
    many of them were beyond the range of int8.
    """

    tokens: int
    granularity: Granularity | None
    numbers: int
    clipped: int


@dataclass(frozen=True, eq=False)
class Variant:
    """A matrix at one granularity: the int8 weights that are kept, and what the bias gains from the others' mean."""

    weights: NDArray[np.int8]
    folded: NDArray[np.float64]
    granularity: Granularity | None
    machine: Machine
    reorganized: bool = False

    @cached_property
    def encoded(self) -> tuple[str, Program]:
        """The encoding, and the program: of what stays as it is the best, else what the reorganizer makes."""
        if self.reorganized and self.granularity is not None:
            name = REORGANIZED[self.granularity]
            return name, encode(name, self.weights, self.machine)
        return cheapest(self.weights, self.machine, self.granularity)

    @property
    def density(self) -> float:
        """The share of weights that aren't zero."""
        return np.count_nonzero(self.weights) / self.weights.size

    @property
    def source(self) -> Source:
        """Where its tiles come from."""
        if self.reorganized and self.granularity is not None:
            return Source.of(self.granularity, self.encoded[1], self.machine)
        return PACKED


@dataclass(eq=False)
class Simulated:
    """The forward of one layer. Inputs over their channels' `factors` (C,) are rounded to int8 by one `step`, and
    multiplied with the variant in force in integers, exactly; what comes out is scaled back: norms and activation
    functions see floats. `integers` are of weights times factors. After each call the policy is told of its inputs, and
    what it decides holds from the next call on.

    `matrix` has what the policy may know; `densities` what each granularity keeps.
    """

    layer: Layer
    integers: Integers
    factors: NDArray[np.float32]
    step: float
    matrix: Matrix
    policy: Policy
    machine: Machine
    densities: Mapping[Granularity, float]
    calls: list[Call] = field(default_factory=list)
    switches: int = 0
    recording: bool = True

    def __post_init__(self) -> None:
        self._variants: dict[Granularity | None, Variant] = {}
        self._operands: dict[Granularity | None, tuple[Tensor, Tensor, Tensor]] = {}
        self.restart()

    @property
    def adapts(self) -> bool:
        """Whether a policy decides while the network runs, so that tiles are made by the reorganizer."""
        return self.matrix.dynamic and not isinstance(self.policy, Static | Fixed)

    def restart(self) -> None:
        """The policy begins anew."""
        self._state: State
        self._state, decision = self.policy.start(self.matrix)
        self.granularity = self._of(decision)
        self._monitor = Monitor(self.matrix, 1)

    def variant(self, granularity: Granularity | None) -> Variant:
        """The matrix at a granularity, None: as it is stored."""
        if granularity not in self._variants:
            weights, folded = self.integers.values, np.zeros(len(self.integers.values))
            if granularity is not None:
                whole = self.integers.weights() / np.repeat(self.factors, self.matrix.span).astype(np.float64)
                spread = np.repeat(self.matrix.variance, self.matrix.span)
                mask = keep(
                    granularity, whole * whole * spread, self.densities[granularity], self.matrix.span, self.machine
                )
                weights = weights * mask
                folded = np.where(mask, 0.0, whole) @ np.repeat(self.matrix.mean, self.matrix.span)
            self._variants[granularity] = Variant(weights, folded, granularity, self.machine, self.adapts)
        return self._variants[granularity]

    def __call__(self, x: Tensor) -> Tensor:
        """Like the layer's own forward."""
        import torch

        weights, scales, bias = self._operand(self.granularity)
        examples = self.layer.examples(x.float())
        factors = torch.from_numpy(self.factors * np.float32(self.step))
        steps = torch.round(examples / (factors if examples.dim() == 2 else factors[:, None, None]))
        if self.recording:
            clipped = int((steps.abs() > MOST).sum())
            self.calls.append(Call(self.layer.tokens(examples), self.granularity, steps.numel(), clipped))
        steps = steps.clamp_(-MOST, MOST).to(weights.dtype)
        made = [piece @ weights.T for piece in self.layer.pieces(steps)]
        sums = torch.cat(made) if made else torch.zeros((0, len(weights)), dtype=weights.dtype)
        self._watch(examples)
        return self.layer.outputs((sums * scales + bias).float(), x).to(x.dtype)

    def _operand(self, granularity: Granularity | None) -> tuple[Tensor, Tensor, Tensor]:
        """Weights whose products sums of floats hold exactly; the scale of the sums and the bias in float64."""
        import torch

        if granularity not in self._operands:
            variant = self.variant(granularity)
            most = int(np.abs(variant.weights.astype(np.int64)).sum(1).max())
            kind = torch.float32 if most * MOST < _EXACT else torch.float64
            scales = torch.from_numpy(self.integers.scales.astype(np.float64) * self.step)
            bias = torch.from_numpy(variant.folded)
            own = self.layer.bias()
            if own is not None:
                bias = bias + own.double()
            self._operands[granularity] = torch.from_numpy(variant.weights).to(kind), scales, bias
        return self._operands[granularity]

    def _watch(self, examples: Tensor) -> None:
        if not self.adapts:
            return
        self._monitor.add(channels_last(examples))
        seen = self._monitor.take()
        if seen is None:
            return
        self._state, decision = self.policy.decide(self._state, self.matrix, seen)
        if decision is not None and self._of(decision) is not self.granularity:
            self.granularity = self._of(decision)
            self.switches += self.recording

    def _of(self, decision: Decision) -> Granularity | None:
        """None where nothing is to be dropped."""
        return None if isinstance(self.policy, Static) or not self.matrix.dynamic else decision.granularity


class Seen:
    """What calibration tells of a layer's inputs: their range, and mean and variance of each channel."""

    def __init__(self, layer: Layer) -> None:
        channels = layer.shape[1] // layer.span
        self.range = Range(channels)
        self.count = self.images = 0
        self._sums = np.zeros((2, channels))
        self._layer = layer

    def add(self, x: Tensor) -> None:
        """Take in the inputs of a call. Raises HardwareError for those that aren't finite."""
        examples = self._layer.examples(x.detach().float())
        rows = channels_last(examples)
        try:
            self.range.add(rows)
        except HardwareError as error:
            raise HardwareError(f"{self._layer.name}: {error}") from None
        self.count += len(rows)
        self.images += len(examples)
        self._sums += rows.sum(0, dtype=np.float64), np.square(rows, dtype=np.float64).sum(0)

    def observation(self) -> Observation:
        """All of it; of nothing, zeros."""
        mean, squares = self._sums / max(self.count, 1)
        return Observation(self.count, mean, np.maximum(squares - mean * mean, 0.0))

    @property
    def positions(self) -> int:
        """Tokens of an example: those of an image say much the same."""
        return max(1, self.count // max(1, self.images))


def channels_last(examples: Tensor) -> NDArray[np.float32]:
    """Inputs as rows (n, channels): of images one for each position."""
    rows = examples if examples.dim() == 2 else examples.flatten(2).transpose(1, 2).flatten(0, 1)
    return np.ascontiguousarray(rows.detach().numpy())


@contextmanager
def watched(layers: list[Layer]) -> Iterator[dict[str, Seen]]:
    """Layers' inputs are taken in while the network is called inside: by the names of those that are reached."""
    found: dict[str, Seen] = {}
    handles = []
    for layer in layers:

        def hook(_: Any, args: Any, named: Any, layer: Layer = layer) -> None:
            found.setdefault(layer.name, Seen(layer)).add(args[0] if args else named["input"])

        handles.append(layer.module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def replaced(simulated: list[Simulated]) -> Iterator[None]:
    """The network's layers are the simulated ones inside."""
    for one in simulated:
        one.layer.module.forward = one
    try:
        yield
    finally:
        for one in simulated:
            del one.layer.module.forward
