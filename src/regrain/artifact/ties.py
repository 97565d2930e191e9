"""Finding tensors with the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regrain.artifact.header import Entry
from regrain.artifact.source import CHUNK
from regrain.core.dtypes import Bytes
from regrain.kernels import crc32c

MIN_BYTES = 64
"""Smaller tensors are never tied: naming the other one would cost as much."""

_Key = tuple[str, tuple[int, ...], bytes]


class Ties:
    """The tensors seen so far, by dtype, shape and a sample of their bytes.

    A sample costs nothing beside a checksum of everything, and tells nearly all tensors apart; where it does not,
    CRC-32C and then the bytes themselves decide.
    """

    def __init__(self, read: Callable[[str], Bytes]) -> None:
        self._read = read
        self._seen: dict[_Key, list[str]] = {}
        self._crcs: dict[str, int] = {}

    def find(self, name: str, entry: Entry, data: Bytes) -> str | None:
        """An earlier tensor that equals this one in dtype, shape and every byte; if there is none, note this one."""
        if data.size < MIN_BYTES:
            return None
        group = self._seen.setdefault((entry.dtype, entry.shape, _sample(data)), [])
        for other in group:
            if self._crc(other) == self._crc(name, data) and _equal(self._read(other), data):
                return other
        group.append(name)
        return None

    def _crc(self, name: str, data: Bytes | None = None) -> int:
        if name not in self._crcs:
            self._crcs[name] = crc32c(self._read(name) if data is None else data)
        return self._crcs[name]


def _sample(data: Bytes) -> bytes:
    middle = data.size // 2
    return data[:64].tobytes() + data[middle : middle + 64].tobytes() + data[-64:].tobytes()


def _equal(a: Bytes, b: Bytes) -> bool:
    """np.array_equal in pieces: it makes an array as large as what it compares."""
    return all(np.array_equal(a[i : i + CHUNK], b[i : i + CHUNK]) for i in range(0, a.size, CHUNK))
