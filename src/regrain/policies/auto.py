"""What measured best: docs/runtime-policies.md has the figures."""

from __future__ import annotations

from dataclasses import dataclass

from regrain.policies.bank import Bank
from regrain.policies.controller import Rule
from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.ranked import Ranked
from regrain.policies.token_skip import TokenSkip


@dataclass(frozen=True, slots=True)
class Auto:
    """`token-skip` for a matrix with a calibrated threshold, `bank` for one with compensated candidates to choose from,
    `ranked` with blocks for any other.
    """

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "auto"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """As that rule."""
        return rule(matrix).propose(matrix, inputs, current)

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """As that rule."""
        return rule(matrix).gain(matrix, inputs, proposed, current)


def rule(matrix: Matrix) -> Rule:
    """The rule that `auto` follows for a matrix."""
    if matrix.threshold is not None:
        return TokenSkip()
    return Bank() if len(matrix.candidates) > 1 else Ranked()
