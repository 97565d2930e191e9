"""What a decision is expected to lose, from the inputs' moments alone: inputs are taken as independent."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from regrain.policies.decision import Class, Decision, Matrix, Observation, Vector
from regrain.policies.masks import kept_blocks


def damage(decision: Decision, matrix: Matrix, inputs: Observation, *, mean: Vector | None = None) -> float:
    """E|y - y'|^2 summed over the rows: each dropped weight adds w^2 E[(x - mean)^2], with `mean` (C,) in the place of
    what is dropped, the decision's if it isn't given.
    """
    return float(lost(decision, matrix) @ inputs.about(decision.mean if mean is None else mean))


def lost(decision: Decision, matrix: Matrix) -> Vector:
    """The energy of the weights that are dropped of each channel, (C,): what its input's E[(x - mean)^2] is multiplied
    with. Of a FINE channel it is expected for weights of a normal distribution, its smallest ones dropped.
    """
    energy = np.where(kept_blocks(decision, matrix.energy), 0.0, matrix.energy).sum(axis=0)
    fine = decision.classes == Class.FINE
    energy[fine] = matrix.column_energy[fine] * small_energy(1.0 - decision.share)
    return np.asarray(energy)


def small_energy(part: float) -> float:
    """The share of the sum of squares that the smallest `part` of numbers from a normal distribution has.

    P(|z| < t) = part gives E[z^2; |z| < t] = part - 2 t phi(t), phi the density of N(0, 1).

    >>> round(small_energy(0.5), 4), small_energy(0.0), small_energy(1.0)
    (0.0716, 0.0, 1.0)
    """
    if part >= 1.0:
        return 1.0
    limit = NormalDist().inv_cdf(0.5 + 0.5 * part)
    return max(0.0, part - 2.0 * limit * math.exp(-0.5 * limit * limit) / math.sqrt(2.0 * math.pi))
