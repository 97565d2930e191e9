"""When a payload pays, and what a row is: shared by the codecs that code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from regrain.core.dtypes import Bytes, Words

MARGIN = 64
"""Bytes that a payload must save: its entry and descriptor are about that much longer than those of raw bytes."""


def smaller(payload: Bytes, words: Words) -> Bytes | None:
    """The payload, if it saves enough over the words."""
    return payload if payload.nbytes + MARGIN <= words.nbytes else None


def payload_count(payload: bytes) -> int:
    """The number of words that a payload's head states, unchecked (docs/format.md, 2.1)."""
    return int.from_bytes(payload[8:16], "little")


def most_words(nbytes: int) -> int:
    """The most words that a payload of so many bytes can hold: 65536 for each entry of the block index."""
    return nbytes // 12 * 65536


def row_words(shape: Sequence[int]) -> int:
    """Words of one slice along the first axis; 0 where there are no rows (a scalar or a vector)."""
    return math.prod(shape[1:]) if len(shape) > 1 else 0
