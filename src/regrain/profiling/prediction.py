"""The size of a tensor's payload, predicted from histograms without coding anything.

The layout is that of docs/format.md: a head, one table or several, blocks of at most 64K words with 64 coder states
each, and raw planes beside the coded symbols.
"""

from __future__ import annotations

import math

import numpy as np

from regrain.core.dtypes import Words
from regrain.profiling.entropy import Histogram, coded_bytes

BLOCK_WORDS = 65536
LANES = 64
HEAD = 56  # fixed fields and checksum
TABLE = 17
INDEX_ENTRY = 12
MAX_TABLES = 16
STATES = 96
"""Bytes that a block's states cost beside the information in its symbols: 64 states of 16 bits are stored, their high
bit is known, and a state drawn from the coder's 1/x law over 256 to 65535 holds 4 bits of the symbols on average."""
CARRIED = 60
"""Bytes that come back when the initial states carry 64 raw bytes: all of them, less the slightly higher start."""
MAX_RAW = 24


class FloatPrediction:
    """Predicts the payload of words that are sign, exponent and `mantissa_bits` of mantissa.

    Words come in order, through `add`. The prediction is the cheapest of: each block its own table and raw width; one
    table; rows sorted into classes by their raw width. The encoder also sorts rows by scale, so it may do better.
    """

    def __init__(self, word_bytes: int, mantissa_bits: int, row_words: int, count: int) -> None:
        self._mantissa, self._count, self._row_words = mantissa_bits, count, row_words
        self._bins = 1 << (8 * word_bytes - 1 - mantissa_bits)
        whole_rows = 0 < row_words <= BLOCK_WORDS
        self._block_words = BLOCK_WORDS // row_words * row_words if whole_rows else BLOCK_WORDS
        self._word_bytes = word_bytes
        self._classes: dict[int, Histogram] = {}
        self._class_raw_bits = 0
        self._own = 0.0
        self._block = np.zeros(self._bins, np.int64)
        self._block_or, self._block_and = 0, -1
        self._blocks = 0
        self.histogram = np.zeros(self._bins, np.int64)
        """Of the exponent field."""
        self._or = 0
        self._row_low_zeros = 0
        self._rows = 0

    def add(self, words: Words, fields: Words) -> None:
        """The next words, as (rows, columns), and the exponent field of each, alike.

        Rows are whole wherever a row fits a block.
        """
        self._add_blocks(words.reshape(-1), fields.reshape(-1))
        self._add_rows(words, fields)

    def _add_blocks(self, words: Words, fields: Words) -> None:
        start = 0
        while start < words.size:
            room = self._block_words - int(self._block.sum())
            piece = words[start : start + room]
            self._block += np.bincount(fields[start : start + room], minlength=self._bins)
            self._block_or |= int(np.bitwise_or.reduce(piece))
            self._block_and &= int(np.bitwise_and.reduce(piece))
            start += piece.size
            if piece.size == room:
                self._close_block()

    def _close_block(self) -> None:
        words = int(self._block.sum())
        if words == 0:
            return
        self.histogram += self._block
        self._or |= self._block_or
        self._blocks += 1
        if self._block_or == self._block_and:
            self._own += self._word_bytes
        else:
            width = self._raw_bits(self._block_or)
            self._own += TABLE + coded_bytes(self._block) + _raw_and_states(words, width)
        self._block[:] = 0
        self._block_or, self._block_and = 0, -1

    def _add_rows(self, words: Words, fields: Words) -> None:
        if words.shape[1] != self._row_words or self._row_words < LANES:
            return
        used = np.bitwise_or.reduce(words, axis=1)
        widths = np.array([self._raw_bits(int(word)) for word in used])
        self._rows += widths.size
        self._row_low_zeros += sum(self._zeros(int(word)) for word in used)
        self._class_raw_bits += int(widths.sum()) * self._row_words
        for width in np.unique(widths):
            chosen = fields if (widths == width).all() else fields[widths == width]
            counts = np.bincount(chosen.reshape(-1), minlength=self._bins)
            self._classes[int(width)] = self._classes.get(int(width), 0) + counts

    def _zeros(self, used: int) -> int:
        """Low mantissa bits that are zero in `used`, the OR of some words."""
        mantissa = used & ((1 << self._mantissa) - 1)
        return self._mantissa if mantissa == 0 else (mantissa & -mantissa).bit_length() - 1

    def _raw_bits(self, used: int) -> int:
        """Bits a word needs beside its exponent: none if sign and mantissa are all zero, else the sign and the
        mantissa's high part.
        """
        zeros = self._zeros(used)
        sign = used >> (8 * self._word_bytes - 1)
        return 0 if zeros == self._mantissa and not sign else 1 + self._mantissa - zeros

    def low_zeros(self) -> tuple[int, float | None]:
        """Low mantissa bits that are zero in all words; the same for each row, mean over the rows.

        Rows of fewer than 64 words or more than a block are not looked at one by one: None.
        """
        self._close_block()
        return self._zeros(self._or), self._row_low_zeros / self._rows if self._rows else None

    def payload_bytes(self) -> int:
        """Bytes of the payload of all the words that were added."""
        self._close_block()
        blocks = self._blocks
        tail = self._count - (blocks - 1) * self._block_words
        width = self._raw_bits(self._or)
        planes = (blocks - 1) * _raw_and_states(self._block_words, width) + _raw_and_states(tail, width)
        best = min(self._own, TABLE + coded_bytes(self.histogram) + planes)
        if 1 < len(self._classes) <= MAX_TABLES:
            symbols = sum(TABLE + coded_bytes(counts) for counts in self._classes.values())
            states = blocks * (STATES - (CARRIED if width >= 8 else 0))
            best = min(best, symbols + states + self._rows / 2 + self._class_raw_bits / 8)
        return _padded(HEAD + INDEX_ENTRY * blocks + best)


