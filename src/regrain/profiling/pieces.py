"""A tensor as a matrix, cut into pieces small enough for the cache, in the order of its bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PIECE = 1 << 17
"""Elements of a piece, at most: a few arrays of float64 of that size stay in the second-level cache."""


class Piece(NamedTuple):
    """Rows `row` to `row + rows` and columns `column` to `column + columns` of the matrix.

    Either whole rows or a part of one row, so that its words are contiguous: they start at word `first`.
    """

    row: int
    rows: int
    column: int
    columns: int
    first: int


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns: the first axis by all the others; a vector or a scalar is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def pieces(rows: int, columns: int, multiple: int = 1, limit: int = PIECE) -> Iterator[Piece]:
    """All pieces of a matrix. Where a row is cut, the cuts are at multiples of `multiple` columns.

    A piece has at most max(limit, multiple) elements; together they are each element once.
    """
    if rows == 0 or columns == 0:
        return
    if columns <= limit:
        step = limit // columns
        for row in range(0, rows, step):
            yield Piece(row, min(step, rows - row), 0, columns, row * columns)
        return
    width = max(multiple, limit - limit % multiple)
    for row in range(rows):
        for column in range(0, columns, width):
            yield Piece(row, 1, column, min(width, columns - column), row * columns + column)
