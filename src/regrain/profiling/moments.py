"""Mean, variance, and what lies far out, of numbers that come in pieces."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from regrain.profiling.values import Values

OUTLIER = 6.0
"""A weight further than this many standard deviations from the mean is an outlier."""


class Moments:
    """Count, mean and sum of squared distances from the mean, merged piece by piece.

    Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample variances" (1979). Numbers
    beyond 1e154, whose squares float64 cannot hold, give an infinite variance.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0

    @property
    def std(self) -> float:
        """Standard deviation of the population; 0 for nothing."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def add(self, numbers: Values) -> None:
        """Take in finite numbers, any shape."""
        if numbers.size == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(numbers.mean(dtype=np.float64))
            distances = _distances(numbers, mean)
            total, delta = self.count + numbers.size, mean - self.mean
            self.squares += float(np.dot(distances, distances)) + delta * delta * (self.count * numbers.size / total)
            self.mean += delta * (numbers.size / total)
            self.count = total


class Tails:
    """Excess kurtosis, outliers and the farthest number, given the moments of all numbers."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._fourths = 0.0
        self._farthest = 0.0  # squared
        self.outliers = 0

    def add(self, numbers: Values) -> None:
        """Take in the same numbers again, any shape."""
        if numbers.size == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            squares = _distances(numbers, self._moments.mean)
            squares *= squares
            self._fourths += float(np.dot(squares, squares))
            farthest, limit = float(squares.max()), (OUTLIER * self._moments.std) ** 2
        self._farthest = max(self._farthest, farthest)
        if farthest > limit:
            self.outliers += int(np.count_nonzero(squares > limit))

    @property
    def peak(self) -> float | None:
        """Largest distance from the mean in standard deviations; None where that is undefined."""
        std = self._moments.std
        return _finite(math.sqrt(self._farthest) / std) if 0.0 < std < math.inf else None

    @property
    def kurtosis(self) -> float | None:
        """Fourth central moment in units of the squared variance, less the normal distribution's 3."""
        variance = self._moments.std**2
        if not 0.0 < variance * variance < math.inf:
            return None
        return _finite(self._fourths / self._moments.count / (variance * variance) - 3.0)


def _distances(numbers: Values, mean: float) -> NDArray[np.float64]:
    distances = numbers.reshape(-1).astype(np.float64)
    distances -= mean
    return distances


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
