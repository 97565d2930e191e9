"""The sums of `regrain.kernels.moments` in NumPy, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def moments(x: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """(2, C): of rows x (N, C) the sums of x - mean and of (x - mean)^2; None if one isn't finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        distance = x.astype(np.float64) - mean
        sums = np.stack((distance.sum(axis=0), np.square(distance).sum(axis=0)))
    return sums if np.isfinite(sums).all() else None
