"""How far chance moves an estimated drop, from what each group of examples contributes to it.

An interval "estimate ± t standard errors" fails where it is needed most. After mild compression few examples
change, all for the worse: if none of n was seen to change, the error is 0 and so is the bound, though a damage of
2/n would have stayed unseen in one data set of seven; with half a pseudo-example added to each cell of the 2 x 2
table (Agresti and Min 2005) the one-sided 95 % bound still falls to 82 % coverage there. Wilson's remedy (1927), and
Tango's for pairs (1998), is to let the variance be that of the drop supposed, not of the drop seen: a drop that is x
larger comes from groups that each lose s, and adds s x to the variance V. So the bound is where

    x² = t² (V + s x)        x = h + √(h² + t² V),   h = t² s / 2,

with Student's t of (groups - 1) degrees of freedom. With nothing changed, x = t² s: 2.7 examples at 95 %. With m
harmed examples it is Wilson's bound for a small proportion. What s is, the skewness of the contributions eᵢ says:

    s = max(0, w u³ + Σ eᵢ³) / (w u² + Σ eᵢ²),   w = 1 / (1 + m)

with m groups seen to change and one imagined change of size u among m + 1: it decides when nothing changed, and does
not matter when all changed a little. Contributions that lie symmetrically give s = 0, hence plain t bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.accuracy.student import t_quantile
from regrain.core.scores import Values


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the truth may lie from an estimate, on either side.

    `variance` is of the estimate, in its units squared; `step_up` and `step_down`, >= 0 and in its units, are s of
    the module's text for either side. `groups` >= 2 independent groups of examples say so.
    """

    variance: float
    step_up: float
    step_down: float
    groups: int

    def above(self, confidence: float) -> float:
        """Distance of the one-sided upper bound from the estimate, >= 0."""
        return self._reach(self.step_up, confidence)

    def below(self, confidence: float) -> float:
        """Distance of the one-sided lower bound from the estimate, >= 0."""
        return self._reach(self.step_down, confidence)

    def _reach(self, step: float, confidence: float) -> float:
        squared = t_quantile(confidence, self.groups - 1) ** 2
        half = squared * step / 2.0
        return half + math.sqrt(half * half + squared * self.variance)


def spread(contributions: Values, shared: float, change: float, changed: int) -> Spread:
    """The spread of an estimate.

    `contributions` (groups,), groups >= 2, are what the estimate loses when a group is left out, less their mean.
    `shared` is the variance that is counted twice because examples belong to two groups. `change` >= 0 is what one
    imagined group that changes contributes (u of the module's text), `changed` the number m of groups that did.
    """
    squares = float(contributions @ contributions)
    cubes = float(contributions @ (contributions * contributions))
    weight = 1.0 / (1.0 + changed)
    below = weight * change**2 + squares
    imagined = weight * change**3
    groups = len(contributions)
    variance = (groups - 1) / groups * squares  # of the jackknife
    return Spread(
        # The part counted twice is an estimate itself, and never more than what is left without it.
        variance=max(variance - shared, min(shared, variance)),
        step_up=max(0.0, imagined + cubes) / below if below > 0.0 else 0.0,
        step_down=max(0.0, imagined - cubes) / below if below > 0.0 else 0.0,
        groups=groups,
    )


def mean_spread(values: Values, labels: NDArray[np.int64] | None) -> Spread | None:
    """The spread of the mean of `values` (n,), whose examples belong to the groups `labels` (n,) 0 to G - 1, or to
    one each; None for fewer than two groups.

    Nothing is imagined: it is for quantities that are known for each example without rounding, where values that are
    all equal really leave no doubt.
    """
    if labels is None:
        labels = np.arange(len(values))
    sums, counts = np.bincount(labels, values), np.bincount(labels)
    if len(sums) < 2:
        return None
    left = (values.sum() - sums) / (len(values) - counts)
    return spread(left.mean() - left, shared=0.0, change=0.0, changed=len(sums))
