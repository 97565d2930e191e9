"""What a codec is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from regrain.core.descriptor import Coder
from regrain.core.dtypes import Bytes, Words


class Codec(Protocol):
    """A lossless map between the words of one tensor and a payload; instances are frozen configuration.

    decode(encode(w)) == w, and encode(w).nbytes <= bound(w.size), for every w.
    """

    coder: ClassVar[Coder]
    stages: ClassVar[tuple[str, ...]]

    @property
    def word_bytes(self) -> int:
        """Bytes of one word."""
        ...

    def encode(self, words: Words, shape: Sequence[int], *, seed: int, threads: int = 1) -> Bytes | None:
        """The payload of a tensor of that shape; None when it would not be smaller than the words or cannot hold them.

        `seed` goes into every checksum: the CRC-32C of the tensor's name.
        """
        ...

    def decode(self, payload: Bytes, out: Words, *, seed: int, first: int | None = None, threads: int = 1) -> None:
        """Write all words into `out`, or words `first` to `first + out.size`, reading only the blocks that hold them.

        Raises regrain.kernels.PayloadFault for a payload that no encoder wrote for this seed, word size and range.
        """
        ...

    def bound(self, count: int) -> int:
        """The most bytes a payload of `count` words can have."""
        ...
