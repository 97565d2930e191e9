"""Histograms of the indices that quantization with one symmetric scale a row would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.profiling.entropy import Histogram
from regrain.profiling.values import Values


class IndexHistogram:
    """Counts rint(steps * w / absmax), -steps to steps, where absmax is the largest magnitude of the weight's row.

    That is rounding to nearest at scale absmax / steps. A row of zeros has indices 0.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.counts: Histogram = np.zeros(2 * steps + 1, np.int64)

    def add(self, relative: NDArray[np.float64], present: NDArray[np.bool_] | None) -> None:
        """Weights over their row's absmax, -1 to 1, any shape; `present` marks those to count, None is all."""
        index = np.rint(relative * self.steps)
        index += self.steps
        index = index.reshape(-1) if present is None else index[present]
        self.counts += np.bincount(index.astype(np.intp), minlength=self.counts.size)


def relative(weights: Values, absmax: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each weight over its row's absmax; `weights` (rows, columns) are finite, `absmax` (rows,)."""
    scale = np.where(absmax > 0, absmax, 1.0)[:, None]
    quotient: NDArray[np.float64] = weights / scale
    return quotient
