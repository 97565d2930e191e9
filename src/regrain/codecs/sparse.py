"""Pruned tensors: which units are kept, and the weights of those, as one payload `rgS1` (docs/format.md, 9)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.front import DTYPES, WORDS, encode_indices, encode_words, sealed, split_outliers, whole_list
from regrain.codecs.numbers import MOST_PACKED, varint
from regrain.codecs.quantized import Quantized, check_codes, check_dtype, check_indices, grid_shape, matrix_shape
from regrain.core.dtypes import Bytes, from_numpy

MAGIC = b"rgS1"

STAGES = ("checksum", "rans", "float planes", "expand")
QUANTIZED_STAGES = ("checksum", "rans", "integer planes", "expand", "dequantize")

_OVERHEAD = 190  # bytes of head, entry and states of a coded block


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A tensor of which whole units are kept or dropped; what is dropped is +0.

    `unit` is (rows, columns) of a unit of the matrix (codecs.quantized.matrix_shape of `shape`); units at its right and
    lower edges may be smaller. `mask` is True for units that are kept, (units down, units across). `values` are the
    weights that are kept, in C order of the dense matrix, (kept,): their words, uint16 or uint32; or with `codes` and
    `cell`, which are those of the dense matrix, their indices, as `Quantized` has them.

    Raises ValueError unless all of it fits together.
    """

    mask: NDArray[np.bool_]
    unit: tuple[int, int]
    shape: tuple[int, ...]
    values: NDArray[Any]
    codes: NDArray[np.int16] | None = None
    cell: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        rows, columns = matrix_shape(self.shape)
        if rows * columns == 0:
            raise ValueError(f"shape must have weights, not {self.shape!r}: keep an empty tensor lossless")
        _check_mask(self.mask, self.unit, rows, columns)
        if (self.codes is None) != (self.cell is None):
            raise ValueError("codes and cell must be given together: leave both out for weights that are not quantized")
        if self.codes is not None and self.cell is not None:
            check_indices(self.values)
            check_codes(self.codes, self.cell, rows, columns)
        elif self.values.dtype not in (np.uint16, np.uint32):
            raise ValueError(
                f"values must be words, uint16 or uint32, not {self.values.dtype}: quantized ones need codes"
            )
        kept = int(kept_of_rows(self.mask, self.unit, rows, columns).sum())
        if self.values.shape != (kept,):
            raise ValueError(f"values must have one axis of the {kept} weights that are kept, not {self.values.shape}")

    @classmethod
    def of(cls, array: NDArray[Any], mask: NDArray[np.bool_], unit: tuple[int, int]) -> Self:
        """The units of a BF16, F16 or F32 tensor that a mask keeps; what the tensor has elsewhere is dropped."""
        dtype = from_numpy(array.dtype).name
        check_dtype(dtype, "pruned")
        words = np.ascontiguousarray(array).reshape(-1).view(WORDS[dtype])
        return cls(mask, unit, array.shape, _kept(words, array.shape, mask, unit))

    @classmethod
    def quantized(cls, quantized: Quantized, mask: NDArray[np.bool_], unit: tuple[int, int]) -> Self:
        """The units of a quantized tensor that a mask keeps. Raises ValueError if an index elsewhere is not 0."""
        shape = quantized.indices.shape
        indices = _kept(quantized.indices, shape, mask, unit)
        if np.count_nonzero(indices) != np.count_nonzero(quantized.indices):
            raise ValueError("indices of dropped weights must be 0: multiply them by the mask")
        return cls(mask, unit, shape, indices, quantized.codes, quantized.cell)

    @property
    def kept(self) -> int:
        """Weights that are kept."""
        return self.values.size

    @property
    def density(self) -> float:
        """The fraction of the weights that is kept, 0 to 1."""
        return self.kept / math.prod(self.shape)

    def digest(self) -> bytes:
        """The SHA-256 of all of it: equal if and only if unit, mask, values, and codes and cell are."""
        kind = self.values.dtype if self.codes is None else np.dtype(np.int16)
        found = hashlib.sha256(repr((self.shape, self.unit, self.cell, kind.str)).encode("ascii"))
        found.update(np.packbits(self.mask).data)
        if self.codes is not None:
            found.update(np.ascontiguousarray(self.codes).data)
        found.update(np.ascontiguousarray(self.values, kind).data)
        return found.digest()

    def dense(self, dtype: str) -> Bytes:
        """The bytes of the tensor in that element type. Raises ValueError if a quantized weight is not finite in it."""
        check_dtype(dtype, "pruned")
        matrix = np.empty(matrix_shape(self.shape), self.values.dtype)
        kernels.expand(self.mask, self.unit, self.values, matrix)
        if self.codes is not None and self.cell is not None:
            return Quantized(matrix.reshape(self.shape), self.codes, self.cell).dequantized(dtype)
        if self.values.dtype != WORDS[dtype]:
            raise ValueError(f"dtype must have words of {self.values.itemsize} bytes, not be {dtype}")
        return matrix.reshape(-1).view(np.uint8)


