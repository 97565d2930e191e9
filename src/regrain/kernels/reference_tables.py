"""Frequencies and alias tables of the reference coder (docs/rans.md derives them)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SYMBOLS = 16
TOTAL = 256
"""Frequencies of a table sum to this: 8 bits of precision."""

MOST = TOTAL - 1
"""Largest frequency: it fits a byte, and the state never leaves 16 bits."""

LOG2: tuple[int, ...] = (0, *(round(65536 * math.log2(f)) for f in range(1, TOTAL + 1)))
"""LOG2[f] = round(65536 * log2(f)); LOG2[0] is never used. No entry is near a half (a test holds
every one against exact integers), so any sound log2 gives the same table."""


@dataclass(frozen=True)
class Alias:
    """The alias table of one frequency vector, unfolded; slots are the low 8 bits of a state.

    symbol: (256,) uint8, symbol of each slot.
    offset: (256,) uint32, rank of the slot among the slots of its symbol, 0 <= offset < freq.
    freq: (256,) uint32, frequency of the slot's symbol.
    slot: (16, 256) uint32, the inverse: slot[symbol[i], offset[i]] == i.
    """

    symbol: NDArray[np.uint8]
    offset: NDArray[np.uint32]
    freq: NDArray[np.uint32]
    slot: NDArray[np.uint32]


def buckets(freq: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
    """Give the 16 buckets (threshold, symbol A, offset A, symbol B, offset B) of `freq`.

    The construction is normative, ties included. It never runs dry: before bucket b at most
    16 - b symbols have anything left, of a total of 16 * (16 - b) (docs/rans.md).
    """
    rest, used = list(freq), [0] * SYMBOLS
    table = []
    for _ in range(SYMBOLS):
        small = min((s for s in range(SYMBOLS) if rest[s]), key=lambda s: (rest[s], s))
        threshold = min(rest[small], 16)
        offset = used[small]
        used[small] += threshold
        rest[small] -= threshold
        if threshold == 16:
            table.append((threshold, small, offset, small, offset))
            continue
        large = max(range(SYMBOLS), key=lambda s: (rest[s], -s))
        table.append((threshold, small, offset, large, (used[large] - threshold) % TOTAL))
        used[large] += 16 - threshold
        rest[large] -= 16 - threshold
    return table


@lru_cache(maxsize=256)
def alias(freq: tuple[int, ...]) -> Alias:
    """Unfold the buckets of `freq` (16 frequencies that sum to 256, each at most 255)."""
    symbol = np.zeros(TOTAL, np.uint8)
    offset = np.zeros(TOTAL, np.uint32)
    for b, (threshold, symbol_a, offset_a, symbol_b, offset_b) in enumerate(buckets(freq)):
        for low in range(16):
            first = low < threshold
            symbol[16 * b + low] = symbol_a if first else symbol_b
            offset[16 * b + low] = (low + (offset_a if first else offset_b)) % TOTAL
    slot = np.zeros((SYMBOLS, TOTAL), np.uint32)
    slot[symbol, offset] = np.arange(TOTAL, dtype=np.uint32)
    return Alias(symbol, offset, np.asarray(freq, np.uint32)[symbol], slot)


def normalize(counts: Sequence[int]) -> tuple[int, ...]:
    """Turn 16 counts (each below 2^47, not all zero) into frequencies that sum to 256.

    A symbol that occurs gets 1 to 255, any other 0. A lone symbol gets 255, and the lowest other
    one 1. Rounding is mended one unit at a time where it costs the fewest bits, in integers only,
    the lowest symbol first on ties: every encoder that does the same gets the same table.
    """
    counts = [int(c) for c in counts]
    if len(counts) != SYMBOLS or min(counts) < 0 or max(counts) == 0:
        raise ValueError(f"counts must be 16 numbers >= 0 and not all 0, not {counts!r}")
    present = [s for s in range(SYMBOLS) if counts[s]]
    freq = [0] * SYMBOLS
    if len(present) == 1:
        freq[present[0]] = MOST
        freq[0 if present[0] else 1] = TOTAL - MOST
        return tuple(freq)
    total = sum(counts)
    for s in present:
        freq[s] = min(max(1, TOTAL * counts[s] // total), MOST)

    def price(s: int, upper: int) -> int:
        """Bits (times 65536) that symbol s saves by having `upper` instead of `upper` - 1."""
        return counts[s] * (LOG2[upper] - LOG2[upper - 1])

    while sum(freq) > TOTAL:
        freq[min((s for s in present if freq[s] > 1), key=lambda s: (price(s, freq[s]), s))] -= 1
    while sum(freq) < TOTAL:
        freq[max((s for s in present if freq[s] < MOST), key=lambda s: (price(s, freq[s] + 1), -s))] += 1
    return tuple(freq)
