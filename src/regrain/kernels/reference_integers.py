"""Products of integers in plain NumPy, equal to the compiled ones to the last bit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.integers import COLUMNS, ROWS
from regrain.kernels.product import Floats


class Tokens(NamedTuple):
    """(N, C) numbers of 0 to 255, and of each token a scale and the number that stands for 0:
    x is about scale (numbers - zero).
    """

    numbers: NDArray[np.int64]
    scales: Floats
    zeros: NDArray[np.int64]


def quantize(x: Floats) -> Tokens:
    """(N, C) float32. Every operation is rounded to float32 on its own, integers to even at a tie."""
    low, high = x.min(axis=1, initial=0), x.max(axis=1, initial=0)
    with np.errstate(invalid="ignore"):
        scales = high / np.float32(255) - low / np.float32(255)
    scales[~np.isfinite(scales) | np.isnan(x).any(axis=1)] = np.nan
    scales[scales < np.finfo(np.float32).tiny] = 0
    usable = scales > 0
    inverse = np.divide(np.float32(1), scales, out=np.zeros_like(scales), where=usable)
    zeros = np.rint(np.where(usable, -low, 0) * inverse).astype(np.int64)
    numbers = np.rint(np.where(usable[:, None], x, 0) * inverse[:, None]).astype(np.int64) + zeros[:, None]
    return Tokens(np.minimum(numbers, 255), scales, zeros)


def multiply(
    indices: NDArray[np.int8], scales: Floats, x: Floats, *, keep: NDArray[np.bool_] | None = None, bias: Floats
) -> Floats:
    """x W^T + bias for x (N, C), W of (R, C) indices times (R,) scales, less what `keep` drops: (C,) columns or
    (panels, ceil(C / 4)) blocks.
    """
    rows, columns = indices.shape
    weights = indices.astype(np.int64)
    if keep is not None and keep.ndim == 1:
        weights, x = weights[:, keep], np.ascontiguousarray(x[:, keep])
    elif keep is not None:
        weights *= keep.repeat(ROWS, axis=0).repeat(COLUMNS, axis=1)[:rows, :columns]
    tokens = quantize(x)
    sums = tokens.numbers @ weights.T - np.outer(tokens.zeros, weights.sum(axis=1))
    return sums.astype(np.float32) * np.outer(tokens.scales, scales) + bias
