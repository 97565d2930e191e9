"""Float planes: the exponent's rank coded by rANS, sign and mantissa as raw planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from regrain import kernels
from regrain.codecs.pay import row_words, smaller
from regrain.core.descriptor import Coder
from regrain.core.dtypes import Bytes, Words


@dataclass(frozen=True, slots=True)
class FloatPlanes:
    """IEEE-like floats of `word_bytes` bytes: 1 sign bit, the exponent, `mantissa_bits` of mantissa."""

    coder: ClassVar[Coder] = Coder.RANS
    stages: ClassVar[tuple[str, ...]] = ("checksum", "rans", "float planes")

    word_bytes: int
    mantissa_bits: int

    def encode(self, words: Words, shape: Sequence[int], *, seed: int, threads: int = 1) -> Bytes | None:
        """See Codec.encode."""
        if words.size == 0:
            return None
        payload = kernels.encode(
            words,
            family=kernels.FLOAT,
            mantissa_bits=self.mantissa_bits,
            row_words=row_words(shape),
            seed=seed,
            threads=threads,
        )
        return None if payload is None else smaller(payload, words)

    def decode(self, payload: Bytes, out: Words, *, seed: int, first: int | None = None, threads: int = 1) -> None:
        """See Codec.decode."""
        kernels.decode(payload, out, seed=seed, first=first, threads=threads)

    def bound(self, count: int) -> int:
        """See Codec.bound."""
        return kernels.bound(count, self.word_bytes)
