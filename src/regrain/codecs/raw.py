"""Raw: the words as they are, for element types whose statistics are not worth a coder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from regrain.core.descriptor import Coder
from regrain.core.dtypes import Bytes, Words
from regrain.kernels.fault import PayloadFault


@dataclass(frozen=True, slots=True)
class Raw:
    """Never pays, so `encode` gives None. The checksum of raw bytes stands in the manifest, not in a payload."""

    coder: ClassVar[Coder] = Coder.RAW
    stages: ClassVar[tuple[str, ...]] = ("checksum", "copy")

    word_bytes: int

    def encode(self, words: Words, shape: Sequence[int], *, seed: int, threads: int = 1) -> Bytes | None:
        """See Codec.encode."""
        return None

    def decode(self, payload: Bytes, out: Words, *, seed: int, first: int | None = None, threads: int = 1) -> None:
        """See Codec.decode."""
        begin = (first or 0) * self.word_bytes
        end = begin + out.nbytes
        if not 0 <= begin <= end <= payload.size or (first is None and end != payload.size):
            raise PayloadFault(None, f"{payload.size} raw bytes must hold bytes {begin} to {end}")
        out.view("u1")[:] = payload[begin:end]

    def bound(self, count: int) -> int:
        """See Codec.bound."""
        return count * self.word_bytes
