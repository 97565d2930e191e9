"""What fronts of quantized and of pruned payloads have in common: values and a checksum (docs/format.md, 6 and 9)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.grid import HIGHEST, LOWEST
from regrain.codecs.numbers import CODED, MOST_PACKED, Cursor, coded_size, decode_list, encode_list, unpack, varint
from regrain.core.dtypes import Bytes
from regrain.kernels.fault import PayloadFault

Fetch = Callable[[int, int], bytes]
"""Gives `count` bytes of a payload from `start` on."""

DTYPES = kernels.WEIGHTS
"""Element types that can be quantized or pruned, in the order of their numbers in a payload."""

WORDS: dict[str, np.dtype[Any]] = {name: np.dtype("<u4" if name == "F32" else "<u2") for name in DTYPES}
"""The words of each."""

STORED = 0
"""The form of a list of words that stand as they are."""

_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23}
_SEALED = 0xFFFFFFFE  # the number of the front among a tensor's checksums
_RARE = 1000  # outliers pay below one in so many weights
_PLACE, _INDEX = np.dtype(np.uint32), np.dtype(np.int16)


@dataclass(frozen=True, slots=True)
class Values:
    """Indices or words of a payload, checked. `kind` is their integer type.

    They are `packed`, or the `coded` payload of so many bytes at that offset; `places` and `outliers` are the elements
    whose index is another than the one there.
    """

    count: int
    kind: np.dtype[Any]
    packed: NDArray[Any] | None
    coded: tuple[int, int]
    places: NDArray[np.int64]
    outliers: NDArray[np.int16]

    def put_outliers(self, first: int, numbers: NDArray[Any]) -> NDArray[Any]:
        """Elements from `first` on with the outliers among them: the same array, or a wider one."""
        begin, end = np.searchsorted(self.places, (first, first + numbers.size))
        if begin < end:
            numbers = numbers.astype(np.int16)
            numbers[self.places[begin:end] - first] = self.outliers[begin:end]
        return numbers


_NOWHERE, _NONE = np.empty(0, np.int64), np.empty(0, np.int16)


def encode_indices(
    indices: NDArray[Any], places: NDArray[np.int64], outliers: NDArray[np.int16], row: int, seed: int, threads: int
) -> tuple[bytes, Bytes]:
    """Outliers and indices as `split_outliers` gives them: what stands in the front, and the payload behind it."""
    front = bytearray(varint(places.size))
    if places.size:
        for numbers in (_gaps(places), outliers):
            front += whole_list(numbers, 0, seed, threads)
    listed, payload = encode_list(indices, row, seed, threads)
    return bytes(front + listed), payload


def index_values(cursor: Cursor, count: int, kind: np.dtype[Any], seed: int) -> Values:
    """What `encode_indices` put into the front."""
    places, outliers = _read_outliers(cursor, count, seed)
    form = cursor.byte()
    if form == CODED:
        size = coded_size(cursor, count, behind=4)
        return Values(count, kind, None, (cursor.at + 4, size), places, outliers)
    return Values(count, kind, unpack(cursor, form, count, kind), (0, 0), places, outliers)


def encode_words(words: NDArray[Any], dtype: str, row: int, seed: int, threads: int) -> tuple[bytes, Bytes]:
    """Words of floats of that type, at least one: what stands in the front, and the payload behind it."""
    payload = kernels.encode(
        words, family=kernels.FLOAT, mantissa_bits=_MANTISSA[dtype], row_words=row, seed=seed, threads=threads
    )
    assert payload is not None  # floats always fit
    front = bytes([CODED]) + varint(payload.size)
    if words.size <= MOST_PACKED and words.nbytes < len(front) + payload.size:
        return bytes([STORED]) + words.tobytes(), np.empty(0, np.uint8)
    return front, payload


def word_values(cursor: Cursor, count: int, dtype: str) -> Values:
    """What `encode_words` put into the front."""
    kind, form = WORDS[dtype], cursor.byte()
    if form == CODED:
        size = coded_size(cursor, count, behind=4)
        return Values(count, kind, None, (cursor.at + 4, size), _NOWHERE, _NONE)
    if form != STORED:
        raise PayloadFault(None, f"words must be of form {STORED} or {CODED}, not {form}")
    if count > MOST_PACKED:
        raise PayloadFault(None, f"at most {MOST_PACKED} words must be stored, not {count}")
    words = np.frombuffer(cursor.take(count * kind.itemsize), kind)
    return Values(count, kind, words, (0, 0), _NOWHERE, _NONE)


def whole_list(numbers: NDArray[Any], row: int, seed: int, threads: int) -> bytes:
    """A list within the front: its form and all its bytes."""
    listed, payload = encode_list(numbers, row, seed, threads)
    return listed + payload.tobytes()


def read_codes(cursor: Cursor, grid: tuple[int, int], seed: int) -> NDArray[np.int16]:
    """The list of the scale codes of a grid."""
    codes: NDArray[np.int16] = decode_list(cursor, grid[0] * grid[1], _INDEX, seed).reshape(grid)
    if codes.min() < LOWEST or codes.max() > HIGHEST:
        raise PayloadFault(None, f"scale codes must be {LOWEST} to {HIGHEST}, not {codes.min()} to {codes.max()}")
    return codes


def sealed(front: bytes | bytearray, seed: int) -> bytes:
    """The front with its checksum."""
    whole = bytes(front)
    return whole + struct.pack("<I", _checksum(seed, whole))


def check_seal(cursor: Cursor, seed: int) -> None:
    """Take the checksum, which must be that of all bytes before it."""
    found = _checksum(seed, cursor.taken())
    stated = int.from_bytes(cursor.take(4), "little")
    if found != stated:
        raise PayloadFault(None, f"the front's checksum must be {stated:08x}, not {found:08x}")


def split_outliers(indices: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int16]]:
    """Indices as they are stored, and the places and values of outliers: int8 unless too many do not fit it."""
    flat = indices.reshape(-1)
    kept = flat.astype(np.int8) if flat.itemsize > 1 else flat
    if flat.itemsize == 1 or np.array_equal(kept, flat):
        return kept, _NOWHERE, _NONE
    places = np.flatnonzero(kept != flat)
    if places.size * _RARE >= flat.size or np.diff(places, prepend=-1).max() > 2**32:
        return flat.astype(np.int16), _NOWHERE, _NONE
    kept[places] = np.clip(flat[places], -128, 127)
    return kept, places, flat[places].astype(np.int16)


def _read_outliers(cursor: Cursor, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    found = cursor.varint()
    if found > count:
        raise PayloadFault(None, f"there must be at most {count} outliers, not {found}")
    if not found:
        return _NOWHERE, _NONE
    places = np.cumsum(decode_list(cursor, found, _PLACE, seed).astype(np.int64) + 1) - 1
    if places[-1] >= count:
        raise PayloadFault(None, f"an outlier must be among {count} weights, not at {places[-1]}")
    return places, decode_list(cursor, found, _INDEX, seed)


def _gaps(places: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (np.diff(places, prepend=-1) - 1).astype(np.uint32)


def _checksum(seed: int, front: bytes) -> int:
    return kernels.crc32c(front, kernels.crc32c(struct.pack("<II", seed, _SEALED)))
