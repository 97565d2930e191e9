"""Matrices stored by columns, for one or two tokens at a time: a product leaves out the columns that say little about
each token, and what it takes to choose them is small beside reading them (native/include/regrain/skipping.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regrain import _native
from regrain.kernels.product import Floats

SkipValue = Literal["f32", "f16", "i8"]
SKIP_VALUES: tuple[SkipValue, ...] = ("f32", "f16", "i8")
"""What a weight is kept as; the last has a scale for each row."""

KEEP_ALL = -1.0
"""A threshold that no column falls below."""

LINE = 64
"""Bytes that a column is made of."""

_BLOCK = 128
"""Rows that are transposed at once: they stay in the cache."""


class Arrays(NamedTuple):
    """What a matrix stored by columns is made of: values (C, R rounded up), scales (R,) if it has any, means of the
    inputs and norms of the columns (C,), and W mean (R,), which is added to the bias.
    """

    values: NDArray[Any]
    scales: Floats | None
    mean: Floats
    norm: Floats
    folded: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Skipping:
    """W (rows, columns) by columns, as `native` holds it. Token x has column c unless |x_c - mean_c| norm_c is at most
    `threshold`; a column that it doesn't have counts as if x_c were mean_c.
    """

    native: _native.SkipMatrix
    rows: int
    columns: int
    value: SkipValue
    threshold: float
    bias: Floats
    arrays: Arrays

    @classmethod
    def pack(
        cls,
        weights: Floats,
        *,
        value: SkipValue = "f32",
        mean: Floats | None = None,
        norm: Floats | None = None,
        bias: Floats | None = None,
        threshold: float = KEEP_ALL,
        into: NDArray[np.uint8] | None = None,
    ) -> Self:
        """Of (R, C) float32 `weights`, R and C at least 1; "i8" rounds each row to multiples of its largest over 127.

        mean: (C,) of each input, 0 without. norm: (C,) of each column of weights, computed without. bias: (R,). into:
        bytes that nobody uses, for the values; new ones where they are not enough. Raises ValueError.
        """
        if value == "i8":
            indices, scales = _rounded(weights)
            return cls.from_indices(indices, scales, mean=mean, norm=norm, bias=bias, threshold=threshold, into=into)
        if value not in SKIP_VALUES:
            raise ValueError(f"value must be f32, f16 or i8, not {value!r}")
        matrix = weights if value == "f32" else weights.astype(np.float16)
        return cls._packed(matrix, None, value, mean, norm, bias, threshold, into)

    @classmethod
    def from_indices(
        cls,
        indices: NDArray[np.int8],
        scales: Floats,
        *,
        mean: Floats | None = None,
        norm: Floats | None = None,
        bias: Floats | None = None,
        threshold: float = KEEP_ALL,
        into: NDArray[np.uint8] | None = None,
    ) -> Self:
        """Of (R, C) int8 indices and the scales (R,) that their rows are to be multiplied with. Raises ValueError."""
        scales = _of_shape("scales", scales, len(indices))
        return cls._packed(indices, scales, "i8", mean, norm, bias, threshold, into)

    @classmethod
    def _packed(
        cls,
        matrix: NDArray[Any],
        scales: Floats | None,
        value: SkipValue,
        mean: Floats | None,
        norm: Floats | None,
        bias: Floats | None,
        threshold: float,
        into: NDArray[np.uint8] | None,
    ) -> Self:
        rows, columns = matrix.shape
        mean = np.zeros(columns, np.float32) if mean is None else _of_shape("mean", mean, columns)
        dense = matrix.astype(np.float32) if scales is None else matrix * scales[:, None]
        norm = np.linalg.norm(dense, axis=0) if norm is None else _of_shape("norm", norm, columns)
        arrays = Arrays(_by_columns(matrix, into), scales, mean, norm, dense @ mean)
        return cls._of(arrays, rows, value, threshold, np.zeros(rows, np.float32) if bias is None else bias)

    @classmethod
    def _of(cls, arrays: Arrays, rows: int, value: SkipValue, threshold: float, bias: Floats) -> Self:
        bias = _of_shape("bias", bias, rows)
        values, scales, mean, norm, folded = arrays
        native = _native.SkipMatrix(
            SKIP_VALUES.index(value), rows, threshold, values, scales, mean, norm, bias + folded
        )
        return cls(native, rows, len(values), value, threshold, bias, arrays)

    def with_threshold(self, threshold: float) -> Self:
        """The same weights, in the same memory, with another threshold."""
        return self._of(self.arrays, self.rows, self.value, threshold, self.bias)

    def with_bias(self, bias: Floats) -> Self:
        """The same weights, in the same memory, with another bias (R,)."""
        return self._of(self.arrays, self.rows, self.value, self.threshold, bias)

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it where it leaves out no column."""
        values, scales, mean, norm, folded = self.arrays
        rest = (mean, norm, folded) if scales is None else (mean, norm, folded, scales)
        return self.columns * self.rows * values.itemsize + sum(array.nbytes for array in rest)

    def multiply(self, x: Floats, out: Floats, threads: int = 1) -> None:
        """out = x W^T + bias for x (N, columns) and out (N, rows), both float32 in C order, less what each token leaves
        out. It lets go of the interpreter. Raises ValueError for other shapes.
        """
        self.native.multiply(x, out, threads)

    def multiply_counted(self, x: Floats, out: Floats, threads: int = 1) -> int:
        """The same, and how many columns the tokens had, of N * columns."""
        return self.native.multiply(x, out, threads)

    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int = 1) -> None:
        """The same for memory that the caller vouches for: addresses of N rows of float32, `stride` floats apart."""
        self.native.multiply_at(x, tokens, x_stride, out, out_stride, threads)


def stride_of(rows: int, size: int) -> int:
    """Weights of `size` bytes from one column to the next, of an odd number of lines: columns that are a power of two
    apart would share few places in a cache.
    """
    across = LINE // size
    return (-(-rows // across) | 1) * across


def _by_columns(matrix: NDArray[Any], into: NDArray[np.uint8] | None) -> NDArray[Any]:
    rows, columns = matrix.shape
    stride = stride_of(rows, matrix.itemsize)
    size = columns * stride * matrix.itemsize
    room = _native.allocate([size])[0] if into is None or into.size < size else into[:size]
    values = room.view(matrix.dtype).reshape(columns, stride)
    for first in range(0, rows, _BLOCK):
        values[:, first : min(first + _BLOCK, rows)] = matrix[first : first + _BLOCK].T
    values[:, rows:] = 0
    return values


def _rounded(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    scales = np.abs(weights).max(axis=1) / np.float32(127)
    steps = np.where(scales > 0, scales, np.float32(1.0))
    return np.rint(weights / steps[:, None]).astype(np.int8), scales


def _of_shape(name: str, array: Floats, size: int) -> Floats:
    if array.shape != (size,):
        raise ValueError(f"{name} must be of shape {(size,)}, not {array.shape}")
    return array.astype(np.float32)
