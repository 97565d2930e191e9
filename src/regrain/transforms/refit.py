"""Least squares for a layer in a network that has changed before it: on the inputs that it gets now, to make what it
made of those that it used to get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.transforms.compensate import compensate
from regrain.transforms.damage import Damage, Floats

RIDGE = 0.003
"""How much weights count that stay as they are, in the mean power of an input."""

ITERATIONS = 64
"""Conjugate gradient's iterations."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of a layer's inputs x (C,) in the changed network, and of what it makes in the original, y (R,), bias included:
    `inputs` (C, C) is cov(x, x) and `crossed` (R, C) cov(y, x), `mean` (C,) that of x and `target` (R,) that of y.

    For a layer without a bias they are about 0 instead of the means.
    """

    inputs: Doubles
    crossed: Doubles
    mean: Doubles
    target: Doubles


def refit(weights: Floats, mask: NDArray[np.bool_], start: Floats, moments: Moments, outputs: Floats) -> Floats:
    """The matrix W' (R, C), 0 where `mask` is False, with about the least

        E tr(G (y - W' x)(y - W' x)^T) + r tr(G (W' - W)(W' - W)^T)        (about the means)

    for G = `outputs` (R, R). With A = cov(x, x) + r and W* = (cov(y, x) + r W) A^-1 that is tr(G D A D^T) for D = W' -
    W*, but for a constant: compensation of W*. It never costs more than `start`, which is 0 where `mask` is False.
    """
    power = float(np.trace(moments.inputs))
    if not power > 0.0:
        return start
    ridge = RIDGE * power / len(moments.inputs)
    gram = moments.inputs + ridge * np.eye(len(moments.inputs))
    best = np.linalg.solve(gram, (moments.crossed + ridge * weights).T).T.astype(np.float32)
    if mask.all():
        return np.ascontiguousarray(best)
    damage = Damage((gram / np.trace(gram)).astype(np.float32), outputs)
    return compensate(best, mask, damage, start=start, iterations=ITERATIONS)
