"""Networks on maps of eight bits in plain NumPy, equal to the compiled ones to the last bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.convolution import Maps
from regrain.kernels.integers import COLUMNS, ROWS
from regrain.kernels.maps import MOST, Convolution, Grid, Network, Packed
from regrain.kernels.product import Floats

Numbers = NDArray[np.int64]


def run(network: Network, x: Maps) -> Floats:
    """What finite images (n, channels, height, width) give, (n, *outputs)."""
    maps = [quantize(folded(x, network.folded), network.grids[0])]
    for step, packed in zip(network.steps, network.packed, strict=True):
        zero = network.grids[step.source].zero
        maps.append(convolve(step, packed, maps[step.source], zero, None if step.added is None else maps[step.added]))
    grid, last = network.grids[-1], maps[-1] - network.grids[-1].zero
    if not network.means:
        return last.astype(np.float32) * np.float32(grid.scale)
    count = last.shape[2] * last.shape[3]
    means: Floats = last.sum(axis=(2, 3)).astype(np.float32) * (np.float32(grid.scale) / np.float32(count))
    return means


def folded(x: Maps, factor: int) -> Maps:
    """Squares of positions as channels."""
    images, channels, height, width = x.shape
    squares = x.reshape(images, channels, height // factor, factor, width // factor, factor).transpose(0, 1, 3, 5, 2, 4)
    return squares.reshape(images, channels * factor**2, height // factor, width // factor)


def quantize(x: Maps, grid: Grid) -> Numbers:
    """The numbers of a map. Every operation is rounded to float32 on its own, integers to even at a tie."""
    with np.errstate(over="ignore"):
        scaled = x * (np.float32(1) / np.float32(grid.scale)) + np.float32(grid.zero)
    return _rounded(scaled, 0)


def convolve(step: Convolution, packed: Packed, numbers: Numbers, zero: int, added: Numbers | None) -> Numbers:
    """The numbers (n, rows, height, width) that those of `numbers` (n, channels, height, width) give."""
    rows, channels = step.weights.shape[:2]
    window = step.window
    height, width = window.outputs((numbers.shape[2], numbers.shape[3]))
    padded = np.pad(numbers, [(0, 0), (0, 0), *((edge, edge) for edge in window.padding)], constant_values=zero)
    matrix = dense(packed, rows, channels, window.kernel)
    sums = np.zeros((len(numbers), rows, height, width), np.int64)
    for down in range(window.kernel[0]):
        for right in range(window.kernel[1]):
            top, left = down * window.dilation[0], right * window.dilation[1]
            seen = padded[:, :, top:, left:][:, :, :: window.stride[0], :: window.stride[1]][:, :, :height, :width]
            sums += np.einsum("rc,ncyx->nryx", matrix[:, down, right], seen)
    found = sums.astype(np.float32) * _across(packed.factors, rows) + _across(packed.bias, rows)
    if added is not None:
        found = found + added.astype(np.float32) * np.float32(packed.weight)
    return _rounded(found, packed.low)


def dense(packed: Packed, rows: int, channels: int, kernel: tuple[int, int]) -> Numbers:
    """The indices (rows, height, width, channels)."""
    panels, groups = -(-rows // ROWS), -(-channels // COLUMNS)
    count = kernel[0] * kernel[1] * groups
    whole = np.zeros((panels, count, ROWS, COLUMNS), np.int64)
    if packed.starts is None or packed.groups is None:
        whole[:] = packed.values.reshape(whole.shape)
    else:
        for panel in range(panels):
            mine = slice(packed.starts[panel], packed.starts[panel + 1])
            whole[panel, packed.groups[mine]] = packed.values[mine]
    laid: Numbers = whole.transpose(0, 2, 1, 3).reshape(panels * ROWS, *kernel, groups * COLUMNS)
    return laid[:rows, ..., :channels]


def _rounded(found: Maps, low: float) -> Numbers:
    return np.asarray(np.rint(np.clip(found, np.float32(low), MOST)), np.int64)


def _across(values: Floats, rows: int) -> Floats:
    return values[:rows, None, None]
