"""What stands in the place of a layer while its network is simulated: the accelerator's product, in integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.observe import QUARTERS
from regrain.hw.networks.control import MatrixControl, OwnControl, Samples, bounds, descriptor, thirds
from regrain.hw.networks.fixed import Fixed
from regrain.hw.networks.layers import Layer
from regrain.hw.networks.quantize import MOST, Integers, Range
from regrain.hw.networks.schedule import cut
from regrain.hw.networks.variants import Variant, keep
from regrain.policies import Decision, Matrix, Monitor, Observation, Policy, Ranked, State, Static

if TYPE_CHECKING:
    from torch import Tensor

_EXACT = 1 << 24  # below it float32 has every integer


class Call(NamedTuple):
    """One use of a layer: its tokens, the granularity in force (None: as stored), how many numbers came in, and how
    many of them were beyond the range of int8; `tags` counts how often other weights of the same matrix were chosen;
    `metric` is what the machine's monitor told its control.
    """

    tokens: int
    granularity: Granularity | None
    numbers: int
    clipped: int
    tags: int = 0
    metric: int | None = None


@dataclass(eq=False)
class Simulated:
    """The forward of one layer. Inputs over their channels' `factors` (C,) are rounded to int8 by one `step`, and
    multiplied with the variant in force in integers, exactly; what comes out is scaled back: norms and activation
    functions see floats. `integers` are of weights times factors. A policy of the run time is told of a call's inputs
    after it, and what it decides holds from the next call on; the machine's own control decides before.

    `matrix` has what the policy may know; `densities` what each granularity keeps; `samples` what the machine's monitor
    would see of calibration data. A matrix whose calls are too short for it is run as it is stored.
    """

    layer: Layer
    integers: Integers
    factors: NDArray[np.float32]
    step: float
    matrix: Matrix
    policy: Policy | OwnControl
    machine: Machine
    densities: Mapping[Granularity, float]
    samples: Samples = field(default_factory=Samples)
    memory: Memory = field(default_factory=Memory)
    calls: list[Call] = field(default_factory=list)
    switches: int = 0
    recording: bool = True

    def __post_init__(self) -> None:
        self._variants: dict[tuple[Granularity | None, int], Variant] = {}
        self._chosen = [Observation(self.matrix.calibrated, self.matrix.mean, self.matrix.variance)]
        self.control: MatrixControl | None = None
        if isinstance(self.policy, OwnControl) and self.adapts:
            self.control = self._controlled(self.policy)
        self.restart()

    @property
    def adapts(self) -> bool:
        """Whether it is decided while the network runs, so that tiles are made by the reorganizer."""
        if isinstance(self.policy, OwnControl) and not self.samples.variances:
            return False
        return self.matrix.dynamic and not isinstance(self.policy, Static | Fixed)

    def restart(self) -> None:
        """Who decides begins anew."""
        self._operands: dict[tuple[Granularity | None, int], tuple[Tensor, Tensor]] = {}
        self._tags = 0
        self._mean = self.matrix.mean
        self._monitor = Monitor(self.matrix, 1)
        if isinstance(self.policy, OwnControl):
            self.granularity = None
            if self.control is not None:
                self.control.restart()
                self.granularity = self.control.descriptor.granularity
            return
        self._state: State
        self._state, decision = self.policy.start(self.matrix)
        self.granularity = self._of(decision)

    def variant(self, granularity: Granularity | None, tags: int = 0) -> Variant:
        """The matrix at a granularity, None: as it is stored; with the weights chosen after so many others."""
        key = granularity, tags
        if key not in self._variants:
            weights, mask = self.integers.values, None
            if granularity is not None:
                scores = self._whole() ** 2 * np.repeat(self._chosen[tags].variance, self.matrix.span)
                mask = keep(granularity, scores, self.densities[granularity], self.matrix.span, self.machine)
                weights = weights * mask
            self._variants[key] = Variant(weights, mask, granularity, self.machine, self.adapts)
        return self._variants[key]

    def __call__(self, x: Tensor) -> Tensor:
        """Like the layer's own forward."""
        import torch

        examples = self.layer.examples(x.float())
        factors = torch.from_numpy(self.factors * np.float32(self.step))
        steps = torch.round(examples / (factors if examples.dim() == 2 else factors[:, None, None]))
        clipped, tokens = int((steps.abs() > MOST).sum()), self.layer.tokens(examples)
        steps = steps.clamp_(-MOST, MOST)
        metric = self._controls(self.control, steps, tokens) if self.control is not None and tokens else None
        weights, scales, bias = self._operand()
        if self.recording and tokens:  # of nothing, the machine does nothing
            self.calls.append(Call(tokens, self.granularity, steps.numel(), clipped, self._tags, metric))
        made = [piece @ weights.T for piece in self.layer.pieces(steps.to(weights.dtype))]
        sums = torch.cat(made) if made else torch.zeros((0, len(weights)), dtype=weights.dtype)
        self._watch(examples)
        return self.layer.outputs((sums * scales + bias).float(), x).to(x.dtype)

    def _operand(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights whose products sums of floats hold exactly; the scale of the sums and the bias in float64."""
        import torch

        key = self.granularity, self._tags
        if key not in self._operands:
            variant = self.variant(*key)
            most = int(np.abs(variant.weights.astype(np.int64)).sum(1).max())
            kind = torch.float32 if most * MOST < _EXACT else torch.float64
            self._operands[key] = torch.from_numpy(variant.weights).to(kind), torch.from_numpy(self._bias())
        weights, bias = self._operands[key]
        return weights, torch.from_numpy(self.integers.scales.astype(np.float64) * self.step), bias

    def _bias(self) -> NDArray[np.float64]:
        """With what the mean of dropped inputs adds. The machine has one table of channels for a matrix, which stays
        the same where its own control changes the granularity: there it is the mean over the three.
        """
        own = self.layer.bias()
        bias = np.zeros(self.layer.shape[0]) if own is None else own.double().numpy()
        if self.granularity is None:
            return bias
        kept = [self.variant(self.granularity, self._tags)]
        if self.control is not None:
            kept = [self.variant(one) for one in Granularity]
        dropped = np.mean([variant.weights == 0 for variant in kept], axis=0)
        folded: NDArray[np.float64] = bias + (self._whole() * dropped) @ np.repeat(self._mean, self.matrix.span)
        return folded

    def _whole(self) -> NDArray[np.float64]:
        """The weights that the layer's inputs meet, (outputs, inputs)."""
        return self.integers.weights() / np.repeat(self.factors, self.matrix.span).astype(np.float64)

    def _controlled(self, own: OwnControl) -> MatrixControl:
        """The machine's control, set by what calibration data show of the original network."""
        steps = self.factors.astype(np.float64) * self.step
        limits = bounds(own, self.samples, self.matrix.variance, steps)
        return self._set(own, limits, self.samples.metrics(steps))

    def settle(self) -> None:
        """Thresholds that nobody gave are set by what was seen since `control.watch`."""
        own, control = self.policy, self.control
        if isinstance(own, OwnControl) and control is not None and control.watching and own.thresholds is None:
            metrics = np.array(control.watching) / QUARTERS
            self.control = self._set(own, thirds(metrics), metrics)
        self.restart()

    def _set(self, own: OwnControl, limits: tuple[float, float], metrics: NDArray[np.float64]) -> MatrixControl:
        words = {one: self.variant(one).encoded[1].words for one in Granularity}
        found = descriptor(own, self.layer.shape, limits, metrics.tolist(), words, self.machine)
        return MatrixControl(found, self.samples, len(self.factors), self.machine)

    def _controls(self, control: MatrixControl, steps: Tensor, tokens: int) -> int | None:
        """Before a call: its inputs are watched as bytes, in the order in which they are written."""
        before = self.variant(self.granularity)
        parts = cut(before.encoded[1], tokens, self.machine, self.memory, before.source)
        positions = max(1, steps[:1, :1].numel())
        first = channels_last(steps[: -(-self.samples.count // positions)])
        found, metric = control.run(first[: self.samples.count].astype(np.int8), parts[0][0] if parts else tokens)
        self.switches += self.recording and found is not self.granularity
        self.granularity = found
        return metric

    def _watch(self, examples: Tensor) -> None:
        if isinstance(self.policy, OwnControl) or not self.adapts:
            return
        self._monitor.add(channels_last(examples))
        seen = self._monitor.take()
        if seen is None:
            return
        before = self._state.current
        self._state, decision = self.policy.decide(self._state, self.matrix, seen)
        if decision is None:
            return
        found = self._of(decision)
        if self._chooses and found is not None:
            self._mean = decision.mean
            if decision.same_weights(before):
                del self._operands[self.granularity, self._tags]
                return
            self._chosen.append(Observation(seen.count, decision.mean, decision.variance))
            self._tags = len(self._chosen) - 1
        elif found is self.granularity:
            return
        self.granularity = found
        self.switches += self.recording

    @property
    def _chooses(self) -> bool:
        """Whether the policy says which weights are kept, too: tags of the master copy are written anew."""
        return isinstance(getattr(self.policy, "rule", None), Ranked)

    def _of(self, decision: Decision) -> Granularity | None:
        """None where nothing is to be dropped."""
        return None if isinstance(self.policy, Static) or not self.matrix.dynamic else decision.granularity


class Seen:
    """What calibration tells of a layer's inputs: their range, and mean and variance of each channel; `samples` of each
    call.
    """

    def __init__(self, layer: Layer) -> None:
        channels = layer.shape[1] // layer.span
        self.range, self.samples = Range(channels), Samples()
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
        self.samples.add(rows)
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
