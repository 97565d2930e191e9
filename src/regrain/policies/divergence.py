"""How different two sets of inputs look, from their moments alone."""

from __future__ import annotations

import numpy as np

from regrain.policies.decision import Vector

FLOOR = 1e-3
"""Of the mean variance: variances below it are taken for it, so that a dead input decides nothing."""


def divergence(mean: Vector, variance: Vector, other_mean: Vector, other_variance: Vector) -> float:
    """KL(these || others) of normal distributions with C independent inputs, in nats, 0 or more:

    1/2 sum over c of  r_c - 1 - log r_c + (mean_c - other_mean_c)^2 / other_variance_c,
    r_c = variance_c / other_variance_c
    """
    floor = FLOOR * float(other_variance.mean()) or 1.0
    theirs, ours = np.maximum(other_variance, floor), np.maximum(variance, floor)
    ratio = ours / theirs
    distance = mean - other_mean
    return 0.5 * float(np.sum(ratio - 1.0 - np.log(ratio) + distance * distance / theirs))
