"""What flows into each layer: statistics of input channels over the calibration data, and the Hessian of the inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError

if TYPE_CHECKING:
    import torch

    from regrain.models.network import Network

ROWS = 4096
"""The most input positions of a batch that go into a Hessian; more are thinned out evenly."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a layer's weight matrix (R, C) is multiplied with: C inputs, `count` positions of them.

    `mean` (C,), `variance` (C,), `least` and `most` (C,) are over all positions; for a convolution the C inputs are
    input channels x kernel positions, as the weight has them. `hessian` (C, C) is E[(x - mean) (x - mean)^T] over at
    most ROWS positions of each batch; None where it wasn't asked for.
    """

    count: int
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    least: NDArray[np.float32]
    most: NDArray[np.float32]
    hessian: NDArray[np.float32] | None


class _Gathering:
    def __init__(self, hessian: bool) -> None:
        self.count = 0
        self.thinned = 0
        self.wants_hessian = hessian
        self.sum: Any = 0.0
        self.squares: Any = 0.0
        self.least: Any = None
        self.most: Any = None
        self.gram: Any = 0.0
        self.thinned_sum: Any = 0.0

    def add(self, rows: torch.Tensor) -> None:
        import torch

        self.count += len(rows)
        double = rows.double()
        self.sum += double.sum(0)
        self.squares += double.square().sum(0)
        least, most = rows.amin(0), rows.amax(0)
        self.least = least if self.least is None else torch.minimum(self.least, least)
        self.most = most if self.most is None else torch.maximum(self.most, most)
        if self.wants_hessian:
            thin = rows[:: -(-len(rows) // ROWS)]
            self.thinned += len(thin)
            self.gram += thin.T @ thin
            self.thinned_sum += thin.double().sum(0)

    def result(self) -> Inputs:
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0.0)
        hessian = None
        if self.wants_hessian:
            center = self.thinned_sum / self.thinned
            hessian = (self.gram.double() / self.thinned - center.outer(center)).float().numpy()
        return Inputs(
            self.count,
            mean.float().numpy(),
            variance.float().numpy(),
            self.least.float().numpy(),
            self.most.float().numpy(),
            hessian,
        )


def gather_inputs(
    network: Network, run: Callable[[], Iterable[object]], names: Iterable[str], *, most: int = 4096
) -> dict[str, Inputs]:
    """Statistics of the inputs of those weights (of linear and convolutional layers) while `run` runs the model.

    Weights with more than `most` inputs get no Hessian. Layers that `run` never reaches are left out, and so are
    grouped convolutions, whose filters see different inputs. Raises TaskError for inputs that aren't finite.
    """
    found: dict[str, _Gathering] = {}
    with _hooked(network, names, found, most):
        for _ in run():
            pass
    for name, gathering in found.items():
        if not np.isfinite(float(gathering.squares.sum())):
            raise TaskError(f"inputs of {name!r} must be finite, and have NaN or infinity in them")
    return {name: gathering.result() for name, gathering in found.items()}


@contextmanager
def _hooked(network: Network, names: Iterable[str], found: dict[str, _Gathering], most: int) -> Iterator[None]:
    modules = dict(network.model.named_modules())
    handles = []
    for name in names:
        place = network.places[name]
        module = modules[place.module]
        if place.kind not in ("linear", "conv") or getattr(module, "groups", 1) != 1:
            continue
        size = int(np.prod(place.shape[1:]))

        def hook(module: Any, inputs: Any, named: Any, name: str = name, size: int = size) -> None:
            rows = _rows(module, (inputs[0] if inputs else named["input"]).detach())
            if len(rows):
                found.setdefault(name, _Gathering(size <= most)).add(rows.float())

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The inputs of the weight matrix, one row a position: patches of a convolution, as its weight flattens them."""
    import torch.nn as nn
    from torch.nn.functional import pad, unfold

    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    axes = len(module.kernel_size)
    x = x if x.dim() == axes + 2 else x[None]  # one example without an axis for examples
    if axes == 3 or not isinstance(module.padding, tuple):
        # An approximation: the channels alone, once for each kernel position.
        channels = x.movedim(1, -1).reshape(-1, x.shape[1])
        return channels.repeat_interleave(math.prod(module.kernel_size), dim=1)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = pad(x, [side for size in reversed(module.padding) for side in (size, size)], mode=mode)
    kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
    if isinstance(module, nn.Conv1d):
        x, kernel, dilation, stride = x[:, :, None], (1, *kernel), (1, *dilation), (1, *stride)
    patches = unfold(x, kernel, dilation=dilation, stride=stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])
