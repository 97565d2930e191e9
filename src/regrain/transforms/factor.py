"""The triangular factor of a Gram matrix that error feedback works with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError

_TRIES = 6


def upper_factor(gram: NDArray[np.float32], damping: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """U (n, n), unit upper triangular, and d (n,) > 0 with gram + damping * mean(diagonal) I = U diag(d) U^T.

    Rounding n numbers from first to last with U's feedback costs sum d[j] e[j]^2 where e are the errors of rounding
    alone (Chee et al., QuIP, 2023, "LDLQ"; GPTQ is the same). A Gram matrix that isn't positive definite with this
    damping gets ten times as much, and again; an all-zero one gives the identity and ones.

    Raises TaskError if that doesn't help: the matrix has NaN, infinity or is no Gram matrix.
    """
    n = len(gram)
    level = float(np.trace(gram, dtype=np.float64)) / n
    if level == 0.0:
        return np.eye(n, dtype=np.float32), np.ones(n)
    # Cholesky gives lower factors: of the matrix with both axes reversed, the upper one.
    reversed_ = gram[::-1, ::-1].astype(np.float64)
    for attempt in range(_TRIES if np.isfinite(gram).all() else 0):
        try:
            lower = np.linalg.cholesky(reversed_ + damping * 10.0**attempt * level * np.eye(n))
        except np.linalg.LinAlgError:
            continue
        upper = lower[::-1, ::-1]
        diagonal: NDArray[np.float64] = upper.diagonal().astype(np.float64)
        if (diagonal > 0).all():
            return np.ascontiguousarray(upper / diagonal, np.float32), np.square(diagonal)
    raise TaskError(f"sensitivity must be a finite Gram matrix, not one with trace {n * level!r}: look for NaN")
