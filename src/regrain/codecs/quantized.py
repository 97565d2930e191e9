"""Quantized tensors: whole-number indices times a grid of scales, as one payload `rgQ1` (docs/format.md, 6)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.front import (
    DTYPES,
    WORDS,
    Fetch,
    Values,
    check_seal,
    encode_indices,
    index_values,
    read_codes,
    sealed,
    split_outliers,
    whole_list,
)
from regrain.codecs.grid import HIGHEST, LOWEST, scales_of
from regrain.codecs.numbers import Cursor, varint
from regrain.core.dtypes import Bytes
from regrain.kernels.fault import PayloadFault

MAGIC = b"rgQ1"
STAGES = ("checksum", "rans", "integer planes", "dequantize")

INDEX: dict[int, np.dtype[Any]] = {1: np.dtype(np.int8), 2: np.dtype(np.int16)}
"""The types of indices as they are stored, by their bytes."""

_BYTES = {name: word.itemsize for name, word in WORDS.items()}

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
        check_indices(self.indices)
        if self.indices.size == 0:
            raise ValueError("indices must not be empty: keep an empty tensor lossless")
        check_codes(self.codes, self.cell, *matrix_shape(self.indices.shape))

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


def check_indices(indices: Indices) -> None:
    """Raise ValueError unless indices are of a type and a size that a payload can hold."""
    if indices.dtype not in (np.int8, np.int16, np.int32):
        raise ValueError(f"indices must be int8, int16 or int32, not {indices.dtype}")
    least, most = (int(indices.min()), int(indices.max())) if indices.size else (0, 0)
    if least < -(2**15) or most >= 2**15:
        raise ValueError(f"indices must fit int16, not {least} to {most}: take larger scales, or keep it lossless")


def check_codes(codes: NDArray[np.int16], cell: tuple[int, int], rows: int, columns: int) -> None:
    """Raise ValueError unless there is a code for each cell of the matrix."""
    if not (1 <= cell[0] <= rows and 1 <= cell[1] <= columns):
        raise ValueError(f"cell must be within the {rows} x {columns} matrix, not {cell!r}")
    grid = grid_shape(rows, columns, cell)
    if codes.dtype != np.int16 or codes.shape != grid:
        raise ValueError(f"codes must be int16 of shape {grid}, not {codes.dtype} of {codes.shape}")
    if codes.min() < LOWEST or codes.max() > HIGHEST:
        raise ValueError(f"codes must be {LOWEST} to {HIGHEST}, not {codes.min()} to {codes.max()}")


@dataclass(frozen=True, slots=True)
class Front:
    """Everything of a payload but coded indices, checked. `grid` has the scales of `codes`."""

    dtype: str
    rows: int
    columns: int
    cell: tuple[int, int]
    codes: NDArray[np.int16]
    grid: kernels.Grid
    indices: Values


def encode_quantized(quantized: Quantized, dtype: str, *, seed: int, threads: int = 1) -> Bytes:
    """The payload of a tensor of element type BF16, F16 or F32. `seed`: the CRC-32C of its name."""
    check_dtype(dtype, "quantized")
    rows, columns = matrix_shape(quantized.indices.shape)
    split = split_outliers(quantized.indices)
    front = bytearray(MAGIC + bytes([DTYPES.index(dtype), split[0].itemsize]))
    for number in (rows, columns, *quantized.cell):
        front += varint(number)
    front += whole_list(quantized.codes, 0, seed, threads)
    listed, payload = encode_indices(*split, columns if rows > 1 else 0, seed, threads)
    return np.concatenate([np.frombuffer(sealed(front + listed, seed), np.uint8), payload])


def quantized_size(indices: Indices, codes: NDArray[np.int16], cell: tuple[int, int], threads: int = 1) -> int:
    """Bytes of the payload that `encode_quantized` makes of these."""
    return encode_quantized(Quantized(indices, codes, cell), "F32", seed=0, threads=threads).size


def check_dtype(dtype: str, what: str) -> None:
    """Raise ValueError for an element type that can't be `what`."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)} to be {what}, not {dtype!r}")


def read_front(fetch: Fetch, size: int, *, seed: int) -> Front:
    """The front of a payload of `size` bytes, which `fetch(start, count)` gives. Raises PayloadFault."""
    cursor = Cursor(fetch, size)
    if cursor.take(4) != MAGIC:
        raise PayloadFault(None, f"payload must start with {MAGIC.decode()!r}")
    dtype, width = cursor.byte(), cursor.byte()
    if dtype >= len(DTYPES) or width not in INDEX:
        raise PayloadFault(None, "dtype must be 0 to 2, and an index must have 1 or 2 bytes")
    rows, columns, down, across = (cursor.varint() for _ in range(4))
    if not (1 <= down <= rows and 1 <= across <= columns and rows * columns < 2**60):
        raise PayloadFault(None, f"cell must be within the {rows} x {columns} matrix, not {down} x {across}")
    cell = down, across
    codes = read_codes(cursor, grid_shape(rows, columns, cell), seed)
    indices = index_values(cursor, rows * columns, INDEX[width], seed)
    check_seal(cursor, seed)
    if cursor.at + indices.coded[1] != size:
        raise PayloadFault(None, f"payload must have {cursor.at + indices.coded[1]} bytes, not {size}")
    if indices.packed is None and fetch(cursor.at + 4, 1) != bytes([kernels.INTEGER]):
        raise PayloadFault(None, "indices must be a payload of integers")
    scales = kernels.Grid(scales_of(codes), rows, columns, cell, dtype)
    return Front(DTYPES[dtype], rows, columns, cell, codes, scales, indices)


def read_indices(payload: NDArray[np.uint8], front: Front, *, seed: int, threads: int = 1) -> NDArray[Any]:
    """All indices of a payload, (rows * columns,), int8 or int16, outliers in their places. Raises PayloadFault."""
    listed = front.indices
    indices = listed.packed
    if indices is None:
        indices = np.empty(listed.count, listed.kind)
        start, size = listed.coded
        words = indices.view(f"<u{listed.kind.itemsize}")
        kernels.decode(payload[start : start + size], words, seed=seed, threads=threads)
    return listed.put_outliers(0, indices)


def finish_weights(front: Front, first: int, out: Bytes) -> None:
    """Fill `out` with what `front` alone decides of the weights from `first` on: packed ones, and outliers."""
    listed, count = front.indices, out.size // _BYTES[front.dtype]
    if listed.packed is not None:
        kernels.dequantize(listed.packed[first : first + count], front.grid, out, first=first)
    begin, end = np.searchsorted(listed.places, (first, first + count))
    if begin < end:
        places = listed.places[begin:end]
        weights = listed.outliers[begin:end].astype(np.float32) * scales_at(front, places)
        out.view(WORDS[front.dtype])[places - first] = _cast(weights, front.dtype)


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
