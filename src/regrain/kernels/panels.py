"""Matrices in panels of 16 rows, each with its own list of columns: dense, whole columns dropped, blocks of 16 x 1
dropped, and any mixture, in one layout (native/include/regrain/panels.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from regrain import _native
from regrain.kernels.product import Floats

ROWS = 16
"""Rows of a panel."""

Value = Literal["f32", "f16", "i8", "i4"]
VALUES: tuple[Value, ...] = ("f32", "f16", "i8", "i4")
"""What a weight is kept as; the last two have scales."""

LIMITS: dict[Value, int] = {"i8": 127, "i4": 7}
"""The largest index that `pack` rounds a weight to."""


class Lists(NamedTuple):
    """Which columns the panels have. `starts` (lists * segments + 1,) counts entries, `columns` (entries,) names their
    columns, None for all; `shared` by all panels, or one list for each.
    """

    starts: NDArray[np.uint32]
    columns: NDArray[np.uint16] | None
    shared: bool
    segments: int


class Arrays(NamedTuple):
    """What a matrix in panels is made of: the values, (panels, segments, 16) scales if they have any, the lists."""

    values: NDArray[Any]
    scales: Floats | None
    lists: Lists


@dataclass(frozen=True, slots=True, eq=False)
class Panels:
    """W (rows, columns) in panels, as `native` holds it. `density` is the fraction of the weights that is kept."""

    native: _native.PanelMatrix
    rows: int
    columns: int
    value: Value
    density: float
    arrays: Arrays

    @classmethod
    def pack(
        cls,
        weights: Floats,
        *,
        keep: NDArray[np.bool_] | None = None,
        bias: Floats | None = None,
        value: Value = "f32",
        group: int | None = None,
        into: NDArray[np.uint8] | None = None,
    ) -> Self:
        """Of (R, C) float32 `weights`, R and C at least 1, C at most 65,536.

        keep: (C,) the columns that are kept, or (panels, C) those of each panel; others count as 0. bias: (R,).
        value: "i8" and "i4" round each row, or each `group` of so many columns of a row, to multiples of the largest
        weight over 127 or 7. into: bytes that nobody uses, for the values; new ones where they are not enough. Raises
        ValueError.
        """
        if value in LIMITS:
            indices, scales = rounded(weights, LIMITS[value], group)
            return cls.from_indices(indices, scales, keep=keep, bias=bias, value=value, group=group, into=into)
        if group is not None:
            raise ValueError(f"group must be None for {value} values, which have no scales, not {group!r}")
        matrix = weights if value == "f32" else weights.astype(np.float16)
        return cls._packed(matrix, None, lists_of(weights.shape, keep), keep, bias, value, into)

    @classmethod
    def from_indices(
        cls,
        indices: NDArray[np.int8],
        scales: Floats,
        *,
        keep: NDArray[np.bool_] | None = None,
        bias: Floats | None = None,
        value: Value = "i8",
        group: int | None = None,
        into: NDArray[np.uint8] | None = None,
    ) -> Self:
        """Of (R, C) int8 indices, -8 to 7 for "i4", and the scales that they are to be multiplied with: (R, 1), or
        (R, groups) of `group` columns each. Raises ValueError.
        """
        if value not in LIMITS:
            raise ValueError(f"value must be i8 or i4 for indices, not {value!r}")
        rows, columns = indices.shape
        segments = 1 if group is None else -(-columns // _checked(group))
        if scales.shape != (rows, segments):
            raise ValueError(f"scales must be of shape {(rows, segments)}, not {scales.shape}")
        if value == "i4" and (indices.min(initial=0) < -8 or indices.max(initial=0) > 7):
            raise ValueError("indices of i4 values must be -8 to 7: use i8")
        lists = lists_of(indices.shape, keep, group, even=value == "i4")
        spread = np.zeros((-(-rows // ROWS) * ROWS, segments), np.float32)
        spread[:rows] = scales
        laid = np.ascontiguousarray(spread.reshape(-1, ROWS, segments).transpose(0, 2, 1))
        return cls._packed(indices, laid, lists, keep, bias, value, into)

    @classmethod
    def _packed(
        cls,
        matrix: NDArray[Any],
        scales: Floats | None,
        lists: Lists,
        keep: NDArray[np.bool_] | None,
        bias: Floats | None,
        value: Value,
        into: NDArray[np.uint8] | None,
    ) -> Self:
        (rows, columns), (kind, weights) = matrix.shape, _STORED[value]
        entries = int(lists.starts[-1]) * (-(-rows // ROWS) if lists.shared else 1)
        size = entries * ROWS // weights * kind.itemsize
        values = np.empty(size, np.uint8).view(kind) if into is None or into.size < size else into[:size].view(kind)
        density = 1.0 if keep is None else float(keep.mean())
        found = cls._of(Arrays(values, scales, lists), rows, columns, bias, value, density)
        found.native.pack(np.ascontiguousarray(matrix), values)
        return found

    @classmethod
    def _of(cls, arrays: Arrays, rows: int, columns: int, bias: Floats | None, value: Value, density: float) -> Self:
        biases = np.zeros(-(-rows // ROWS) * ROWS, np.float32)
        if bias is not None:
            if bias.shape != (rows,):
                raise ValueError(f"bias must be of shape {(rows,)}, not {bias.shape}")
            biases[:rows] = bias
        starts, names, shared, segments = arrays.lists
        native = _native.PanelMatrix(
            VALUES.index(value), rows, columns, segments, shared, starts, names, arrays.values, arrays.scales, biases
        )
        return cls(native, rows, columns, value, density, arrays)

    def with_bias(self, bias: Floats | None) -> Self:
        """The same weights, in the same memory, with another bias (R,)."""
        return self._of(self.arrays, self.rows, self.columns, bias, self.value, self.density)

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it."""
        values, scales, lists = self.arrays
        found = values.nbytes + lists.starts.nbytes + -(-self.rows // ROWS) * ROWS * 4
        return found + sum(array.nbytes for array in (lists.columns, scales) if array is not None)

    def multiply(self, x: Floats, out: Floats, threads: int = 1) -> None:
        """out = x W^T + bias for x (N, columns) and out (N, rows), both float32 in C order. It lets go of the
        interpreter. Raises ValueError for other shapes.
        """
        self.native.multiply(x, out, threads)

    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int = 1) -> None:
        """The same for memory that the caller vouches for: addresses of N rows of float32, `stride` floats apart."""
        self.native.multiply_at(x, tokens, x_stride, out, out_stride, threads)


