"""What flows into each layer: statistics of input channels over the calibration data, and the Hessian of the inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError
from regrain.profiling.gram import add_gram, mirror

if TYPE_CHECKING:
    import torch

    from regrain.models.network import Network

RUN = 64
"""Rows whose copies in double precision stay in a core's own cache."""

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
    """Sums over rows of inputs (n, C)."""

    def __init__(self, size: int, hessian: bool) -> None:
        import torch

        self.count = 0
        self.thinned = 0
        self.sum = torch.zeros(size, dtype=torch.float64)
        self.squares = torch.zeros(size, dtype=torch.float64)
        self.thinned_sum = torch.zeros(size, dtype=torch.float64)
        self.least = torch.full((size,), math.inf)
        self.most = torch.full((size,), -math.inf)
        self.gram = torch.zeros(size, size) if hessian else None

    def add(self, rows: torch.Tensor) -> None:
        import torch

        total, squares = _sums(rows)
        self.count += len(rows)
        self.sum += total
        self.squares += squares
        self.least = torch.minimum(self.least, rows.amin(0))
        self.most = torch.maximum(self.most, rows.amax(0))
        if self.gram is not None:
            thin = rows[:: -(-len(rows) // ROWS)]
            self.thinned += len(thin)
            self.thinned_sum += total if len(thin) == len(rows) else _sums(thin)[0]
            add_gram(self.gram, thin.T)

    def result(self) -> Inputs:
        """The statistics. The Gram matrix is used up."""
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0.0)
        hessian = None
        if self.gram is not None:
            gram, self.gram = self.gram, None
            mirror(gram)
            center = self.thinned_sum / self.thinned
            hessian = (gram.double() / self.thinned - center.outer(center)).float().numpy()
        return Inputs(
            self.count, mean.float().numpy(), variance.float().numpy(), self.least.numpy(), self.most.numpy(), hessian
        )


def _sums(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of rows (n, C) and of their squares, (C,) each, in double precision."""
    import torch

    total, squares = (torch.zeros(rows.shape[1], dtype=torch.float64) for _ in range(2))
    for run in rows.split(RUN):  # type: ignore[no-untyped-call]
        double = run.double()
        total += double.sum(0)
        squares += double.square_().sum(0)
    return total, squares


class _Watch:
    """Sums of the inputs of weights by name. Linear layers that are given the very same tensor one after the other, as
    those of queries, keys and values, `share` the sums of the first of them.
    """

    def __init__(self, share: bool) -> None:
        self._share = share
        self._first: dict[str, str] = {}
        self._calls: Counter[str] = Counter()
        self._last: tuple[torch.Tensor, int, str] | None = None  # holds the tensor: its memory can't become another's
        self._regular = True
        self.found: dict[str, _Gathering] = {}

    def add(self, name: str, module: torch.nn.Module, x: torch.Tensor, hessian: bool) -> None:
        first = self._like(x, module) or name
        self._regular &= self._first.setdefault(name, first) == first
        self._calls[name] += 1
        if first != name:
            return
        rows = input_rows(module, x.detach())
        self._last = (x, x._version, name) if _is_linear(module) and not x.is_inference() else None  # noqa: SLF001
        if len(rows):
            if name not in self.found:
                self.found[name] = _Gathering(rows.shape[1], hessian)
            self.found[name].add(rows.float())

    def _like(self, x: torch.Tensor, module: torch.nn.Module) -> str | None:
        """The weight whose sums have this input already."""
        if not self._share or self._last is None or not _is_linear(module):
            return None
        tensor, version, name = self._last
        return name if tensor is x and version == x._version else None  # noqa: SLF001 - counts changes

    @property
    def regular(self) -> bool:
        """Whether weights that shared an input once did so every time."""
        return self._regular and all(self._calls[name] == self._calls[first] for name, first in self._first.items())

    def result(self) -> dict[str, Inputs]:
        """Those of weights that share are the same object."""
        for name, gathering in self.found.items():
            if not np.isfinite(float(gathering.squares.sum())):
                raise TaskError(f"inputs of {name!r} must be finite, and have NaN or infinity in them")
        results = {name: gathering.result() for name, gathering in self.found.items()}
        return {name: results[first] for name, first in self._first.items() if first in results}


def _is_linear(module: torch.nn.Module) -> bool:
    import torch.nn as nn

    return isinstance(module, nn.Linear)


def gather_inputs(
    network: Network, run: Callable[[], Iterable[object]], names: Iterable[str], *, most: int = 4096
) -> dict[str, Inputs]:
    """Statistics of the inputs of those weights (of linear and convolutional layers) while `run` runs the model.

    Weights with more than `most` inputs get no Hessian. Layers that `run` never reaches are left out, and so are
    grouped convolutions, whose filters see different inputs. Weights whose inputs are the same have the same object.
    Where a model gives two layers the same tensor in some calls and different ones in others, `run` is called twice.
    Raises TaskError for inputs that aren't finite.
    """
    names = list(names)
    watch = _watch(network, run, names, most, share=True)
    if not watch.regular:
        watch = _watch(network, run, names, most, share=False)
    return watch.result()


def _watch(
    network: Network, run: Callable[[], Iterable[object]], names: Iterable[str], most: int, *, share: bool
) -> _Watch:
    watch = _Watch(share)
    with _hooked(network, names, watch, most):
        for _ in run():
            pass
    return watch


@contextmanager
def _hooked(network: Network, names: Iterable[str], watch: _Watch, most: int) -> Iterator[None]:
    modules = dict(network.model.named_modules())
    handles = []
    for name in names:
        place = network.places[name]
        module = modules[place.module]
        if place.kind not in ("linear", "conv") or getattr(module, "groups", 1) != 1:
            continue
        hessian = math.prod(place.shape[1:]) <= most

        def hook(module: Any, inputs: Any, named: Any, name: str = name, hessian: bool = hessian) -> None:
            watch.add(name, module, inputs[0] if inputs else named["input"], hessian)

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_rows(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
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
