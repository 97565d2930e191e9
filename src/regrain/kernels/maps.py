"""Networks of convolutions from end to end on maps of eight bits, without floats in between.

A map is rounded to 256 steps between a least and a greatest number that are known before, a matrix to 255 for each of
its rows. Sums are exact, so the result is the same to the last bit on every instruction set, with any number of threads
and beside any other images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regrain import _native
from regrain.kernels.convolution import Maps, Pair, Window
from regrain.kernels.integers import COLUMNS, LIMIT, ROWS
from regrain.kernels.product import Floats

MOST = 255
"""The greatest number of a map."""

LISTED = 0.7
"""The part of its blocks that a matrix has at most to be served by lists of them: without lists, two panels share what
is read of a map, and a block takes so much of the time."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What a map's numbers q from 0 to 255 stand for: scale (q - zero)."""

    scale: float
    zero: int

    @classmethod
    def spanning(cls, low: float, high: float) -> Self:
        """From `low` to `high` and 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / MOST, float(np.finfo(np.float32).tiny)))
        return cls(float(scale), round(-low / float(scale)))


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A step from one map to the next: `source` counts maps, 0 is the input. `weights` (R, C, height, width), `bias`
    (R,); `added` is a map whose numbers are added to what it makes; `rectified`: what is below 0 becomes 0. Blocks of
    16 rows by 4 channels at one place of the window whose weights are all 0 cost nothing, if many are.
    """

    source: int
    window: Window
    weights: Floats
    bias: Floats
    grid: Grid
    added: int | None = None
    rectified: bool = False


class Packed(NamedTuple):
    """A step as it is computed: `values` are indices (blocks, 16, 4), `starts` (panels + 1,) and `groups` (blocks,) say
    where they belong, None if every panel has all groups. The numbers of a row are its sum times `factors` plus `bias`,
    plus `weight` times what is added, and at least `low`.
    """

    starts: NDArray[np.uint32] | None
    groups: NDArray[np.uint32] | None
    values: NDArray[np.int8]
    factors: Floats
    bias: Floats
    weight: float
    low: float


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Convolutions of images (channels, height, width), as `native` holds them. With `means` it gives the mean of each
    channel of the last map instead of the map. Each square of `folded` x `folded` positions of an image becomes as many
    channels first.
    """

    native: _native.MapNetwork
    shapes: tuple[tuple[int, int, int], ...]
    grids: tuple[Grid, ...]
    steps: tuple[Convolution, ...]
    packed: tuple[Packed, ...]
    folded: int
    means: bool

    @classmethod
    def pack(
        cls,
        shape: tuple[int, int, int],
        grid: Grid,
        steps: Sequence[Convolution],
        *,
        folded: int = 1,
        means: bool = False,
    ) -> Self:
        """Of images of that shape, channels, height and width. Raises ValueError for what doesn't fit together."""
        channels, height, width = shape
        if height % folded or width % folded:
            raise ValueError(f"height and width must be multiples of {folded}, not {(height, width)}")
        shapes = [(channels * folded**2, height // folded, width // folded)]
        for step in steps:
            if step.weights.shape[1:] != (shapes[step.source][0], *step.window.kernel):
                raise ValueError(f"weights must be (rows, channels, window), not {step.weights.shape}")
            shapes.append((len(step.weights), *step.window.outputs(shapes[step.source][1:])))
        grids = (grid, *(step.grid for step in steps))
        native = _native.MapNetwork(folded, means)
        for index, ((count, *size), own) in enumerate(zip(shapes, grids, strict=True)):
            native.add_map(count, tuple(size), _margin(steps, index), own.scale, own.zero)
        packed = tuple(_packed(step, grids) for step in steps)
        for output, (step, parts) in enumerate(zip(steps, packed, strict=True), 1):
            window = step.window
            native.convolve(
                step.source, output, step.added, window.kernel, window.stride, window.padding, window.dilation, *parts
            )  # fmt: skip
        return cls(native, tuple(shapes), grids, tuple(steps), packed, folded, means)

    @property
    def inputs(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.shapes[0]
        return channels // self.folded**2, height * self.folded, width * self.folded

    @property
    def outputs(self) -> tuple[int, ...]:
        """The shape of what an image gives."""
        return self.shapes[-1][:1] if self.means else self.shapes[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return sum(parts.values.nbytes for parts in self.packed)

    def run(self, x: Maps, out: Floats, threads: int = 1) -> bool:
        """From x (images, channels, height, width) to out (images, *outputs), both float32 in C order. It lets go of
        the interpreter. False if a number of x is not finite: `out` means nothing then. Raises ValueError for other
        shapes.
        """
        for name, array, shape in (("x", x, self.inputs), ("out", out, self.outputs)):
            wanted = (len(x), *shape)
            if array.dtype != np.float32 or array.shape != wanted or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be float32 of {wanted} in C order, not {array.dtype} of {array.shape}")
        return self.run_at(x.ctypes.data, len(x), out.ctypes.data, threads)

    def run_at(self, x: int, images: int, out: int, threads: int = 1) -> bool:
        """The same for memory that the caller vouches for: addresses of contiguous images and of what they give."""
        return self.native.run_at(x, images, out, threads)


def _margin(steps: Sequence[Convolution], index: int) -> Pair:
    paddings = [step.window.padding for step in steps if step.source == index] or [(0, 0)]
    return max(down for down, _ in paddings), max(across for _, across in paddings)


def _packed(step: Convolution, grids: Sequence[Grid]) -> Packed:
    rows, channels = step.weights.shape[:2]
    flat = step.weights.reshape(rows, -1)
    steps = np.abs(flat).max(axis=1) / np.float32(LIMIT)
    indices = np.rint(step.weights / np.where(steps > 0, steps, np.float32(1.0))[:, None, None, None]).astype(np.int8)
    panels, groups = -(-rows // ROWS), -(-channels // COLUMNS)
    whole = np.zeros((panels * ROWS, *step.window.kernel, groups * COLUMNS), np.int8)
    whole[:rows, ..., :channels] = indices.transpose(0, 2, 3, 1)
    blocks = np.ascontiguousarray(whole.reshape(panels, ROWS, -1, COLUMNS).transpose(0, 2, 1, 3))
    kept = blocks.any(axis=(2, 3))
    starts = numbers = None
    if kept.mean() <= LISTED:
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.uint32)
        numbers = np.nonzero(kept)[1].astype(np.uint32)
        blocks = blocks[kept]
    source, made = grids[step.source], step.grid
    weight = 0.0 if step.added is None else grids[step.added].scale / made.scale
    shift = made.zero - (0.0 if step.added is None else weight * grids[step.added].zero)
    factors = source.scale / made.scale * steps.astype(np.float64)
    sums = indices.reshape(rows, -1).sum(axis=1, dtype=np.int64)
    bias = step.bias / made.scale + shift - factors * source.zero * sums
    low = float(made.zero if step.rectified else 0)
    return Packed(
        starts, numbers, blocks.reshape(-1, ROWS, COLUMNS), _spread(factors, panels), _spread(bias, panels), weight, low
    )


def _spread(values: NDArray[np.float64], panels: int) -> Floats:
    found = np.zeros(panels * ROWS, np.float32)
    found[: len(values)] = values
    return found
