"""Least squares for what is left: weights that are kept change so that those that are dropped are missed least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.transforms.damage import Damage, Floats


def compensate(
    weights: Floats, mask: NDArray[np.bool_], damage: Damage, *, start: Floats | None = None, iterations: int
) -> Floats:
    """The matrix (R, C) that is 0 where `mask` is False and costs about the least, tr(G D A D^T) for D = it - weights.

    Conjugate gradients (Hestenes and Stiefel, 1952) on the weights that are kept, scaled by the diagonals of G and A,
    from `start`, or from `weights` as they are. Each iteration never costs more than the one before it. All rows are
    solved together, so an iteration is three products of matrices whatever the mask looks like.
    """
    found: Floats = np.where(mask, weights if start is None else start, np.float32(0.0))
    scale = (mask / np.outer(damage.outputs.diagonal(), damage.inputs.diagonal())).astype(np.float32)
    residual = damage.gradient(weights - found)
    residual *= mask
    ahead = scale * residual
    direction = ahead
    slope = _dot(residual, ahead)
    smallest = slope * 1e-8
    for _ in range(iterations):
        if slope <= smallest:
            break
        product = damage.gradient(direction)
        product *= mask
        step = np.float32(slope / _dot(direction, product))
        found += step * direction
        residual -= step * product
        ahead = scale * residual
        previous, slope = slope, _dot(residual, ahead)
        direction = ahead + np.float32(slope / previous) * direction
    return found


def _dot(a: Floats, b: Floats) -> float:
    return float(np.einsum("ij,ij->", a, b, dtype=np.float64))
