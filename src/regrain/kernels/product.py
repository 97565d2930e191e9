"""What every layout of a matrix for the run time can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Product(Protocol):
    """An immutable matrix W (rows, columns) with its bias, laid out for products. A new layout is a new object: a call
    keeps the one that it started with.
    """

    @property
    def rows(self) -> int:
        """Outputs."""
        ...

    @property
    def columns(self) -> int:
        """Inputs."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of it."""
        ...

    def multiply(self, x: Floats, out: Floats, threads: int = 1) -> None:
        """out = x W^T + bias for x (N, columns) and out (N, rows), both float32 in C order. It lets go of the
        interpreter. Raises ValueError for other shapes.
        """
        ...

    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int = 1) -> None:
        """The same for memory that the caller vouches for: addresses of N rows of float32, `stride` floats apart."""
        ...
