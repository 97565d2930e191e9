"""Sparse matrices in lists of columns, one for each row or for each four rows: for fine masks and 4 x 1 units, and 16
tokens or more at a time (native/include/regrain/rows.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from regrain import _native
from regrain.kernels.product import Floats

UNIT = 4
"""Rows that share a list where not each has its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """W (rows, columns) in lists, as `native` holds it. `unit` is the rows that share one, 1 or 4; `density` is the
    fraction of the weights that is kept.
    """

    native: _native.RowMatrix
    rows: int
    columns: int
    unit: int
    density: float

    @classmethod
    def pack(cls, weights: Floats, keep: NDArray[np.bool_], bias: Floats | None = None) -> Self:
        """Of (R, C) float32 `weights`, R and C at least 1. It lets go of the interpreter.

        keep: (R, C) the weights that are kept, or (R / 4 rounded up, C) the units of four rows; others count as 0.
        bias: (R,). An x that is not finite may make NaN of what would be infinite. Raises ValueError.
        """
        rows, columns = weights.shape
        shapes = {(rows, columns): 1, (-(-rows // UNIT), columns): UNIT}
        if keep.dtype != np.bool_ or keep.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ValueError(f"keep must be bool of shape {wanted}, not {keep.dtype} of {keep.shape}")
        unit = shapes[keep.shape] if rows > 1 else 1
        native = _native.RowMatrix(weights, keep, unit, _checked(bias, rows))
        return cls(native, rows, columns, unit, np.count_nonzero(keep) / keep.size)

    def with_bias(self, bias: Floats | None) -> Self:
        """The same weights, in the same memory, with another bias (R,)."""
        native = self.native.with_bias(_checked(bias, self.rows))
        return type(self)(native, self.rows, self.columns, self.unit, self.density)

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it."""
        return self.native.nbytes

    def multiply(self, x: Floats, out: Floats, threads: int = 1) -> None:
        """out = x W^T + bias for x (N, columns) and out (N, rows), both float32 in C order. It lets go of the
        interpreter. Raises ValueError for other shapes.
        """
        self.native.multiply(x, out, threads)

    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int = 1) -> None:
        """The same for memory that the caller vouches for: addresses of N rows of float32, `stride` floats apart."""
        self.native.multiply_at(x, tokens, x_stride, out, out_stride, threads)


def _checked(bias: Floats | None, rows: int) -> Floats:
    if bias is None:
        return np.zeros(rows, np.float32)
    if bias.shape != (rows,):
        raise ValueError(f"bias must be of shape {(rows,)}, not {bias.shape}")
    return bias.copy()
