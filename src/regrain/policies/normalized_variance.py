"""The thresholds of `variance_thresholds` on variance divided by the mean variance of the matrix's channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.variance_thresholds import VarianceThresholds


@dataclass(frozen=True, slots=True)
class NormalizedVariance:
    """Free of scale: it decides the same for inputs that are all k times as large."""

    rule: VarianceThresholds = field(default_factory=VarianceThresholds)

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "normalized-variance"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """By variance / mean variance; where nothing varies all are taken for average."""
        mean = float(inputs.variance.mean())
        metric = inputs.variance / mean if mean > 0.0 else np.ones(inputs.variance.size)
        return self.rule.classify(matrix, inputs, current, metric)

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """As the thresholds alone."""
        return self.rule.gain(matrix, inputs, proposed, current)