_STORED: dict[Value, tuple[np.dtype[Any], int]] = {
    "f32": (np.dtype(np.float32), 1),
    "f16": (np.dtype(np.float16), 1),
    "i8": (np.dtype(np.int8), 1),
    "i4": (np.dtype(np.uint8), 2),
}
"""What values are kept as, and how many weights share one."""


def rounded(weights: Floats, most: int, group: int | None) -> tuple[NDArray[np.int8], Floats]:
    """(R, C) indices of -most to most, and (R, groups) scales: of each row, or of each `group` of its columns."""
    rows, columns = weights.shape
    wide = columns if group is None else _checked(group)
    padded = np.zeros((rows, -(-columns // wide) * wide), np.float32)
    padded[:, :columns] = weights
    cells = padded.reshape(rows, -1, wide)
    scales = np.abs(cells).max(axis=2) / np.float32(most)
    steps = np.where(scales > 0, scales, np.float32(1.0))
    indices = np.rint(cells / steps[:, :, None]).astype(np.int8).reshape(rows, -1)[:, :columns]
    return np.ascontiguousarray(indices), scales


def lists_of(
    shape: tuple[int, ...], keep: NDArray[np.bool_] | None, group: int | None = None, *, even: bool = False
) -> Lists:
    """The lists of a matrix of that shape that keeps (C,) columns, or (panels, C) in each panel; segments are runs of
    `group` columns. `even`: a segment with an odd number of columns names its last one twice.
    """
    rows, columns = shape
    panels = -(-rows // ROWS)
    if keep is not None and (keep.dtype != np.bool_ or keep.shape not in ((columns,), (panels, columns))):
        raise ValueError(
            f"keep must be bool of shape {(columns,)} or {(panels, columns)}, not {keep.dtype} of {keep.shape}"
        )
    wide = columns if group is None else _checked(group)
    segments = -(-columns // wide)
    shared = keep is None or keep.ndim == 1
    mask = np.ones((1, columns), bool) if keep is None else keep.reshape(-1, columns)
    firsts = np.arange(0, columns, wide)
    counts = np.add.reduceat(mask, firsts, axis=1, dtype=np.uint32).reshape(-1)
    names = (np.flatnonzero(mask) % columns).astype(np.uint16)
    if even and (counts % 2).any():
        ends = np.cumsum(counts, dtype=np.intp)[counts % 2 == 1]
        names = np.insert(names, ends, names[ends - 1])
        counts = counts + counts % 2
        keep = mask
    starts = np.zeros(counts.size + 1, np.uint32)
    np.cumsum(counts, out=starts[1:])
    return Lists(starts, None if keep is None else names, shared, segments)


def _checked(group: int) -> int:
    if group < 1:
        raise ValueError(f"group must be at least 1 column, not {group!r}")
    return group
