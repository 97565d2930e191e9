"""The compiled kernels, behind checked Python functions. The only importer of the compiled module.

A plain NumPy coder of the identical streams stands beside them in `regrain.kernels.reference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regrain import _native
from regrain.kernels.fault import PayloadFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8] | bytes | memoryview
    Words = NDArray[np.unsignedinteger[Any]]

FLOAT = 0
INTEGER = 1
WEIGHTS = ("BF16", "F16", "F32")
"""The types of dequantized weights, by their numbers."""


@dataclass(frozen=True)
class PayloadInfo:
    """A payload's head (docs/format.md).

    count: words. values: field value of each symbol, the escape left out. tables: (raw bits,
    16 frequencies) of each shared table. blocks: (kind, bytes, escapes) of each block.
    """

    family: int
    word_bytes: int
    mantissa_bits: int
    count: int
    base: int
    block_words: int
    row_words: int
    escape: bool
    values: tuple[int, ...]
    tables: tuple[tuple[int, tuple[int, ...]], ...]
    blocks: tuple[tuple[int, int, int], ...]


def _check(outcome: tuple[int, int | None, str] | None) -> None:
    if outcome is not None:
        job, block, reason = outcome
        raise PayloadFault(block, reason, job)


def crc32c(data: Bytes, value: int = 0) -> int:
    """CRC-32C (RFC 3720, B.4) of `data`, continued from `value` as `zlib.crc32` does."""
    return _native.crc32c(data, value)


def bound(count: int, word_bytes: int) -> int:
    """Bytes that a payload of `count` words takes at most."""
    return _native.bound(count, word_bytes)


def encode(
    words: Words, *, family: int, mantissa_bits: int, row_words: int, seed: int, threads: int = 1
) -> NDArray[np.uint8] | None:
    """Code 1-D `words` (uint8 to uint64, at least one) as a payload.

    family: FLOAT or INTEGER. mantissa_bits: of floats, ignored otherwise. row_words: words in a
    slice of the first axis. None where the words don't fit the format: integers whose range is
    over 32 bits. `decode(encode(words)) == words`, `encode(words).size <= bound(words.size, ...)`.
    """
    out = np.empty(bound(words.size, words.itemsize), np.uint8)
    size = _native.encode(words, out, family, mantissa_bits, row_words, seed, threads)
    return out[:size] if size else None


def decode(payload: Bytes, out: Words, *, seed: int, first: int | None = None, threads: int = 1) -> None:
    """Decode into 1-D contiguous `out`: the whole payload, or words `first` to `first + out.size`.

    Only the blocks that hold those words are read and checked. Raises PayloadFault.
    """
    _check(_native.decode(payload, out, seed, first or 0, first is None, threads))


def decode_many(jobs: Sequence[tuple[Bytes, Words, int]], threads: int = 1) -> None:
    """Decode whole payloads, jobs (payload, out, seed), threaded over all their blocks.

    Raises PayloadFault for the first one at fault, in their order.
    """
    _check(_native.decode_many(jobs, threads))


def decode_file(file: int, jobs: Sequence[tuple[int, int, Words, int]], threads: int = 1) -> None:
    """Decode whole payloads of an open file, jobs (offset, bytes, out, seed), read as they are needed.

    file: a descriptor. A file that has become shorter is a PayloadFault, where a mapping of it
    would be a signal; and reading costs less than the page faults of a mapping.
    """
    _check(_native.decode_file(file, jobs, threads))


def decode_file_range(
    file: int, offset: int, size: int, out: Words, *, seed: int, first: int, threads: int = 1
) -> None:
    """Decode words `first` to `first + out.size` of the payload at `offset` of an open file, `size` bytes."""
    _check(_native.decode_file_range(file, offset, size, out, seed, first, threads))


@dataclass(frozen=True, slots=True)
class Grid:
    """Scales of a matrix of (rows, columns): one for each `cell` of (rows, columns), cells at its edges may be smaller.

    scales: (cells down, cells across) float32. dtype: number of the weights' type in WEIGHTS.
    """

    scales: NDArray[np.float32]
    rows: int
    columns: int
    cell: tuple[int, int]
    dtype: int

    def native(self) -> tuple[NDArray[np.float32], int, int, int, int, int]:
        """As the compiled module takes it."""
        return self.scales, self.rows, self.columns, *self.cell, self.dtype


def dequantize(indices: NDArray[np.signedinteger[Any]], grid: Grid, out: NDArray[np.uint8], *, first: int = 0) -> None:
    """Fill the bytes `out` with weights `first` on: 1-D int8 or int16 indices, one each, times their scales.

    weight = dtype(float32(index) * scale), rounded to nearest, ties to even; no index is looked at as unsigned.
    """
    _native.dequantize(indices, grid.native(), first, out)


def decode_weights(jobs: Sequence[tuple[Bytes, int, int, Grid, int, NDArray[np.uint8]]], threads: int = 1) -> None:
    """Decode payloads of indices and dequantize them, jobs (payload, bytes of an index, seed, grid, first, out).

    Each fills the bytes `out` with the weights of its grid from `first` on. Indices never leave the first-level cache.
    Raises PayloadFault for the first one at fault, in their order.
    """
    native = [(payload, size, seed, grid.native(), first, out) for payload, size, seed, grid, first, out in jobs]
    _check(_native.decode_weights(native, threads))


def decode_weights_file(
    file: int, jobs: Sequence[tuple[tuple[int, int], int, int, Grid, int, NDArray[np.uint8]]], threads: int = 1
) -> None:
    """The same of payloads of an open file, each (offset, bytes)."""
    native = [(place, size, seed, grid.native(), first, out) for place, size, seed, grid, first, out in jobs]
    _check(_native.decode_weights_file(file, native, threads))


def expand(
    mask: NDArray[np.bool_],
    unit: tuple[int, int],
    values: NDArray[np.integer[Any]],
    out: NDArray[np.integer[Any]],
    *,
    first: int = 0,
) -> None:
    """Fill `out` (rows, columns), whole rows of a matrix from row `first` on: kept values in C order, 0 elsewhere.

    mask: (units down, units across) of the whole matrix, True where a unit of (rows, columns) is kept. values: 1-D, of
    the type of `out`, 1, 2 or 4 bytes each, as many as are kept of these rows.
    """
    _native.expand(mask.view(np.uint8), unit, values, first, out)


def info(payload: Bytes, *, seed: int) -> PayloadInfo:
    """Check a payload's head and give what it says. Raises PayloadFault."""
    return _info(_native.info(payload, seed))


