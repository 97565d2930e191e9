"""Matrices of int8 for products of integers, in blocks of 16 rows and 4 columns, some of which may be dropped
(native/include/regrain/integers.h). Tokens are quantized to eight bits on their way in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regrain import _native
from regrain.kernels.product import Floats

ROWS = 16
"""Rows of a block and of a panel."""

COLUMNS = 4
"""Columns of a block."""

LINE = 64
"""Bytes of a block, and of a cache line: no block is in two of them."""

LIMIT = 127
"""The largest index that `pack` rounds a weight to."""


class Lists(NamedTuple):
    """What is kept: `gathered` (inputs,) columns of W, None for all, are the inputs. `starts` (panels + 1,) counts the
    panels' blocks, and `groups` (blocks,) names the four inputs of each, None for all of them.
    """

    gathered: NDArray[np.uint16] | None
    starts: NDArray[np.uint32] | None
    groups: NDArray[np.uint16] | None


class Arrays(NamedTuple):
    """What a matrix of integers is made of: (blocks, 16, 4) values, (panels * 16,) scales, the lists."""

    values: NDArray[np.int8]
    scales: Floats
    lists: Lists


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """W (rows, columns) of int8 with a scale for each row, as `native` holds it. `density` is the fraction of the
    blocks or columns that is kept. What a token gives is the same to the last bit on every instruction set, with any
    number of threads and beside any other tokens.
    """

    native: _native.IntegerMatrix
    rows: int
    columns: int
    density: float
    arrays: Arrays

    @classmethod
    def pack(cls, weights: Floats, *, keep: NDArray[np.bool_] | None = None, bias: Floats | None = None) -> Self:
        """Of (R, C) float32 `weights`, R and C at least 1, C at most 65,536, each rounded to a multiple of its row's
        largest over 127. keep: (C,) the columns that are kept, or (panels, ceil(C / 4)) the blocks; others count as 0.
        bias: (R,). Raises ValueError.
        """
        scales = np.abs(weights).max(axis=1) / np.float32(LIMIT)
        steps = np.where(scales > 0, scales, np.float32(1.0))
        indices = np.rint(weights / steps[:, None]).astype(np.int8)
        return cls.from_indices(indices, scales, keep=keep, bias=bias)

    @classmethod
    def from_indices(
        cls,
        indices: NDArray[np.int8],
        scales: Floats,
        *,
        keep: NDArray[np.bool_] | None = None,
        bias: Floats | None = None,
    ) -> Self:
        """Of (R, C) int8 indices and the (R,) float32 scales that they are to be multiplied with. Raises ValueError."""
        rows, columns = indices.shape
        lists = lists_of(rows, columns, keep)
        density = 1.0 if keep is None else float(keep.mean())
        values = blocks_of(indices, keep)
        return cls._of(Arrays(values, _spread(scales, rows, "scales"), lists), rows, columns, bias, density)

    @classmethod
    def _of(cls, arrays: Arrays, rows: int, columns: int, bias: Floats | None, density: float) -> Self:
        biases = np.zeros(-(-rows // ROWS) * ROWS, np.float32) if bias is None else _spread(bias, rows, "bias")
        values, scales, lists = arrays
        native = _native.IntegerMatrix(rows, columns, *lists, values, scales, biases)
        return cls(native, rows, columns, density, arrays)

    def with_bias(self, bias: Floats | None) -> Self:
        """The same weights, in the same memory, with another bias (R,)."""
        return self._of(self.arrays, self.rows, self.columns, bias, self.density)

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it."""
        values, scales, lists = self.arrays
        return values.nbytes + 3 * scales.nbytes + sum(array.nbytes for array in lists if array is not None)

    def multiply(self, x: Floats, out: Floats, threads: int = 1) -> None:
        """out = x W^T + bias for x (N, columns) and out (N, rows), both float32 in C order. It lets go of the
        interpreter. Raises ValueError for other shapes.
        """
        self.native.multiply(x, out, threads)

    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int = 1) -> None:
        """The same for memory that the caller vouches for: addresses of N rows of float32, `stride` floats apart."""
        self.native.multiply_at(x, tokens, x_stride, out, out_stride, threads)


def _spread(values: Floats, rows: int, name: str) -> Floats:
    if values.shape != (rows,):
        raise ValueError(f"{name} must be of shape {(rows,)}, not {values.shape}")
    found = np.zeros(-(-rows // ROWS) * ROWS, np.float32)
    found[:rows] = values
    return found


def lists_of(rows: int, columns: int, keep: NDArray[np.bool_] | None) -> Lists:
    """The lists of a matrix that keeps (C,) columns or (panels, groups) blocks. Raises ValueError for other shapes."""
    blocks = (-(-rows // ROWS), -(-columns // COLUMNS))
    if keep is None:
        return Lists(None, None, None)
    if keep.dtype != np.bool_ or keep.shape not in ((columns,), blocks):
        raise ValueError(f"keep must be bool of shape {(columns,)} or {blocks}, not {keep.dtype} of {keep.shape}")
    if keep.ndim == 1:
        return Lists(np.flatnonzero(keep).astype(np.uint16), None, None)
    starts = np.zeros(blocks[0] + 1, np.uint32)
    np.cumsum(keep.sum(axis=1), out=starts[1:])
    return Lists(None, starts, np.nonzero(keep)[1].astype(np.uint16))


def blocks_of(indices: NDArray[np.int8], keep: NDArray[np.bool_] | None) -> NDArray[np.int8]:
    """(blocks, 16, 4): the blocks that are kept, panel after panel; rows and columns that are not there are 0."""
    if keep is not None and keep.ndim == 1:
        indices = indices[:, keep]
    rows, columns = indices.shape
    panels, groups = -(-rows // ROWS), -(-columns // COLUMNS)
    whole = np.zeros((panels * ROWS, groups * COLUMNS), np.int8)
    whole[:rows, :columns] = indices
    fours: NDArray[Any] = whole.view(np.int32).reshape(panels, ROWS, groups)  # moved four at a time
    laid = fours.transpose(0, 2, 1)
    chosen = laid.reshape(-1, ROWS) if keep is None or keep.ndim == 1 else laid[keep]
    room = np.empty(chosen.nbytes + LINE, np.int8)
    start = -room.ctypes.data % LINE
    found = room[start : start + chosen.nbytes]
    found.view(np.int32).reshape(chosen.shape)[:] = chosen
    return found.reshape(-1, ROWS, COLUMNS)
