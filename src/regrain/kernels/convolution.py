"""Convolutions with a matrix in panels: its columns are (channels, kernel height, kernel width)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.panels import Panels

Pair = tuple[int, int]
Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """What a convolution sees, (vertical, horizontal) each; images are padded with zeros."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def outputs(self, size: Pair) -> Pair:
        """Height and width of the maps that images of that size give. Raises ValueError if the window doesn't fit."""
        found = []
        for long, kernel, stride, padding, dilation in zip(
            size, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            room = long + 2 * padding - dilation * (kernel - 1) - 1
            if room < 0:
                raise ValueError(f"images must be at least as large as the window {self.kernel}, not {size}")
            found.append(room // stride + 1)
        return found[0], found[1]


def convolve(layout: Panels, window: Window, x: Maps, out: Maps, threads: int = 1) -> None:
    """out (images, rows, height, width) = the maps of x (images, channels, height, width), float32 in C order.

    It lets go of the interpreter. Raises ValueError for other shapes.
    """
    for name, maps in (("x", x), ("out", out)):
        if maps.dtype != np.float32 or maps.ndim != 4 or not maps.flags.c_contiguous:
            raise ValueError(f"{name} must be float32 in C order with four axes, not {maps.dtype} of {maps.shape}")
    images, channels, height, width = x.shape
    wanted = (images, layout.rows, *window.outputs((height, width)))
    if out.shape != wanted or not out.flags.writeable:
        raise ValueError(f"out must be writable and of shape {wanted}, not {out.shape}")
    convolve_at(layout, window, x.ctypes.data, (images, channels, height, width), out.ctypes.data, threads)


def convolve_at(
    layout: Panels, window: Window, x: int, shape: tuple[int, int, int, int], out: int, threads: int = 1
) -> None:
    """The same for memory that the caller vouches for: addresses of contiguous images of that shape, and of maps."""
    images, channels, height, width = shape
    layout.native.convolve_at(
        x,
        images,
        channels,
        (height, width),
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
        out,
        threads,
    )