def encode_sparse(sparse: Sparse, dtype: str, *, seed: int, threads: int = 1) -> Bytes:
    """The payload of a tensor of element type BF16, F16 or F32. `seed`: the CRC-32C of its name."""
    check_dtype(dtype, "pruned")
    rows, columns = matrix_shape(sparse.shape)
    quantized = sparse.codes is not None and sparse.cell is not None
    split = split_outliers(sparse.values) if quantized else None
    front = bytearray(MAGIC + bytes([DTYPES.index(dtype), 0 if split is None else split[0].itemsize]))
    front += _numbers(rows, columns, *sparse.unit)
    across = sparse.mask.shape[1]
    front += whole_list(_nibbles(sparse.mask), 0 if across % 4 else across // 4, seed, threads)
    if sparse.codes is not None and sparse.cell is not None:
        front += _numbers(*sparse.cell) + whole_list(sparse.codes, 0, seed, threads)
    payload = np.empty(0, np.uint8)
    if sparse.kept:
        row = _even(kept_of_rows(sparse.mask, sparse.unit, rows, columns))
        if split is not None:
            listed, payload = encode_indices(*split, row, seed, threads)
        elif sparse.values.dtype != WORDS[dtype]:
            raise ValueError(f"dtype must have words of {sparse.values.itemsize} bytes, not be {dtype}")
        else:
            listed, payload = encode_words(sparse.values, dtype, row, seed, threads)
        front += listed
    head = np.frombuffer(sealed(front, seed), np.uint8)
    padding = max(0, least_bytes(rows * columns) - head.size - payload.size)
    return np.concatenate([head, payload, np.zeros(padding, np.uint8)])


def sparse_size(sparse: Sparse, dtype: str, threads: int = 1) -> int:
    """Bytes of the payload that `encode_sparse` makes of it."""
    return encode_sparse(sparse, dtype, seed=0, threads=threads).size


def mask_bytes(mask: NDArray[np.bool_]) -> float:
    """About the bytes that a mask takes in a payload, from the entropy of four units at a time."""
    counts = np.bincount(_nibbles(mask), minlength=16)
    found = np.flatnonzero(counts)
    count, shares = int(counts.sum()), counts[found] / counts.sum()
    coded = count / 8 * -float((shares * np.log2(shares)).sum()) + _OVERHEAD * -(-count // MOST_PACKED)
    packed = count / 8 * int(found[-1] - found[0]).bit_length() + 3
    return min(packed, coded) if count <= MOST_PACKED else coded


def least_bytes(count: int) -> int:
    """Bytes that a payload of a tensor of so many weights must have, whatever is kept of it (docs/format.md, 9.1)."""
    return 0 if count <= MOST_PACKED else -(-count // MOST_PACKED) * 12


def kept_of_rows(mask: NDArray[np.bool_], unit: tuple[int, int], rows: int, columns: int) -> NDArray[np.int64]:
    """How many weights of each row of the matrix are kept, (rows,)."""
    narrow = np.uint16 if mask.shape[1] < 2**16 else np.uint32  # a tenth of the time of int64
    units = mask.view(np.uint8).sum(axis=1, dtype=narrow).astype(np.int64)
    beyond = mask.shape[1] * unit[1] - columns
    kept: NDArray[np.int64] = (units * unit[1] - mask[:, -1] * beyond).repeat(unit[0])[:rows]
    return kept


def _check_mask(mask: NDArray[np.bool_], unit: tuple[int, int], rows: int, columns: int) -> None:
    if not (1 <= unit[0] <= rows and 1 <= unit[1] <= columns):
        raise ValueError(f"unit must be within the {rows} x {columns} matrix, not {unit!r}")
    grid = grid_shape(rows, columns, unit)
    if mask.dtype != np.bool_ or mask.shape != grid:
        raise ValueError(f"mask must be bool of shape {grid}, not {mask.dtype} of {mask.shape}")


def _kept(values: NDArray[Any], shape: tuple[int, ...], mask: NDArray[np.bool_], unit: tuple[int, int]) -> NDArray[Any]:
    rows, columns = matrix_shape(shape)
    if rows * columns:
        _check_mask(mask, unit, rows, columns)
    weights = mask.repeat(unit[0], axis=0)[:rows].repeat(unit[1], axis=1)[:, :columns]
    kept: NDArray[Any] = values.reshape(rows, columns)[weights]
    return kept


def _even(kept: NDArray[np.int64]) -> int:
    """Weights that are kept of a row, if as many are of each: rows may then have classes. Else 0."""
    return int(kept[0]) if kept.size > 1 and (kept == kept[0]).all() else 0


def _nibbles(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Four units a number, the first one its lowest bit."""
    packed = np.packbits(mask, bitorder="little")
    return np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: -(-mask.size // 4)]


def _numbers(*numbers: int) -> bytes:
    return b"".join(varint(number) for number in numbers)
