"""Integer planes: the high bits above a base coded by rANS, the low ones as raw planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from regrain import kernels
from regrain.codecs.pay import row_words, smaller
from regrain.core.descriptor import Coder
from regrain.core.dtypes import Bytes, Words


@dataclass(frozen=True, slots=True)
class IntegerPlanes:
    """Integers of `word_bytes` bytes; signedness does not matter, arithmetic is modulo 2^(8 word_bytes)."""

    coder: ClassVar[Coder] = Coder.RANS
    stages: ClassVar[tuple[str, ...]] = ("checksum", "rans", "integer planes")

    word_bytes: int

    def encode(self, words: Words, shape: Sequence[int], *, seed: int, threads: int = 1) -> Bytes | None:
        """See Codec.encode."""
        if words.size == 0:
            return None
        payload = kernels.encode(
            words, family=kernels.INTEGER, mantissa_bits=0, row_words=row_words(shape), seed=seed, threads=threads
        )
        return None if payload is None else smaller(payload, words)

    def decode(self, payload: Bytes, out: Words, *, seed: int, first: int | None = None, threads: int = 1) -> None:
        """See Codec.decode."""
        kernels.decode(payload, out, seed=seed, first=first, threads=threads)

    def bound(self, count: int) -> int:
        """See Codec.bound."""
        return kernels.bound(count, self.word_bytes)
