"""Levels of a number that don't flutter at their boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Two boundaries between three levels, each with a band in which the level stays: `margin` of it to either side."""

    low: float = 0.2
    high: float = 0.5
    margin: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.high or not 0.0 <= self.margin < 1.0:
            raise ValueError(
                f"thresholds must be 0 < low <= high with a margin from 0 to below 1, not {self.low}, {self.high} and "
                f"{self.margin}"
            )

    def levels(self, metric: NDArray[np.float64], current: Levels | None) -> Levels:
        """0, 1 or 2 for each number; without a `current` level: 2 above `high`, 1 from `low` on.

        What has crossed a boundary's upper edge is above it, what has crossed the lower edge below, and in the band
        between them it stays: a level is clipped to those that are not ruled out.
        """
        if current is None:
            return (metric >= self.low).astype(np.int64) + (metric > self.high)
        up, down = 1.0 + self.margin, 1.0 - self.margin
        least = (metric >= self.low * up).astype(np.int64) + (metric > self.high * up)
        most = (metric >= self.low * down).astype(np.int64) + (metric > self.high * down)
        return np.asarray(np.clip(current, least, most))
