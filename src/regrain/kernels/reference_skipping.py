"""Products that leave out columns in plain NumPy: token by token, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.product import Floats


def chosen(x: Floats, mean: Floats, norm: Floats, threshold: float) -> NDArray[np.bool_]:
    """(N, C) True where a token (C,) has a column: all in float32, as the rule is."""
    small: NDArray[np.bool_] = np.abs(x - mean) * norm <= np.float32(threshold)
    return ~small


def multiply(
    weights: NDArray[np.floating], bias: Floats, x: Floats, mean: Floats, has: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x W^T + bias (N, R) with the mean for each x that a token doesn't have, and the sum of the terms' sizes."""
    found, size = np.empty((2, len(x), len(weights)))
    exact = weights.astype(np.float64)
    for n, token in enumerate(x):
        seen = np.where(has[n], token, mean).astype(np.float64)
        found[n] = exact @ seen + bias
        size[n] = np.abs(exact) @ (np.abs(seen) + 2 * np.abs(mean)) + np.abs(bias)
    return found, size
