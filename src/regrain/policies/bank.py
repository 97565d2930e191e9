"""A choice among patterns whose weights were compensated beforehand, each for other data.

What compensated weights lose depends on how the inputs vary together, which nobody observes while a network runs. So
the candidate is taken whose own data look most like what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.divergence import divergence


@dataclass(frozen=True, slots=True)
class Bank:
    """The nearest of `Matrix.candidates`, which must have one at least. Another one must be nearer by the part `margin`
    of the distance.
    """

    margin: float = 0.1

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "bank"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """That candidate, as it is stored. Raises ValueError if there is none."""
        if not matrix.candidates:
            raise ValueError(f"candidates of {matrix.name} must be compensated patterns, one or more, not none")
        distances = [distance(inputs, candidate) for candidate in matrix.candidates]
        nearest = int(np.argmin(distances))
        if current is not None and current.candidate is not None:
            held = current.candidate
            if distances[nearest] >= (1.0 - self.margin) * distances[held]:
                nearest = held
        return replace(matrix.candidates[nearest], candidate=nearest)

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """The fraction of the distance that is gone."""
        now, then = (distance(inputs, self._stored(matrix, decision)) for decision in (current, proposed))
        return 1.0 - then / now if now > 0.0 else 0.0

    def _stored(self, matrix: Matrix, decision: Decision) -> Decision:
        """With the mean of its own data: that of a decision in force follows the stream."""
        return decision if decision.candidate is None else matrix.candidates[decision.candidate]


def distance(inputs: Observation, decision: Decision) -> float:
    """KL(seen || the data that the decision was made for), in nats."""
    return divergence(inputs.mean, inputs.variance, decision.mean, decision.variance)
