"""Plain reader of the quantized payload `rgQ1` (docs/format.md, 6): the yardstick of the fast one.

Written to be read, in NumPy and Python alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_crc import seeded_crc32c
from regrain.kernels.reference_decode import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

OCTAVE = np.array(
    [0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7, 0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7], np.uint32
).view(np.float32)
"""2^(r/8), rounded to float32."""

_FRONT = 0xFFFFFFFE
_CODED = 255
_MOST_PACKED = 65536


@dataclass(frozen=True)
class Decoded:
    """What a payload holds: (rows, columns) int32 indices, scale codes, and the weights' words."""

    dtype: int
    cell: tuple[int, int]
    codes: NDArray[np.int16]
    indices: NDArray[np.int32]
    words: NDArray[np.unsignedinteger[Any]]


class _Reader:
    def __init__(self, data: bytes, seed: int) -> None:
        self.data, self.seed, self.at = data, seed, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise PayloadFault(None, f"payload must not end at {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        digits = [self.take(1)[0]]
        while digits[-1] >= 128:
            digits.append(self.take(1)[0])
        if len(digits) > 9 or (digits[-1] == 0 and len(digits) > 1):
            raise PayloadFault(None, f"a number must have 1 to 9 bytes and no leading 0, not {digits!r}")
        return sum((digit & 127) << 7 * i for i, digit in enumerate(digits))

    def packed(self, width: int, count: int, bits: int) -> NDArray[np.int64]:
        if width > bits or count > _MOST_PACKED:
            raise PayloadFault(None, f"{count} packed numbers must not have {width} bits")
        zigzag = self.number()
        base = -(zigzag + 1) // 2 if zigzag & 1 else zigzag // 2
        whole = int.from_bytes(self.take((count * width + 7) // 8), "little")
        numbers = [base + (whole >> i * width & ((1 << width) - 1)) for i in range(count)]
        if whole >> count * width:
            raise PayloadFault(None, "bits after the last packed number must be 0")
        return np.array(numbers, np.int64)

    def payload(self, size: int, count: int, word_bytes: int) -> NDArray[np.unsignedinteger[Any]]:
        payload = self.take(size)
        words = decode(payload, seed=self.seed)
        if words.size != count or words.itemsize != word_bytes or payload[4] != 1:
            raise PayloadFault(None, f"a coded list must be {count} integers of {word_bytes} bytes")
        return words

    def listed(self, count: int, dtype: type[np.integer[Any]]) -> NDArray[np.int64]:
        form, kind = self.take(1)[0], np.dtype(dtype)
        if form == _CODED:
            words = self.payload(self.number(), count, kind.itemsize)
            return words.view(kind).astype(np.int64)
        numbers = self.packed(form, count, 8 * kind.itemsize)
        _check(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max)
        return numbers


def decode_quantized(payload: bytes, *, seed: int) -> Decoded:
    """Decode a whole payload. `seed` is the CRC-32C of the tensor's name. Raises PayloadFault."""
    reader = _Reader(bytes(payload), seed)
    if reader.take(4) != b"rgQ1":
        raise PayloadFault(None, "payload must start with rgQ1")
    dtype, width = reader.take(2)
    if dtype > 2 or width not in (1, 2):
        raise PayloadFault(None, f"dtype must be 0 to 2 and an index 1 or 2 bytes, not {dtype!r} and {width!r}")
    rows, columns, down, across = (reader.number() for _ in range(4))
    if not (1 <= down <= rows and 1 <= across <= columns and rows * columns < 2**60):
        raise PayloadFault(None, "cell must be within the matrix")
    grid = (rows + down - 1) // down, (columns + across - 1) // across
    codes = reader.listed(grid[0] * grid[1], np.int16).reshape(grid)
    _check(codes, -1008, 1023)
    places, outliers = [], np.zeros(0, np.int64)
    if found := reader.number():
        if found > rows * columns:
            raise PayloadFault(None, "there must not be more outliers than weights")
        at = -1
        for gap in reader.listed(found, np.uint32).tolist():
            at += gap + 1
            places.append(at)
        if at >= rows * columns:
            raise PayloadFault(None, "outliers must be among the weights")
        outliers = reader.listed(found, np.int16)
    indices = _indices(reader, rows * columns, width)
    indices[places] = outliers
    indices = indices.reshape(rows, columns)
    scales = np.ldexp(OCTAVE[codes % 8], codes // 8)
    expanded = scales.repeat(down, axis=0)[:rows].repeat(across, axis=1)[:, :columns]
    words = _words(indices.astype(np.float32) * expanded, dtype)
    return Decoded(dtype, (down, across), codes.astype(np.int16), indices.astype(np.int32), words)


def _indices(reader: _Reader, count: int, width: int) -> NDArray[np.int64]:
    """The indices, after the checksum of all that stands before them, themselves included where they are packed."""
    kind: type[np.integer[Any]] = np.int8 if width == 1 else np.int16
    form, size = reader.take(1)[0], 0
    if form == _CODED:
        size = reader.number()
        indices = np.zeros(0, np.int64)
    else:
        indices = reader.packed(form, count, 8 * width)
        _check(indices, np.iinfo(kind).min, np.iinfo(kind).max)
    found = seeded_crc32c(reader.data[: reader.at], reader.seed, _FRONT)
    if int.from_bytes(reader.take(4), "little") != found:
        raise PayloadFault(None, "the front's checksum is wrong")
    if form == _CODED:
        indices = reader.payload(size, count, width).view(kind).astype(np.int64)
    if reader.at != len(reader.data):
        raise PayloadFault(None, f"payload must end at {reader.at}")
    return indices


def _words(weights: NDArray[np.float32], dtype: int) -> NDArray[np.unsignedinteger[Any]]:
    """Weights as words of their type, rounded to nearest, ties to even."""
    if dtype == 2:
        return weights.view(np.uint32)
    if dtype == 1:
        return weights.astype(np.float16).view(np.uint16)
    bits = weights.view(np.uint32).astype(np.uint64)
    below, upper = bits & 0xFFFF, bits >> 16
    up = (below > 0x8000) | ((below == 0x8000) & (upper & 1 == 1))
    words: NDArray[np.uint16] = (upper + up).astype(np.uint16)
    return words


def _check(numbers: NDArray[np.int64], least: int, most: int) -> None:
    if numbers.size and (numbers.min() < least or numbers.max() > most):
        raise PayloadFault(None, f"numbers must be {least} to {most}")
