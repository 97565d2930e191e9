"""Moments of the inputs of one matrix, gathered while it serves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.moments import moments
from regrain.policies.decision import Matrix, Observation


class Monitor:
    """Sums of x - mean and (x - mean)^2 of each input channel, `mean` that of calibration: numbers stay small, and
    nothing cancels.

    One call in `every` is looked at. A call with a NaN or an infinity is left out as a whole and counted. Not for
    several threads at a time: `add` takes a few microseconds, under the caller's lock.
    """

    def __init__(self, matrix: Matrix, every: int = 8) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 call or more, not {every!r}")
        self._shift = matrix.mean.astype(np.float32)
        self._every = every
        self._calls = 0
        self._reset()

    @property
    def count(self) -> int:
        """Tokens since the last `take`."""
        return self._count

    def due(self) -> bool:
        """Counts a call; whether it is one to look at. The first one is."""
        due = self._calls % self._every == 0
        self._calls += 1
        return due

    def add(self, inputs: NDArray[np.float32]) -> bool:
        """Take in rows (N, C); False if they were left out for not being finite."""
        found = moments(inputs, self._shift)
        if found is None:
            self._discarded += len(inputs)
            return False
        self._count += len(inputs)
        self._sums += found
        return True

    def take(self) -> Observation | None:
        """What was seen since the last time, in short numbers; None for nothing."""
        count, sums, discarded = self._count, self._sums, self._discarded
        if count == 0:
            return None
        self._reset()
        distance, squares = sums / count
        variance = np.maximum(squares - distance * distance, 0.0)
        return Observation(count, self._shift + distance, variance, discarded).brief()

    def _reset(self) -> None:
        self._count = 0
        self._discarded = 0
        self._sums: NDArray[np.float64] = np.zeros((2, self._shift.size))
