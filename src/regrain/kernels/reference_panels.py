"""Panels in plain NumPy: slow, entry by entry, as native/include/regrain/panels.h describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.panels import ROWS, Lists, Value
from regrain.kernels.product import Floats


def entries(lists: Lists, rows: int) -> list[tuple[int, int, int, bool]]:
    """(panel, segment, column, whether it is one too many) of every entry, in the order of the values."""
    found = []
    for panel in range(-(-rows // ROWS)):
        at = 0 if lists.shared else panel * lists.segments
        for segment in range(lists.segments):
            before = None
            for e in range(lists.starts[at + segment], lists.starts[at + segment + 1]):
                column = e if lists.columns is None else int(lists.columns[e])
                found.append((panel, segment, column, column == before))
                before = column
    return found


def pack(matrix: NDArray[Any], lists: Lists, value: Value) -> NDArray[Any]:
    """The values of a matrix (R, C) of their type, int8 for "i4"."""
    rows, columns = matrix.shape
    whole = np.zeros((-(-rows // ROWS) * ROWS, columns), matrix.dtype)
    whole[:rows] = matrix
    taken = [
        np.zeros(ROWS, matrix.dtype) if extra else whole[panel * ROWS : (panel + 1) * ROWS, column]
        for panel, _, column, extra in entries(lists, rows)
    ]
    values = np.array(taken, matrix.dtype).reshape(-1, ROWS)
    if value != "i4":
        return values.reshape(-1)
    nibbles = (values + 8).astype(np.uint8)
    return np.asarray(nibbles[0::2] | nibbles[1::2] << 4).reshape(-1)


def dense(values: NDArray[Any], scales: Floats | None, lists: Lists, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The matrix (R, C) that values and scales (panels, segments, 16) stand for."""
    rows, columns = shape
    if values.dtype == np.uint8:
        pairs = values.reshape(-1, 1, ROWS) >> np.array([0, 4], np.uint8)[:, None] & 15
        values = pairs.astype(np.int8) - np.int8(8)
    whole = np.zeros((-(-rows // ROWS) * ROWS, columns))
    for (panel, segment, column, _), weights in zip(entries(lists, rows), values.reshape(-1, ROWS), strict=True):
        factor = 1.0 if scales is None else scales[panel, segment].astype(np.float64)
        whole[panel * ROWS : (panel + 1) * ROWS, column] += weights.astype(np.float64) * factor
    return whole[:rows]