class IntegerPrediction:
    """Predicts the payload of integers: the high bits above the smallest one coded, the low bits raw.

    `words` are all of the tensor's words; they come again, in pieces, through `add`.
    """

    def __init__(self, words: Words, *, signed: bool) -> None:
        numbers = words.view(f"{'i' if signed else 'u'}{words.itemsize}")
        smallest, largest = int(numbers.min()), int(numbers.max())
        self._base = smallest % (1 << 8 * words.itemsize)
        self._low_bits = max(0, (largest - smallest).bit_length() - 8)
        self._histogram: Histogram = np.zeros(256, np.int64)

    def add(self, words: Words) -> None:
        """The next words, any shape."""
        above = words.reshape(-1) - words.dtype.type(self._base)
        above >>= words.dtype.type(self._low_bits)
        self._histogram += np.bincount(above.astype(np.uint8), minlength=256)

    def payload_bytes(self) -> int | None:
        """Bytes of the payload with the cheapest number of raw bits; None if more than 24 would have to be raw."""
        histogram, best = self._histogram, math.inf
        count = int(histogram.sum())
        blocks = -(-count // BLOCK_WORDS)
        tail = count - (blocks - 1) * BLOCK_WORDS
        for raw in range(self._low_bits, min(MAX_RAW, self._low_bits + 7) + 1):
            planes = (blocks - 1) * _raw_and_states(BLOCK_WORDS, raw) + _raw_and_states(tail, raw)
            best = min(best, coded_bytes(histogram) + planes)
            histogram = histogram.reshape(-1, 2).sum(axis=1)
        return None if best == math.inf else _padded(HEAD + TABLE + INDEX_ENTRY * blocks + best)


def _raw_and_states(words: int, width: int) -> float:
    """Bytes of a block's raw planes, whole steps of 64 words, and its states."""
    return -(-words // LANES) * LANES * width / 8 + STATES - (CARRIED if width >= 8 else 0)


def _padded(size: float) -> int:
    """Payloads end at multiples of 8 bytes."""
    return -(-int(size) // 8) * 8
