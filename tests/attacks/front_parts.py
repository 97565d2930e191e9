"""What quantized and pruned payloads have in common: a front with a checksum, and two readers that must agree."""

import struct
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels.fault import PayloadFault

SEED = 11
CHANGES = st.lists(st.tuples(st.integers(4, 40), st.integers(0, 255)), max_size=4)
CUTS = st.integers(0, 3)


def sealed(body: bytes, behind: bytes = b"") -> bytes:
    """A front with its checksum, and what stands behind it."""
    prefix = struct.pack("<II", SEED, 0xFFFFFFFE)
    return body + struct.pack("<I", kernels.crc32c(prefix + body)) + behind


def altered(payload: bytes, changes: Iterable[tuple[int, int]], cut: int) -> bytes:
    """A payload that is all front, cut short and with other bytes; its checksum is right."""
    body = payload[:-4]
    data = bytearray(body[: len(body) - cut])
    for place, value in changes:
        data[place % len(data)] = value
    return sealed(bytes(data))


@dataclass(frozen=True)
class Readers:
    """The fast reader and the plain one: a payload to the bytes of its numbers. Both raise PayloadFault."""

    fast: Callable[[bytes], bytes]
    plain: Callable[[bytes], bytes]

    def refuse(self, payload: bytes) -> str:
        """Both must; why the fast one does."""
        with pytest.raises(PayloadFault) as caught:
            self.fast(payload)
        with pytest.raises(PayloadFault):
            self.plain(payload)
        return str(caught.value)

    def agree(self, payload: bytes) -> None:
        """Both must read the same, or refuse."""
        assert _outcome(self.fast, payload) == _outcome(self.plain, payload)

    def check_flips(self, payload: bytes, count: int) -> None:
        """No flipped bit goes unseen: at the front, and at so many places of all."""
        self.fast(payload)
        rng = np.random.default_rng(1)
        places = set(range(min(64, len(payload)))) | set(rng.integers(0, len(payload), count).tolist())
        for place in sorted(places):
            damaged = bytearray(payload)
            damaged[place] ^= 1 << int(rng.integers(8))
            self.refuse(bytes(damaged))

    def check_lengths(self, payload: bytes) -> None:
        """No other length is taken."""
        for size in {*range(40), len(payload) // 2, len(payload) - 8, len(payload) - 1} & set(range(len(payload))):
            self.refuse(payload[:size])
        self.refuse(payload + b"\0")
        self.refuse(payload + bytes(8))

    def check_memory(self, payloads: Iterable[bytes]) -> None:
        """All are refused before much memory is asked for."""
        tracemalloc.start()
        for payload in payloads:
            with pytest.raises(PayloadFault):
                self.fast(payload)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


def _outcome(read: Callable[[bytes], bytes], payload: bytes) -> bytes | None:
    try:
        return read(payload)
    except PayloadFault:
        return None
