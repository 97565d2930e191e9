"""Zeros of a matrix at three granularities: single weights, blocks, whole channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regrain.profiling.pieces import Piece


class ZeroCount:
    """Counts zeros of a matrix that comes in pieces, in order; needs a few bytes a column.

    Blocks at the right and lower edge are cut off there, and count like the others.
    """

    def __init__(self, rows: int, columns: int, block: tuple[int, int]) -> None:
        self.zeros = 0
        self.zero_rows = 0
        self.zero_blocks = 0
        self.blocks = -(-rows // block[0]) * -(-columns // block[1])
        self._rows, self._columns, self._block = rows, columns, block
        self._column_used = np.zeros(columns, np.bool_)
        self._block_used = np.zeros(-(-columns // block[1]), np.bool_)
        self._row_used = False

    def add(self, piece: Piece, nonzero: NDArray[np.bool_]) -> None:
        """Take the piece whose nonzero weights are marked in `nonzero`, (piece.rows, piece.columns)."""
        used = np.count_nonzero(nonzero, axis=1)
        self.zeros += nonzero.size - int(used.sum())
        self._row_used |= bool(used[-1])
        if piece.column + piece.columns == self._columns:  # else the row goes on in the next piece
            self.zero_rows += int(np.count_nonzero(used[:-1] == 0)) + (not self._row_used)
            self._row_used = False
        height, width = self._block
        first = piece.row - piece.row % height
        starts = np.maximum(np.arange(first, piece.row + piece.rows, height) - piece.row, 0)
        # (bands of block rows, columns); reduceat is slow where there is nothing to reduce.
        bands = np.logical_or.reduceat(nonzero, starts, axis=0) if len(starts) < piece.rows else nonzero
        span = slice(piece.column, piece.column + piece.columns)
        self._column_used[span] |= bands.any(axis=0)
        if width > 1:
            bands = np.logical_or.reduceat(bands, np.arange(0, piece.columns, width), axis=1)
        self._close(piece, bands)

    def _close(self, piece: Piece, bands: NDArray[np.bool_]) -> None:
        """Merge the first band with what earlier pieces left open; count all bands that end in this piece."""
        begin = piece.column // self._block[1]
        span = slice(begin, begin + bands.shape[1])
        self._block_used[span] |= bands[0]
        if len(bands) > 1:
            self.zero_blocks += int(np.count_nonzero(~self._block_used))
            self.zero_blocks += int(np.count_nonzero(~bands[1:-1]))
            self._block_used[:] = bands[-1]
        end = piece.row + piece.rows
        row_ends = piece.column + piece.columns == self._columns
        if row_ends and (end % self._block[0] == 0 or end == self._rows):
            self.zero_blocks += int(np.count_nonzero(~self._block_used))
            self._block_used[:] = False

    def zero_channels(self, shape: Sequence[int]) -> int:
        """Input channels, along shape[1], without a single nonzero weight. `shape` has two axes or more."""
        return int(np.count_nonzero(~self._column_used.reshape(shape[1], -1).any(axis=1)))
