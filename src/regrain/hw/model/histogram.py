"""What the profiling accelerator finds of int8 values, in the integers that it computes with: its golden model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNT_BITS = 24
FRACTION_BITS = 18
LOG_BITS = 5 + FRACTION_BITS
BITS_BITS = COUNT_BITS + LOG_BITS
"""Of n log2(n), at most 2^24 * 24."""

INDEX_BITS, REST_BITS = 8, 12
_LINES, _ONE = 1 << INDEX_BITS, 1 << FRACTION_BITS
TABLE = tuple(round(math.log2(1 + i / _LINES) * _ONE) for i in range(_LINES + 1))
LOG_ERROR = 2.0**-16
"""Bound of |log2_of(c) / 2^18 - log2(c)|. A chord is off by h^2 / (8 ln 2) = 2.8e-6 at most, h = 1/256; bits below the
rest count for 2^-20 / ln 2 = 1.4e-6; rounding the table and rounding the product, for 2^-19 each. In all 7.9e-6."""

ENTROPY_ERROR = 2 * LOG_ERROR
"""Bound of |entropy - that of the histogram|, in bits a value: log2(n) has one such error, and so has the mean of the
log2(c)."""


def log2_of(count: int) -> int:
    """About 2^18 log2(count) of 1 to 2^24 - 1: from the exponent, a table of 257 entries, and a line between two."""
    exponent = count.bit_length() - 1
    fraction = (count << (COUNT_BITS - 1 - exponent)) - (1 << (COUNT_BITS - 1))
    index = fraction >> (COUNT_BITS - 1 - INDEX_BITS)
    rest = fraction >> (COUNT_BITS - 1 - INDEX_BITS - REST_BITS) & ((1 << REST_BITS) - 1)
    step = (TABLE[index + 1] - TABLE[index]) * rest + (1 << (REST_BITS - 1)) >> REST_BITS
    return (exponent << FRACTION_BITS) + TABLE[index] + step


@dataclass(frozen=True, slots=True)
class Profiled:
    """Of n values: `histogram[b]` counts those whose two's complement is b. `lowest`, `highest`, and the largest and
    the smallest magnitude that isn't 0, `most` and `least`; 0 without any. All of these are exact.

    `bits` is n times the entropy and `octaves` log2(most / least), both times 2^18 and rounded as `log2_of` does.
    """

    histogram: tuple[int, ...]
    lowest: int
    highest: int
    most: int
    least: int
    bits: int
    octaves: int

    @classmethod
    def of(cls, values: NDArray[np.int8]) -> Self:
        """Fewer than 2^24 values of any shape."""
        counts = tuple(np.bincount(values.reshape(-1).view(np.uint8), minlength=256).tolist())
        present = [b - 256 if b > 127 else b for b in range(256) if counts[b]]
        sizes = [abs(value) for value in present if value]
        terms = sum(c * log2_of(c) for c in counts if c)
        return cls(
            counts,
            min(present, default=0),
            max(present, default=0),
            max(sizes, default=0),
            min(sizes, default=0),
            max(0, values.size * log2_of(values.size) - terms) if values.size else 0,
            log2_of(max(sizes)) - log2_of(min(sizes)) if sizes else 0,
        )

    @property
    def total(self) -> int:
        """How many values there were."""
        return sum(self.histogram)

    @property
    def entropy(self) -> float:
        """Order-0 entropy in bits a value, within ENTROPY_ERROR; 0 without values."""
        return self.bits / _ONE / self.total if self.total else 0.0

    @property
    def sparsity(self) -> float:
        """The fraction of zeros; 0 without values."""
        return self.histogram[0] / self.total if self.total else 0.0

    @property
    def dynamic_range(self) -> float:
        """log2 of largest over smallest nonzero magnitude, within 2 LOG_ERROR; 0 without any."""
        return self.octaves / _ONE
