"""Reading the payload of a pruned tensor: its front, and dense rows from the values it keeps (docs/format.md, 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.front import DTYPES, WORDS, Fetch, Values, check_seal, index_values, read_codes, word_values
from regrain.codecs.grid import scales_of
from regrain.codecs.numbers import MOST_PACKED, Cursor, decode_list
from regrain.codecs.pay import most_words, payload_count
from regrain.codecs.quantized import INDEX, grid_shape
from regrain.codecs.sparse import MAGIC, kept_of_rows, least_bytes
from regrain.core.dtypes import Bytes
from regrain.kernels.fault import PayloadFault

_MASK = np.dtype(np.uint8)
_AT_ONCE = 1 << 16  # indices that are expanded before they become weights: they stay in the cache


@dataclass(frozen=True, slots=True)
class SparseFront:
    """Everything of a payload but coded values, checked. The kept weights of row i are `starts[i]` to `starts[i + 1]`.

    `codes`, `cell` and `grid` are None of words.
    """

    dtype: str
    rows: int
    columns: int
    unit: tuple[int, int]
    mask: NDArray[np.bool_]
    starts: NDArray[np.int64]
    cell: tuple[int, int] | None
    codes: NDArray[np.int16] | None
    grid: kernels.Grid | None
    values: Values


def read_sparse_front(fetch: Fetch, size: int, *, seed: int) -> SparseFront:
    """The front of a payload of `size` bytes, which `fetch(start, count)` gives. Raises PayloadFault."""
    cursor = Cursor(fetch, size)
    if cursor.take(4) != MAGIC:
        raise PayloadFault(None, f"payload must start with {MAGIC.decode()!r}")
    number, width = cursor.byte(), cursor.byte()
    if number >= len(DTYPES) or not (width == 0 or width in INDEX):
        raise PayloadFault(None, "dtype must be 0 to 2, and an index must have 0, 1 or 2 bytes")
    dtype = DTYPES[number]
    rows, columns, *sides = (cursor.varint() for _ in range(4))
    if rows * columns > max(MOST_PACKED, most_words(size)):  # before anyone allocates that much
        raise PayloadFault(None, f"payload of {rows} x {columns} weights must be longer than {size} bytes")
    unit = _within(sides, rows, columns, "unit")
    mask = _read_mask(cursor, grid_shape(rows, columns, unit), seed)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_of_rows(mask, unit, rows, columns))])
    kept, cell, codes, grid = int(starts[-1]), None, None, None
    if width:
        cell = _within([cursor.varint(), cursor.varint()], rows, columns, "cell")
        codes = read_codes(cursor, grid_shape(rows, columns, cell), seed)
        grid = kernels.Grid(scales_of(codes), rows, columns, cell, number)
    values = _read_values(cursor, kept, dtype, width, seed)
    check_seal(cursor, seed)
    _check_end(cursor, values, fetch, kernels.INTEGER if width else kernels.FLOAT, least_bytes(rows * columns))
    return SparseFront(dtype, rows, columns, unit, mask, starts, cell, codes, grid, values)


def fill_rows(front: SparseFront, first: int, values: NDArray[Any], out: Bytes) -> None:
    """Fill `out` with the weights of whole rows from row `first` on, from the values that are kept of them."""
    if front.grid is None:
        words = out.view(WORDS[front.dtype]).reshape(-1, front.columns)
        kernels.expand(front.mask, front.unit, values, words, first=first)
        return
    size = WORDS[front.dtype].itemsize * front.columns
    rows, step = out.size // size, max(1, _AT_ONCE // front.columns)
    indices = np.empty((min(step, rows), front.columns), values.dtype)
    for row in range(0, rows, step):
        part = indices[: rows - row]
        begin, end = front.starts[[first + row, first + row + part.shape[0]]] - front.starts[first]
        kernels.expand(front.mask, front.unit, values[begin:end], part, first=first + row)
        here = out[row * size : (row + part.shape[0]) * size]
        kernels.dequantize(part.reshape(-1), front.grid, here, first=(first + row) * front.columns)


def _read_mask(cursor: Cursor, grid: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    units = math.prod(grid)
    nibbles = decode_list(cursor, -(-units // 4), _MASK, seed)
    if nibbles.max() > 15 or nibbles[-1] >> (units - 1) % 4 + 1:
        raise PayloadFault(None, "a mask must have four units a number, and 0 behind the last")
    pairs = (np.append(nibbles, np.uint8(0)) if nibbles.size % 2 else nibbles).view("<u2")
    bits = np.unpackbits((pairs | pairs >> 4).astype(np.uint8), count=units, bitorder="little")
    return bits.view(np.bool_).reshape(grid)


def _read_values(cursor: Cursor, kept: int, dtype: str, width: int, seed: int) -> Values:
    if not kept:
        kind = INDEX.get(width, WORDS[dtype])
        return Values(0, kind, np.empty(0, kind), (0, 0), np.empty(0, np.int64), np.empty(0, np.int16))
    return index_values(cursor, kept, INDEX[width], seed) if width else word_values(cursor, kept, dtype)


def _check_end(cursor: Cursor, values: Values, fetch: Fetch, family: int, least: int) -> None:
    """What stands behind the checksum: the coded values, and zeros where the payload would be too short."""
    end = cursor.at + values.coded[1]
    if cursor.size != max(end, least):
        raise PayloadFault(None, f"payload must have {max(end, least)} bytes, not {cursor.size}")
    if values.packed is None:
        head = fetch(cursor.at, 16)
        if head[4] != family or payload_count(head) != values.count:  # parts of it alone would not show the count
            raise PayloadFault(None, f"values must be a payload of {values.count} words of family {family}")
    if end < least and any(fetch(end, least - end)):
        raise PayloadFault(None, "bytes behind the values must be 0")


def _within(sides: list[int], rows: int, columns: int, what: str) -> tuple[int, int]:
    down, across = sides
    if not (1 <= down <= rows and 1 <= across <= columns):
        raise PayloadFault(None, f"{what} must be within the {rows} x {columns} matrix, not {down} x {across}")
    return down, across
