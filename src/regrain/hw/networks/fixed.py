"""A predefined granularity: what a policy is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regrain.core.granularity import Granularity
from regrain.policies import Class, Decision, Matrix, Observation, State

_CLASS = {Granularity.FINE: Class.FINE, Granularity.MEDIUM: Class.BLOCK, Granularity.COARSE: Class.DENSE}


@dataclass(frozen=True, slots=True)
class Fixed:
    """A policy that keeps every matrix at one granularity."""

    granularity: Granularity

    @property
    def name(self) -> str:
        """That of the granularity."""
        return str(self.granularity)

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        """The granularity, for inputs like calibration's."""
        classes = np.full(matrix.channels, _CLASS[self.granularity], np.uint8)
        decision = Decision(self.granularity, classes, matrix.density, matrix.mean, matrix.variance)
        return State(decision), decision

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision | None]:
        """Nothing, ever."""
        return state, None
