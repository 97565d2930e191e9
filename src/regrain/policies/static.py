"""The predefined pattern: nothing changes while the network runs."""

from __future__ import annotations

from dataclasses import dataclass

from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.policy import State
from regrain.policies.ranked import Ranked


@dataclass(frozen=True, slots=True)
class Static:
    """The stored pattern, else what `ranked` says of the calibration data: what every other policy must beat."""

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "static"

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        """The pattern."""
        seen = Observation(matrix.calibrated, matrix.mean, matrix.variance)
        decision = matrix.candidates[0] if matrix.candidates else Ranked().propose(matrix, seen, None)
        return State(decision), decision

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision | None]:
        """Nothing, ever."""
        return state, None
