"""What flows into the layers while they train: running means over one batch in so many, of a few of its positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regrain.core.activity import Activity
from regrain.core.pattern import Score
from regrain.profiling.entropy import entropy
from regrain.profiling.indices import IndexHistogram
from regrain.training.log import InputState
from regrain.training.weights import Weight

MEMORY = 0.9
"""Share of a running mean that stays when a batch is added, as in `regrain.training.energy`."""

POSITIONS = 512
"""Positions of a batch that are looked at, at most."""

STEPS = 127
"""Of the indices whose entropy is noted: int8, with one scale for all of a batch."""

_COUNTED = 1 << 40  # what shares are counts of where entropy wants these

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Flow(NamedTuple):
    """Of C input channels, float64 on the CPU: `channels` (4, C) are E[x], E[x^2], least and most; `zeros` () is the
    share of zeros, `octaves` () the dynamic range, `histogram` (2 STEPS + 1,) the shares of the indices.
    """

    channels: Tensor
    zeros: Tensor
    octaves: Tensor
    histogram: Tensor


class Activations:
    """Statistics of the inputs of linear layers and convolutions, by the names of their weights.

    They are looked at in forward passes that gradients are wanted of, while `on`; a compiled model's are not. Each
    statistic of a batch enters a running mean, least and most too, so that what counts is what flows now. Convolutions'
    are by input channel, whatever the kernel.
    """

    def __init__(self, weights: Iterable[Weight]) -> None:
        self.on = True
        self._paused = False
        self._flows: dict[str, Flow] = {}
        self._positions: dict[str, int] = {}
        self._hooks = [
            module.register_forward_pre_hook(self._hook(weight.name), with_kwargs=True)
            for weight in weights
            for module, leaf in weight.owners
            if leaf == "weight" and isinstance(module, (nn.Linear, *_CONVOLUTIONS))
        ]

    def activity(self, name: str, sensitivity: float = 0.0) -> Activity | None:
        """By input channel, of as many positions as were looked at so far; None where nothing has flowed."""
        if name not in self._flows:
            return None
        mean, squares, least, most = self._flows[name].channels
        variance = (squares - mean.square()).clamp_min(0.0)
        positions = self._positions[name]
        return Activity(sensitivity, positions, _numbers(mean), _numbers(variance), _numbers(least), _numbers(most))

    def state_of(self, name: str) -> InputState | None:
        """The line of the log."""
        found = self.activity(name)
        if found is None:
            return None
        flow, spread = self._flows[name], sorted(found.variance)
        return InputState(
            found.positions,
            len(found.mean),
            sum(found.mean) / len(found.mean),
            sum(spread) / len(spread),
            (spread[0], spread[len(spread) // 2], spread[-1]),
            min(found.least),
            max(found.most),
            float(flow.zeros),
            float(flow.octaves),
            entropy((flow.histogram * _COUNTED).round().long().numpy()),
        )

    def factor(self, weight: Weight, score: Score) -> Tensor | None:
        """What squares of a weight (R, C) are multiplied with by scores that know inputs: E[x^2] (Wanda) or var(x), on
        the weight's device; None where nothing has flowed.
        """
        if weight.name not in self._flows:
            return None
        mean, squares, _, _ = self._flows[weight.name].channels
        energy = squares if score is Score.WANDA else (squares - mean.square()).clamp_min(0.0)
        groups, shape = int(getattr(weight.module, "groups", 1)), weight.tensor.shape
        one = energy.to(weight.tensor.device, torch.float32).reshape(groups, 1, shape[1], 1)
        spread: Tensor = one.expand(-1, shape[0] // groups, -1, math.prod(shape[2:]))
        return spread.reshape(shape[0], -1)

    def add(self, name: str, rows: Tensor) -> None:
        """Positions of a batch (n, C); left out unless finite: mixed precision has some."""
        values = rows.detach().to("cpu", torch.float64)
        sizes = values.abs()
        most = float(sizes.max()) if sizes.numel() else math.inf
        if not math.isfinite(most):
            return
        counted = IndexHistogram(STEPS)
        counted.add((values / (most or 1.0)).numpy(), None)
        smallest = float(torch.where(sizes > 0, sizes, math.inf).min())
        new = Flow(
            torch.stack((values.mean(0), values.square().mean(0), values.amin(0), values.amax(0))),
            (sizes == 0).double().mean(),
            torch.tensor(math.log2(most / smallest) if most else 0.0, dtype=torch.float64),
            torch.from_numpy(counted.counts / counted.counts.sum()),
        )
        kept = self._flows.get(name)
        self._flows[name] = new if kept is None else Flow(*map(_merged, new, kept))
        self._positions[name] = self._positions.get(name, 0) + len(values)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, nothing is looked at: what flows is an evaluation's."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def remove(self) -> None:
        """Take the hooks off; what was seen stays."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state(self) -> dict[str, Tensor]:
        """Tensors to go on with."""
        found = {f"{name}/{key}": part for name, flow in self._flows.items() for key, part in flow._asdict().items()}
        return found | {f"{name}/positions": torch.tensor(count) for name, count in self._positions.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`."""
        names = [key.removesuffix("/positions") for key in state if key.endswith("/positions")]
        self._flows = {name: Flow(*(state[f"{name}/{key}"].clone() for key in Flow._fields)) for name in names}
        self._positions = {name: int(state[f"{name}/positions"]) for name in names}

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if torch.compiler.is_compiling() or not self.on or self._paused or not torch.is_grad_enabled():
                return
            self.add(name, positions_of(module, inputs[0] if inputs else named["input"]))

        return look


def positions_of(module: nn.Module, x: Tensor) -> Tensor:
    """At most POSITIONS of a linear layer's or a convolution's input, (n, C), evenly spread."""
    x = x.detach()
    if isinstance(module, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        return rows[:: _stride(len(rows), x.shape[-2] if x.dim() > 1 else 1)]
    assert isinstance(module, _CONVOLUTIONS)
    places = (x if x.dim() == len(module.kernel_size) + 2 else x[None]).flatten(2)  # (examples, C, places)
    count = len(places) * places.shape[2]
    chosen = torch.arange(0, count, _stride(count, x.shape[-1]), device=x.device)
    return places[chosen // places.shape[2], :, chosen % places.shape[2]]


def _stride(count: int, width: int) -> int:
    """From one position to the next: with no factor in common with a row's width, or one column would stand for all."""
    stride = max(1, -(-count // POSITIONS))
    while math.gcd(stride, width) > 1:
        stride += 1
    return stride


def _numbers(channels: Tensor) -> tuple[float, ...]:
    return tuple(channels.tolist())


def _merged(new: Tensor, kept: Tensor) -> Tensor:
    return torch.lerp(new, kept, MEMORY)
