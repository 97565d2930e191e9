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


class Reader:
    """Takes the parts of a payload from its start on. Raises PayloadFault."""

    def __init__(self, data: bytes, seed: int) -> None:
        self.data, self.seed, self.at = data, seed, 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise PayloadFault(None, f"payload must not end at {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        """A number of 7 bits a byte."""
        digits = [self.take(1)[0]]
        while digits[-1] >= 128:
            digits.append(self.take(1)[0])
        if len(digits) > 9 or (digits[-1] == 0 and len(digits) > 1):
            raise PayloadFault(None, f"a number must have 1 to 9 bytes and no leading 0, not {digits!r}")
        return sum((digit & 127) << 7 * i for i, digit in enumerate(digits))

    def packed(self, width: int, count: int, bits: int) -> NDArray[np.int64]:
        """A packed list behind its form."""
        if width > bits or count > _MOST_PACKED:
            raise PayloadFault(None, f"{count} packed numbers must not have {width} bits")
        zigzag = self.number()
        base = -(zigzag + 1) // 2 if zigzag & 1 else zigzag // 2
        whole = int.from_bytes(self.take((count * width + 7) // 8), "little")
        numbers = [base + (whole >> i * width & ((1 << width) - 1)) for i in range(count)]
        if whole >> count * width:
            raise PayloadFault(None, "bits after the last packed number must be 0")
        return np.array(numbers, np.int64)

    def payload(self, size: int, count: int, word_bytes: int, family: int = 1) -> NDArray[np.unsignedinteger[Any]]:
        """The words of a payload `rgP1`."""
        payload = self.take(size)
        words = decode(payload, seed=self.seed)
        if words.size != count or words.itemsize != word_bytes or payload[4] != family:
            raise PayloadFault(None, f"a coded list must be {count} words of {word_bytes} bytes, family {family}")
        return words

    def listed(self, count: int, dtype: type[np.integer[Any]]) -> NDArray[np.int64]:
        """A list with its form."""
        form, kind = self.take(1)[0], np.dtype(dtype)
        if form == _CODED:
            words = self.payload(self.number(), count, kind.itemsize)
            return words.view(kind).astype(np.int64)
        numbers = self.packed(form, count, 8 * kind.itemsize)
        _check(numbers, np.iinfo(dtype).min, np.iinfo(dtype).max)
        return numbers

    def codes(self, rows: int, columns: int, down: int, across: int) -> NDArray[np.int64]:
        """The grid of scale codes of a matrix, once its cell is known to be within it."""
        if not (1 <= down <= rows and 1 <= across <= columns):
            raise PayloadFault(None, "cell must be within the matrix")
        grid = (rows + down - 1) // down, (columns + across - 1) // across
        codes = self.listed(grid[0] * grid[1], np.int16).reshape(grid)
        _check(codes, -1008, 1023)
        return codes

    def seal(self) -> None:
        """The checksum of everything so far."""
        found = seeded_crc32c(self.data[: self.at], self.seed, _FRONT)
        if int.from_bytes(self.take(4), "little") != found:
            raise PayloadFault(None, "the front's checksum is wrong")

    def indices(self, count: int, width: int) -> NDArray[np.int64]:
        """Outliers and indices, with the checksum, which stands before coded ones."""
        places, outliers = self._outliers(count)
        kind: type[np.integer[Any]] = np.int8 if width == 1 else np.int16
        form = self.take(1)[0]
        if form == _CODED:
            size = self.number()
            self.seal()
            indices = self.payload(size, count, width).view(kind).astype(np.int64)
        else:
            indices = self.packed(form, count, 8 * width)
            _check(indices, np.iinfo(kind).min, np.iinfo(kind).max)
            self.seal()
        indices[places] = outliers
        return indices

    def _outliers(self, count: int) -> tuple[list[int], NDArray[np.int64]]:
        places, at = [], -1
        found = self.number()
        if not found:
            return [], np.zeros(0, np.int64)
        if found > count:
            raise PayloadFault(None, "there must not be more outliers than weights")
        for gap in self.listed(found, np.uint32).tolist():
            at += gap + 1
            places.append(at)
        if at >= count:
            raise PayloadFault(None, "outliers must be among the weights")
        return places, self.listed(found, np.int16)


def decode_quantized(payload: bytes, *, seed: int) -> Decoded:
    """Decode a whole payload. `seed` is the CRC-32C of the tensor's name. Raises PayloadFault."""
    reader = Reader(bytes(payload), seed)
    if reader.take(4) != b"rgQ1":
        raise PayloadFault(None, "payload must start with rgQ1")
    dtype, width = reader.take(2)
    if dtype > 2 or width not in (1, 2):
        raise PayloadFault(None, f"dtype must be 0 to 2 and an index 1 or 2 bytes, not {dtype!r} and {width!r}")
    rows, columns, down, across = (reader.number() for _ in range(4))
    if rows * columns >= 2**60:
        raise PayloadFault(None, "a matrix must have less than 2^60 elements")
    codes = reader.codes(rows, columns, down, across)
    indices = reader.indices(rows * columns, width).reshape(rows, columns)
    if reader.at != len(reader.data):
        raise PayloadFault(None, f"payload must end at {reader.at}")
    words = words_of(indices, codes, (down, across), dtype)
    return Decoded(dtype, (down, across), codes.astype(np.int16), indices.astype(np.int32), words)


def words_of(
    indices: NDArray[np.int64], codes: NDArray[np.int64], cell: tuple[int, int], dtype: int
) -> NDArray[np.unsignedinteger[Any]]:
    """The weights of a matrix of indices, as words of their type."""
    rows, columns = indices.shape
    scales = np.ldexp(OCTAVE[codes % 8], codes // 8)
    expanded = scales.repeat(cell[0], axis=0)[:rows].repeat(cell[1], axis=1)[:, :columns]
    return _words(indices.astype(np.float32) * expanded, dtype)


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
