"""Quantized tensors: whole-number indices times a grid of scales, as one payload `rgQ1` (docs/format.md, 6)."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.grid import HIGHEST, LOWEST, scales_of
from regrain.codecs.numbers import CODED, Cursor, coded_size, decode_list, encode_list, unpack, varint
from regrain.core.dtypes import Bytes
from regrain.kernels.fault import PayloadFault

MAGIC = b"rgQ1"
DTYPES = kernels.WEIGHTS
"""Element types that can be quantized, in the order of their numbers in a payload."""

STAGES = ("checksum", "rans", "integer planes", "dequantize")

_SEALED = 0xFFFFFFFE  # the number of the front among a tensor's checksums
_RARE = 1000  # outliers pay below one in so many weights
_INDEX: dict[int, np.dtype[Any]] = {1: np.dtype(np.int8), 2: np.dtype(np.int16)}
_WORD = {name: np.dtype("<u4" if name == "F32" else "<u2") for name in DTYPES}
_BYTES = {name: word.itemsize for name, word in _WORD.items()}
_PLACE, _CODE = np.dtype(np.uint32), np.dtype(np.int16)

Indices = NDArray[np.int8] | NDArray[np.int16] | NDArray[np.int32]


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix: the first axis and all others; a vector is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def grid_shape(rows: int, columns: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the grid of scales of a matrix."""
    return -(-rows // cell[0]), -(-columns // cell[1])


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A tensor as whole numbers times scales.

    `indices` has the tensor's shape. `cell` is (rows, columns) of the matrix that share a scale; the last cells of a
    row or a column may be smaller. `codes` is the grid of scale codes, (cells down, cells across), each LOWEST to
    HIGHEST (codecs/grid.py).

        tensor[i, j] = dtype(float32(indices[i, j]) * scale(codes[i // cell[0], j // cell[1]]))

    Raises ValueError unless all of it fits together.
    """

    indices: Indices
    codes: NDArray[np.int16]
    cell: tuple[int, int]

    def __post_init__(self) -> None:
        if self.indices.dtype not in (np.int8, np.int16, np.int32):
            raise ValueError(f"indices must be int8, int16 or int32, not {self.indices.dtype}")
        rows, columns = matrix_shape(self.indices.shape)
        if self.indices.size == 0:
            raise ValueError("indices must not be empty: keep an empty tensor lossless")
        if not (1 <= self.cell[0] <= rows and 1 <= self.cell[1] <= columns):
            raise ValueError(f"cell must be within the {rows} x {columns} matrix, not {self.cell!r}")
        grid = grid_shape(rows, columns, self.cell)
        if self.codes.dtype != np.int16 or self.codes.shape != grid:
            raise ValueError(f"codes must be int16 of shape {grid}, not {self.codes.dtype} of {self.codes.shape}")
        if self.codes.min() < LOWEST or self.codes.max() > HIGHEST:
            raise ValueError(f"codes must be {LOWEST} to {HIGHEST}, not {self.codes.min()} to {self.codes.max()}")
        least, most = int(self.indices.min()), int(self.indices.max())
        if least < -(2**15) or most >= 2**15:
            raise ValueError(f"indices must fit int16, not {least} to {most}: take larger scales, or keep it lossless")

    def digest(self) -> bytes:
        """The SHA-256 of all of it: equal if and only if every index, code and the cell are."""
        found = hashlib.sha256(repr((self.indices.shape, self.cell)).encode("ascii"))
        found.update(np.ascontiguousarray(self.codes).data)
        found.update(np.ascontiguousarray(self.indices, np.int16).data)
        return found.digest()

    def dequantized(self, dtype: str) -> Bytes:
        """The bytes of the tensor in that element type. Raises ValueError if a weight is not finite in it."""
        out = np.empty(self.indices.size * _BYTES[dtype], np.uint8)
        grid = kernels.Grid(scales_of(self.codes), *matrix_shape(self.indices.shape), self.cell, DTYPES.index(dtype))
        narrow = np.int8 if self.indices.itemsize == 1 else np.int16
        indices: NDArray[Any] = np.ascontiguousarray(self.indices, narrow)
        kernels.dequantize(indices.reshape(-1), grid, out)
        if not _finite(out, dtype):
            raise ValueError(f"weights must be finite as {dtype}: take smaller scales, or keep the tensor lossless")
        return out


@dataclass(frozen=True, slots=True)
class Front:
    """Everything of a payload but coded indices, checked. `grid` has the scales of `codes`.

    Indices are `packed`, or the `coded` payload of so many bytes at that offset; `places` and `outliers` are the
    elements whose index is another than the one there.
    """

    dtype: str
    index: np.dtype[Any]
    rows: int
    columns: int
    cell: tuple[int, int]
    codes: NDArray[np.int16]
    grid: kernels.Grid
    places: NDArray[np.int64]
    outliers: NDArray[np.int16]
    packed: NDArray[Any] | None
    coded: tuple[int, int]


def encode_quantized(quantized: Quantized, dtype: str, *, seed: int, threads: int = 1) -> Bytes:
    """The payload of a tensor of element type BF16, F16 or F32. `seed`: the CRC-32C of its name."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)} to be quantized, not {dtype!r}")
    rows, columns = matrix_shape(quantized.indices.shape)
    kept, places, values = split_outliers(quantized.indices)
    scales, payload = encode_list(quantized.codes, 0, seed, threads)
    front = bytearray(MAGIC + bytes([DTYPES.index(dtype), kept.itemsize]))
    for number in (rows, columns, *quantized.cell):
        front += varint(number)
    front += scales + payload.tobytes() + varint(places.size)
    if places.size:
        for numbers in (_gaps(places), values):
            listed, payload = encode_list(numbers, 0, seed, threads)
            front += listed + payload.tobytes()
    listed, payload = encode_list(kept, columns if rows > 1 else 0, seed, threads)
    front += listed
    front += struct.pack("<I", _checksum(seed, bytes(front)))
    return np.concatenate([np.frombuffer(front, np.uint8), payload])


def quantized_size(indices: Indices, codes: NDArray[np.int16], cell: tuple[int, int], threads: int = 1) -> int:
    """Bytes of the payload that `encode_quantized` makes of these."""
    return encode_quantized(Quantized(indices, codes, cell), "F32", seed=0, threads=threads).size


def split_outliers(indices: Indices) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int16]]:
    """Indices as they are stored, and the places and values of outliers: int8 unless too many do not fit it."""
    flat = indices.reshape(-1)
    kept = flat.astype(np.int8) if flat.itemsize > 1 else flat
    if flat.itemsize == 1 or np.array_equal(kept, flat):
        return kept, np.empty(0, np.int64), np.empty(0, np.int16)
    places = np.flatnonzero(kept != flat)
    if places.size * _RARE >= flat.size or np.diff(places, prepend=-1).max() > 2**32:
        return flat.astype(np.int16), np.empty(0, np.int64), np.empty(0, np.int16)
    kept[places] = np.clip(flat[places], -128, 127)
    return kept, places, flat[places].astype(np.int16)


def read_front(fetch: Callable[[int, int], bytes], size: int, *, seed: int) -> Front:
    """The front of a payload of `size` bytes, which `fetch(start, count)` gives. Raises PayloadFault."""
    cursor = Cursor(fetch, size)
    if cursor.take(4) != MAGIC:
        raise PayloadFault(None, f"payload must start with {MAGIC.decode()!r}")
    dtype, width = cursor.byte(), cursor.byte()
    if dtype >= len(DTYPES) or width not in _INDEX:
        raise PayloadFault(None, "dtype must be 0 to 2, and an index must have 1 or 2 bytes")
    index = _INDEX[width]
    rows, columns, down, across = (cursor.varint() for _ in range(4))
    if not (1 <= down <= rows and 1 <= across <= columns and rows * columns < 2**60):
        raise PayloadFault(None, f"cell must be within the {rows} x {columns} matrix, not {down} x {across}")
    grid = grid_shape(rows, columns, (down, across))
    codes: NDArray[np.int16] = decode_list(cursor, math.prod(grid), _CODE, seed).reshape(grid)
    if codes.min() < LOWEST or codes.max() > HIGHEST:
        raise PayloadFault(None, f"scale codes must be {LOWEST} to {HIGHEST}, not {codes.min()} to {codes.max()}")
    places, outliers = _read_outliers(cursor, rows * columns, seed)
    form, packed, coded = cursor.byte(), None, 0
    if form == CODED:
        coded = coded_size(cursor, rows * columns, behind=4)
    else:
        packed = unpack(cursor, form, rows * columns, index)
    found = _checksum(seed, cursor.taken())
    stated = int.from_bytes(cursor.take(4), "little")
    if found != stated:
        raise PayloadFault(None, f"the front's checksum must be {stated:08x}, not {found:08x}")
    if cursor.at + coded != size:
        raise PayloadFault(None, f"payload must have {cursor.at + coded} bytes, not {size}")
    if coded and fetch(cursor.at + 4, 1) != bytes([kernels.INTEGER]):
        raise PayloadFault(None, "indices must be a payload of integers")
    cell, where = (down, across), (cursor.at, coded)
    scales = kernels.Grid(scales_of(codes), rows, columns, cell, dtype)
    return Front(DTYPES[dtype], index, rows, columns, cell, codes, scales, places, outliers, packed, where)


def _read_outliers(cursor: Cursor, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    found = cursor.varint()
    if found > count:
        raise PayloadFault(None, f"there must be at most {count} outliers, not {found}")
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int16)
    places = np.cumsum(decode_list(cursor, found, _PLACE, seed).astype(np.int64) + 1) - 1
    if places[-1] >= count:
        raise PayloadFault(None, f"an outlier must be among {count} weights, not at {places[-1]}")
    return places, decode_list(cursor, found, _CODE, seed)


def read_indices(payload: NDArray[np.uint8], front: Front, *, seed: int, threads: int = 1) -> NDArray[Any]:
    """All indices of a payload, (rows * columns,), int8 or int16, outliers in their places. Raises PayloadFault."""
    if front.packed is not None:
        indices = front.packed
    else:
        indices = np.empty(front.rows * front.columns, front.index)
        start, size = front.coded
        words = indices.view(f"<u{front.index.itemsize}")
        kernels.decode(payload[start : start + size], words, seed=seed, threads=threads)
    if front.places.size:
        indices = indices.astype(np.int16)
        indices[front.places] = front.outliers
    return indices


def finish_weights(front: Front, first: int, out: Bytes) -> None:
    """Fill `out` with what `front` alone decides of the weights from `first` on: packed ones, and outliers."""
    count = out.size // _BYTES[front.dtype]
    if front.packed is not None:
        kernels.dequantize(front.packed[first : first + count], front.grid, out, first=first)
    begin, end = np.searchsorted(front.places, (first, first + count))
    if begin < end:
        places = front.places[begin:end]
        weights = front.outliers[begin:end].astype(np.float32) * scales_at(front, places)
        out.view(_WORD[front.dtype])[places - first] = _cast(weights, front.dtype)


def scales_at(front: Front, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scale of each of those elements."""
    rows, columns = np.divmod(places, front.columns)
    scales: NDArray[np.float32] = front.grid.scales[rows // front.cell[0], columns // front.cell[1]]
    return scales


def _cast(weights: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Weights as words of that type, rounded to nearest, ties to even."""
    if dtype == "F32":
        return weights.view(np.uint32)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return weights.astype(np.float16).view(np.uint16)
    bits = weights.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _finite(data: Bytes, dtype: str) -> bool:
    if dtype == "F32":
        return bool(np.isfinite(data.view(np.float32)).all())
    top = 0x7F80 if dtype == "BF16" else 0x7C00
    return bool(((data.view(np.uint16) & top) != top).all())


def _gaps(places: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (np.diff(places, prepend=-1) - 1).astype(np.uint32)


def _checksum(seed: int, front: bytes) -> int:
    return kernels.crc32c(front, kernels.crc32c(struct.pack("<II", seed, _SEALED)))
