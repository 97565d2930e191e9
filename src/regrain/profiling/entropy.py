"""Entropy of a histogram, and what the artifact's coder makes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Histogram = NDArray[np.int64]
"""Counts of symbols 0, 1, 2, ..., one dimension."""

SLOTS = 256
SYMBOLS = 16


def entropy(histogram: Histogram) -> float:
    """Order-0 entropy in bits a symbol; 0 for an empty histogram."""
    total = int(histogram.sum())
    if total == 0:
        return 0.0
    p = histogram[histogram > 0] / total
    return max(0.0, float(-(p * np.log2(p)).sum()))


def coded_bytes(histogram: Histogram) -> float:
    """Bytes that the symbols of `histogram` take in the coder of the artifact, escapes included.

    The coder knows 16 symbols with frequencies 1 to 255 of 256. Beyond 16 the 15 most frequent are kept, and one
    byte for each other symbol follows an escape.
    """
    counts = histogram[histogram > 0]
    if counts.size == 0:
        return 0.0
    escapes = 0
    if counts.size > SYMBOLS:
        counts = np.sort(counts)[::-1]
        escapes = int(counts[SYMBOLS - 1 :].sum())
        counts = np.append(counts[: SYMBOLS - 1], escapes)
    frequencies = np.clip(np.rint(counts * (SLOTS / counts.sum())), 1, SLOTS - 1)
    # The rounding's remainder goes to the most frequent symbol, where it changes the code lengths least.
    largest = frequencies.argmax()
    frequencies[largest] = np.clip(frequencies[largest] + SLOTS - frequencies.sum(), 1, SLOTS - 1)
    return float((counts * (8.0 - np.log2(frequencies))).sum()) / 8.0 + escapes
