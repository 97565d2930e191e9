"""Sums over the rows of a batch, about given means: what a run time watches inputs by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain import _native


def moments(x: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """(2, C): of rows x (N, C) the sums of x - mean and of (x - mean)^2; None if one isn't finite.

    x is copied unless it is C-contiguous; N may be 0. Differences, and sums over 64 rows, are float32, and those go
    into float64: with u = 2^-24 a sum is off by at most 65 u sum |x - mean| and 67 u sum (x - mean)^2, to first order.
    """
    sums = np.empty((2, mean.size))
    return sums if _native.moments(x, mean, sums) else None
