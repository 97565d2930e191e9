"""What matters is a rank within the matrix: an input's variance times the energy of the weights it meets.

A weight w that is dropped, its input's mean put into the bias, adds w^2 var(x) to the output's squared error. So the
blocks with the least variance x |W[panel, channel]|^2 go first. That needs no absolute threshold: scaling all inputs
changes no rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrain.core.granularity import Granularity
from regrain.policies.controller import mask_gain
from regrain.policies.decision import Class, Decision, Matrix, Observation


@dataclass(frozen=True, slots=True)
class Ranked:
    """`dense` is the part of what is kept that goes to whole channels, the strongest ones; `dropped` the part of what
    is dropped that comes from whole channels, the weakest ones. Between them blocks are ranked, or single weights with
    `fine`. A channel that is whole stays so while its score is within `margin` of one that would take its place.

    With dense = dropped = 0 every block is ranked; with 1 and 1 only whole channels are dropped.
    """

    dense: float = 0.0
    dropped: float = 0.0
    fine: bool = False
    margin: float = 0.1

    def __post_init__(self) -> None:
        for name, value in (("dense", self.dense), ("dropped", self.dropped)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be a fraction from 0 to 1, not {value!r}")
        if self.margin < 0.0:
            raise ValueError(f"margin must be 0 or more, not {self.margin!r}")

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "ranked"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """Of each part of the budget as much as the options say."""
        channels, density = matrix.channels, matrix.density
        scores = inputs.variance * matrix.column_energy
        strong = round(self.dense * density * channels)
        weak = round(self.dropped * (1.0 - density) * channels)
        order = np.argsort(-self._sticky(scores, current), kind="stable")
        classes = np.full(channels, Class.FINE if self.fine else Class.BLOCK, np.uint8)
        classes[order[:strong]] = Class.DENSE
        classes[order[channels - weak :]] = Class.DROPPED
        return Decision(granularity(classes, density), classes, density, inputs.mean, inputs.variance)

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """By the expected damage."""
        return mask_gain(matrix, inputs, proposed, current)

    def _sticky(self, scores: np.ndarray, current: Decision | None) -> np.ndarray:
        if current is None:
            return scores
        factors = np.ones(scores.size)
        factors[current.classes == Class.DENSE] = 1.0 + self.margin
        factors[current.classes == Class.DROPPED] = 1.0 / (1.0 + self.margin)
        return scores * factors


def granularity(classes: np.ndarray, density: float) -> Granularity | None:
    """That of the finest units that are dropped; None where nothing is."""
    if density >= 1.0 or (classes == Class.DENSE).all():
        return None
    for kind, found in ((Class.FINE, Granularity.FINE), (Class.BLOCK, Granularity.MEDIUM)):
        if (classes == kind).any():
            return found
    return Granularity.COARSE
