"""Rounding with error feedback in plain NumPy: slow, and equal to the compiled one to the last bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.feedback import MOST

Floats = NDArray[np.float32]


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
    """See regrain.kernels.feedback. Each product and each difference is rounded to float32 on its own."""
    indices = np.empty(weights.shape, np.int16)
    done = np.zeros(weights.shape, np.float32)  # q * scale - W of the rows before
    damage = 0.0
    for i, row in enumerate(weights):
        steps = np.repeat(scales[i // cell[0]], cell[1])[: row.size]
        if keep is not None:
            steps = np.where(keep[i], steps, np.float32(2.0**126))
        wanted = row.copy()
        if rows is not None:
            for k in range(i):
                wanted -= rows[k, i] * done[k]
        target = wanted.copy()
        error = np.empty_like(row)
        for j, step in enumerate(steps):
            x = target[j] / step
            size = float(np.float32(abs(x)) + (np.float32(0.5) - np.float32(dead_zone)))
            index = int(min(size, MOST)) if x >= 0 else -int(min(size, MOST))
            indices[i, j] = index
            error[j] = np.float32(index) * step - target[j]
            if columns is not None:
                target[j + 1 :] -= (np.float32(index) * step - wanted[j]) * columns[j, j + 1 :]
        damage += float(weight_rows[i]) * sum(
            float(w) * float(e) * float(e) for w, e in zip(weight_columns, error, strict=True)
        )
        done[i] = indices[i] * steps - row
    return indices, damage
