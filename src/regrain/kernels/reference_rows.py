"""Products in lists of columns in plain NumPy: list by list, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.product import Floats
from regrain.kernels.rows import UNIT


def multiply(
    weights: Floats, keep: NDArray[np.bool_], bias: Floats, x: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x W^T + bias (N, R) for weights (R, C) with what the mask (units, C) keeps, and the sum of the terms' sizes."""
    rows = len(weights)
    unit = 1 if len(keep) == rows else UNIT
    found = np.tile(bias.astype(np.float64), (len(x), 1))
    size = np.abs(found)
    for first, kept in zip(range(0, rows, unit), keep, strict=True):
        columns = np.flatnonzero(kept)
        part, tokens = weights[first : first + unit, columns].astype(np.float64), x[:, columns].astype(np.float64)
        found[:, first : first + unit] += tokens @ part.T
        size[:, first : first + unit] += np.abs(tokens) @ np.abs(part).T
    return found, size
