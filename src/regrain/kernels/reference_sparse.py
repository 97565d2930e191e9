"""Plain reader of the pruned payload `rgS1` (docs/format.md, 9): the yardstick of the fast one.

Written to be read, in NumPy and Python alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_quantized import Reader, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STORED, _CODED = 0, 255
_FREE = 65536  # weights that need no length


@dataclass(frozen=True)
class DecodedSparse:
    """What a payload holds: which units and which (rows, columns) weights are kept, and the words of all weights.

    `cell` and `codes` are None of weights that are not quantized.
    """

    dtype: int
    unit: tuple[int, int]
    mask: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    words: NDArray[np.unsignedinteger[Any]]
    cell: tuple[int, int] | None = None
    codes: NDArray[np.int16] | None = None


def expand(
    mask: NDArray[np.bool_], unit: tuple[int, int], values: NDArray[Any], out: NDArray[Any], first: int = 0
) -> None:
    """Fill `out` (rows, columns), rows from `first` on, with `values` where a unit is kept and 0 elsewhere."""
    rows = np.arange(first, first + out.shape[0]) // unit[0]
    out[...] = 0
    out[mask[rows].repeat(unit[1], axis=1)[:, : out.shape[1]]] = values


def decode_sparse(payload: bytes, *, seed: int) -> DecodedSparse:
    """Decode a whole payload. `seed` is the CRC-32C of the tensor's name. Raises PayloadFault."""
    reader = Reader(bytes(payload), seed)
    if reader.take(4) != b"rgS1":
        raise PayloadFault(None, "payload must start with rgS1")
    dtype, width = reader.take(2)
    if dtype > 2 or width > 2:
        raise PayloadFault(None, f"dtype must be 0 to 2 and an index 0 to 2 bytes, not {dtype!r} and {width!r}")
    rows, columns, down, across = (reader.number() for _ in range(4))
    least = 0 if rows * columns <= _FREE else (rows * columns + _FREE - 1) // _FREE * 12
    if least > len(reader.data):
        raise PayloadFault(None, f"payload must have at least {least} bytes")
    if not (1 <= down <= rows and 1 <= across <= columns):
        raise PayloadFault(None, "unit must be within the matrix")
    mask = _mask(reader, (rows + down - 1) // down, (columns + across - 1) // across)
    kept = mask.repeat(down, axis=0)[:rows].repeat(across, axis=1)[:, :columns]
    cell, codes = None, np.zeros((1, 1), np.int64)
    if width:
        cell = reader.number(), reader.number()
        codes = reader.codes(rows, columns, *cell)
    count = int(kept.sum())
    values: NDArray[Any] = np.zeros(0, np.int64)
    if not count:
        reader.seal()
    elif width:
        values = reader.indices(count, width)
    else:
        values = _stored(reader, count, 4 if dtype == 2 else 2)
    if len(reader.data) != max(reader.at, least) or any(reader.data[reader.at :]):
        raise PayloadFault(None, f"payload must end at {reader.at}, or with 0 at {least}")
    matrix = np.zeros((rows, columns), np.int64)
    matrix[kept] = values
    if cell is not None:
        words = words_of(matrix, codes, cell, dtype)
        return DecodedSparse(dtype, (down, across), mask, kept, words, cell, codes.astype(np.int16))
    return DecodedSparse(dtype, (down, across), mask, kept, matrix.astype(np.uint32 if dtype == 2 else np.uint16))


def _mask(reader: Reader, down: int, across: int) -> NDArray[np.bool_]:
    """Four units a number, the lowest bit first."""
    numbers = reader.listed((down * across + 3) // 4, np.uint8)
    bits = [number >> place & 1 for number in numbers.tolist() for place in range(8)]
    units = [bit for at, bit in enumerate(bits) if at % 8 < 4]
    if max(numbers) > 15 or any(units[down * across :]):
        raise PayloadFault(None, "a mask must have four units a number, and 0 behind the last")
    return np.array(units[: down * across], np.bool_).reshape(down, across)


def _stored(reader: Reader, count: int, word_bytes: int) -> NDArray[Any]:
    """Words of floats, with the checksum, which stands before coded ones."""
    form = reader.take(1)[0]
    if form == _CODED:
        size = reader.number()
        reader.seal()
        return reader.payload(size, count, word_bytes, family=0)
    if form != _STORED or count > _FREE:
        raise PayloadFault(None, f"{count} words must not be of form {form}")
    words = np.frombuffer(reader.take(count * word_bytes), f"<u{word_bytes}")
    reader.seal()
    return words