def info_file(file: int, offset: int, size: int, *, seed: int) -> PayloadInfo:
    """The same of the payload at `offset` of an open file, `size` bytes, of which only the head is read."""
    return _info(_native.info_file(file, offset, size, seed))


def _info(head: dict[str, Any] | tuple[int, int | None, str]) -> PayloadInfo:
    if isinstance(head, tuple):
        job, block, reason = head
        raise PayloadFault(block, reason, job)
    return PayloadInfo(**head)


def allocate(sizes: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Fresh arrays of those sizes (bytes), contents unspecified, aligned to 64 bytes.

    They share one mapping that is advised to use huge pages; each huge page is given back when
    the last array on it dies.
    """
    return _native.allocate(sizes)


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that this build has and this machine runs, best last."""
    return tuple(_native.instruction_sets())


def instruction_set() -> str:
    """The one in use."""
    return _native.instruction_set()


def use_instruction_set(name: str) -> None:
    """Use another of `instruction_sets()`: for tests and benchmarks, process-wide."""
    if not _native.use_instruction_set(name):
        raise ValueError(f"name must be one of {', '.join(instruction_sets())}, not {name!r}")


def decode_symbols(payload: Bytes, *, seed: int, lockstep: int, symbols: NDArray[np.uint8]) -> int:
    """Run the rANS kernel alone over all coded blocks, `lockstep` (1, 2, 4) together; symbols decoded.

    For benchmarks. symbols: (65536 * blocks,).
    """
    return _native.decode_symbols(payload, seed, lockstep, symbols)
