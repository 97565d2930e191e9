"""Rounding with error feedback, compiled; `regrain.kernels.reference_feedback` is the same in plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regrain import _native

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MOST = 32767
"""The largest index: what is further away is clipped, and its neighbors make up for it."""


def round_with_feedback(
    weights: Floats,
    scales: Floats,
    cell: tuple[int, int],
    *,
    columns: Floats | None,
    rows: Floats | None,
    weight_rows: Floats,
    weight_columns: Floats,
    dead_zone: float = 0.0,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int16], float]:
    """Round (R, C) float32 `weights` to whole multiples of their cell's scale: indices (R, C), and the damage.

    `columns` (C, C) and `rows` (R, R) are unit upper triangular, U and V of native/include/regrain/feedback.h, None
    for the identity; `weight_rows` (R,) and `weight_columns` (C,) the diagonals beside them: the damage is the sum of
    weight_rows[i] weight_columns[j] e[i, j]^2 over the errors of rounding. A weight less than 1/2 + `dead_zone` steps
    from 0 becomes 0, and so does any where `keep` (R, C) is False: others make up for what is asked of it. One thread;
    it lets go of the interpreter. Weights must be finite.
    """
    indices = np.empty(weights.shape, np.int16)
    mask = None if keep is None else np.ascontiguousarray(keep).view(np.uint8)
    damage = _native.round_with_feedback(
        weights, scales, *cell, columns, rows, weight_rows, weight_columns, dead_zone, mask, indices
    )
    return indices, damage
