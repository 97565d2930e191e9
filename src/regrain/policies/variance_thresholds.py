"""Granularity by the variance of an input channel against two fixed thresholds: above 0.5 fine, below 0.2 coarse.

The rule knows neither the scale of a layer's inputs nor its weights, and that is its limit: measured figures are in
docs/runtime-policies.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from regrain.policies.controller import mask_gain
from regrain.policies.decision import Class, Classes, Decision, Matrix, Observation, Vector
from regrain.policies.hysteresis import Levels, Thresholds
from regrain.policies.ranked import granularity

COARSE, MEDIUM, FINE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class VarianceThresholds:
    """Variance above `thresholds.high`: single weights are dropped; from `thresholds.low` on: blocks; under it: whole
    channels. `scope` says whose variance: each channel's, or the mean of all channels for the matrix.

    At each granularity the same share goes: the weights, blocks or channels that rank lowest. With `inverted` high
    variance means coarse.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    scope: Literal["channel", "matrix"] = "channel"
    inverted: bool = False

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "variance-thresholds"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """By the variance itself."""
        return self.classify(matrix, inputs, current, inputs.variance)

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """All of it where a granularity changes, whatever that loses; by the expected damage where none does."""
        if not np.array_equal(proposed.classes, current.classes):
            return 1.0
        return mask_gain(matrix, inputs, proposed, current)

    def classify(self, matrix: Matrix, inputs: Observation, current: Decision | None, metric: Vector) -> Decision:
        """By that metric (C,) of the channels."""
        if self.scope == "matrix":
            metric = np.full(metric.size, metric.mean())
        levels = self.thresholds.levels(metric, None if current is None else self._levels(current.classes))
        if self.inverted:
            levels = FINE - levels
        scores = inputs.variance * matrix.column_energy
        classes = np.full(levels.size, Class.BLOCK, np.uint8)
        classes[levels == FINE] = Class.FINE
        coarse = np.flatnonzero(levels == COARSE)
        order = coarse[np.argsort(-scores[coarse], kind="stable")]
        kept = round(matrix.density * coarse.size)
        classes[order[:kept]], classes[order[kept:]] = Class.DENSE, Class.DROPPED
        return Decision(granularity(classes, matrix.density), classes, matrix.density, inputs.mean, inputs.variance)

    def _levels(self, classes: Classes) -> Levels:
        levels = np.full(classes.size, COARSE, np.int64)
        levels[classes == Class.BLOCK], levels[classes == Class.FINE] = MEDIUM, FINE
        return FINE - levels if self.inverted else levels
