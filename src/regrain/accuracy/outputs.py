"""Two models' outputs on the same inputs, row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.core.scores import Values

Rows = NDArray[np.floating]

_CHUNK = 1 << 17
"""Elements at a time: float64 copies of so many stay in a core's own cache."""


def cosine_distances(original: Rows, compressed: Rows) -> Values:
    """1 - cosine of each pair of rows, (n,), 0 to 2; of two zero rows 0, of a zero row and another 1.

    As |a - b|² / 2 of unit vectors, which loses nothing where the cosine is close to 1.
    """
    first, second = _unit(original), _unit(compressed)
    distances: Values = ((first - second) ** 2).sum(axis=1) / 2.0
    one_is_zero = first.any(axis=1) != second.any(axis=1)
    distances[one_is_zero] = 1.0
    return distances


def divergences(original: Rows, compressed: Rows) -> tuple[Values, NDArray[np.bool_]]:
    """KL(original || compressed) in nats, (n,), >= 0, of the rows' softmax, and whether their maxima agree, (n,).

    With o, c the logits, p = softmax(o) and Z = Σ exp: KL = Σ p (o - c) + log Z_c - log Z_o, in float64.
    """
    losses = np.empty(len(original))
    step = max(1, _CHUNK // original.shape[1])
    for start in range(0, len(original), step):
        rows = slice(start, start + step)
        losses[rows] = _divergence(original[rows].astype(np.float64), compressed[rows].astype(np.float64))
    agrees: NDArray[np.bool_] = original.argmax(axis=1) == compressed.argmax(axis=1)
    return np.maximum(losses, 0.0), agrees


def _divergence(original: Values, compressed: Values) -> Values:
    original -= original.max(axis=1, keepdims=True)
    compressed -= compressed.max(axis=1, keepdims=True)
    weights = np.exp(original)
    total = weights.sum(axis=1)
    original -= compressed
    shift = np.log(np.exp(compressed, out=compressed).sum(axis=1) / total)
    result: Values = np.einsum("nd,nd->n", weights, original) / total + shift
    return result


def _unit(rows: Rows) -> Values:
    wide = rows.astype(np.float64)
    wide /= np.maximum(np.abs(wide).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)  # squares can't overflow
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Values = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0.0)
    return unit
