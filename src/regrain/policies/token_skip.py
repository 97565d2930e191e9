"""Columns chosen for each token: those that its own inputs hardly use are skipped, and nothing is laid out anew.

A fixed threshold for a matrix is as good as the exact k largest columns of each token, and needs no sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.granularity import Granularity
from regrain.policies.decision import Class, Decision, Matrix, Observation, Vector


@dataclass(frozen=True, slots=True)
class TokenSkip:
    """The matrix' calibrated threshold; without one, every column is kept. Only the mean that skipped inputs are taken
    to have follows the stream.
    """

    @property
    def name(self) -> str:
        """In the table of policies."""
        return "token-skip"

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """All channels dense, with the threshold."""
        classes = np.full(matrix.channels, Class.DENSE, np.uint8)
        skips = matrix.threshold is not None and matrix.threshold > 0.0
        return Decision(
            Granularity.COARSE if skips else None,
            classes,
            matrix.density if skips else 1.0,
            inputs.mean,
            inputs.variance,
            matrix.threshold,
        )

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """None: the threshold never changes."""
        return 0.0


def token_scores(inputs: NDArray[np.floating], mean: Vector, column_energy: Vector) -> NDArray[np.floating]:
    """|x_c - mean_c| |W_c| (N, C) of inputs (N, C): what skipping a column of a token changes in the output."""
    return np.asarray(np.abs(inputs - mean) * np.sqrt(column_energy))


def calibrate(inputs: NDArray[np.floating], mean: Vector, column_energy: Vector, density: float) -> float:
    """The threshold for which inputs (N, C) keep that share of their columns, on average over the tokens.

    Raises ValueError for no inputs, or ones that aren't finite.
    """
    if inputs.size == 0 or not np.isfinite(inputs).all():
        raise ValueError(f"inputs must be finite numbers of one token or more, not {inputs.shape} with {inputs!r}")
    return float(np.quantile(token_scores(inputs, mean, column_energy), 1.0 - density))
