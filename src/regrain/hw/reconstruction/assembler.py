"""From an artifact's payload of indices, quantized or pruned and quantized, to the program that reconstructs it."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.codecs.front import Values
from regrain.codecs.numbers import CODED, Cursor
from regrain.codecs.quantized import MAGIC, read_front
from regrain.codecs.sparse_front import read_sparse_front
from regrain.core.errors import HardwareError
from regrain.hw.reconstruction.instructions import MOST_SIDE, Instruction, Op
from regrain.hw.reconstruction.scales import rescale
from regrain.kernels.reference_head import TABLE_BYTES, Head, Kind, parse_head

_FIELD_VALUES, _TABLES = 32, 52  # in a payload's head (docs/format.md 2.1)


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A program, and the (rows, columns) int8 weights that it must give. `saturated`: how many indices do not fit int8
    and are -128 or 127 in their place. `rounded`: how many were rounded to their row's step.
    """

    program: tuple[Instruction, ...]
    weights: NDArray[np.int8]
    codes: NDArray[np.int16]
    cell: tuple[int, int]
    saturated: int
    rounded: int

    def words(self) -> NDArray[np.uint32]:
        """The program as rows of the metadata memory, (instructions, 4)."""
        data = b"".join(each.to_int().to_bytes(16, "little") for each in self.program)
        return np.frombuffer(data, "<u4").astype(np.uint32).reshape(-1, 4)


@dataclass(frozen=True, slots=True)
class _List:
    """Where a list stands in a payload: so many numbers of `width` bits above `base`, or a payload (`width` None)."""

    count: int
    address: int
    size: int
    width: int | None = None
    base: int = 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a payload of indices has. Without a mask, everything is kept."""

    shape: tuple[int, int]
    cell: tuple[int, int]
    codes: NDArray[np.int16]
    values: Values
    mask: NDArray[np.bool_] | None = None
    unit: tuple[int, int] = (1, 1)


def assemble(payload: bytes, *, seed: int, at: int = 0, offset: int | None = None) -> Reconstruction:
    """The program of a payload `rgQ1` or `rgS1` of indices, which the memory holds from address `at` on.

    `seed`: the CRC-32C of the tensor's name. offset: rows' factors and shifts are wanted, of 2^((code + offset) / 8).
    Raises PayloadFault for a payload that is not sound, HardwareError for one that the accelerator can't take: of
    words, of 16 bits an index, or too large.
    """
    parts = _read(payload, seed)
    rows, columns = parts.shape
    if max(rows, columns) > MOST_SIDE:
        raise HardwareError(f"a matrix must have at most {MOST_SIDE} rows and columns, not {rows} x {columns}")
    dense = _dense(payload, parts, seed)
    finer = parts.codes.shape[1] > 1
    weights, rounded = rescale(dense, parts.codes, parts.cell) if finer else (dense, np.zeros(1, np.bool_))

    mask, codes, values = _lists(payload, parts)
    program = [Instruction.of(Op.MATRIX, rows=rows, columns=columns)]
    if mask is not None and parts.mask is not None:
        program += [_grid(Op.MASK, parts.unit, parts.mask), *_listed(payload, mask, seed, at)]
    if finer or offset is not None:
        program += [_grid(Op.SCALE, parts.cell, parts.codes), *_listed(payload, codes, seed, at, wide=True)]
    if offset is not None:
        program += [Instruction.of(Op.CHANNELS, offset=offset % 4096)]
    program += [Instruction.of(Op.VALUES, masked=parts.mask is not None, rescaled=finer)]
    if values is not None:
        program += _listed(payload, values, seed, at)
    program += [Instruction.of(Op.END, checksum=binascii.crc_hqx(weights.tobytes(), 0xFFFF))]
    saturated, changed = parts.values.places.size, int(np.count_nonzero(rounded))
    return Reconstruction(tuple(program), weights, parts.codes, parts.cell, saturated, changed)


def _read(payload: bytes, seed: int) -> _Parts:
    """Check the front, as any reader does."""

    def fetch(start: int, count: int) -> bytes:
        return payload[start : start + count]

    if payload[:4] == MAGIC:
        front = read_front(fetch, len(payload), seed=seed)
        parts = _Parts((front.rows, front.columns), front.cell, front.codes, front.indices)
    else:
        pruned = read_sparse_front(fetch, len(payload), seed=seed)
        if pruned.cell is None or pruned.codes is None:
            raise HardwareError("weights must be quantized to be reconstructed as int8, not words of floats")
        shape = (pruned.rows, pruned.columns)
        parts = _Parts(shape, pruned.cell, pruned.codes, pruned.values, pruned.mask, pruned.unit)
    if parts.values.kind != np.int8:
        raise HardwareError("indices must have 8 bits, not 16: quantize with larger steps")
    return parts


def _dense(payload: bytes, parts: _Parts, seed: int) -> NDArray[np.int8]:
    """The matrix of indices as the payload lists them, (rows, columns): outliers are -128 or 127."""
    values = parts.values.packed
    if values is None:
        values = np.empty(parts.values.count, np.int8)
        start, size = parts.values.coded
        if values.size:
            kernels.decode(payload[start : start + size], values.view(np.uint8), seed=seed)
    matrix = np.zeros(parts.shape, np.int8)
    if parts.mask is None:
        matrix[...] = values.reshape(parts.shape)
    else:
        kernels.expand(parts.mask, parts.unit, values, matrix)
    return matrix


def _lists(payload: bytes, parts: _Parts) -> tuple[_List | None, _List, _List | None]:
    """Where mask, codes and values stand, of a payload that was checked."""
    cursor = Cursor(lambda start, count: payload[start : start + count], len(payload))
    cursor.take(6)  # magic, dtype, bytes of an index
    sides = 4  # of matrix, and of the unit or the cell
    for _ in range(sides):
        cursor.varint()
    mask = None
    if parts.mask is not None:
        mask = _skip(cursor, -(-parts.mask.size // 4))
        cursor.varint(), cursor.varint()
    codes = _skip(cursor, parts.codes.size)
    if not parts.values.count:
        return mask, codes, None
    if outliers := cursor.varint():
        _skip(cursor, outliers), _skip(cursor, outliers)
    start, size = parts.values.coded
    values = _List(parts.values.count, start, size) if size else _skip(cursor, parts.values.count)
    return mask, codes, values


def _skip(cursor: Cursor, count: int) -> _List:
    """Take a list that stands within the front."""
    form = cursor.byte()
    if form == CODED:
        size = cursor.varint()
        found = _List(count, cursor.at, size)
    else:
        base, size = cursor.signed(), -(-count * form // 8)
        found = _List(count, cursor.at, size, form, base)
    cursor.take(size)
    return found


def _grid(op: Op, unit: tuple[int, int], grid: NDArray[Any]) -> Instruction:
    return Instruction.of(op, down=unit[0], across=unit[1], grid=grid.shape[1], count=grid.size)


def _listed(payload: bytes, listed: _List, seed: int, at: int, *, wide: bool = False) -> Iterator[Instruction]:
    """Instructions that make words of a list."""
    if listed.width is not None:
        base = listed.base % (1 << 16)
        yield Instruction.of(
            Op.UNPACK, address=at + listed.address, words=listed.count, width=listed.width, base=base, wide=wide
        )
        return
    data = payload[listed.address : listed.address + listed.size]
    yield from _coded(data, parse_head(data, seed), at + listed.address, wide)


def _coded(data: bytes, head: Head, at: int, wide: bool) -> Iterator[Instruction]:
    """Instructions that make words of a payload `rgP1` of integers at that address."""
    if any(entry.kind == Kind.CODED for entry in head.entries):
        yield Instruction.of(
            Op.FIELD, address=at + _FIELD_VALUES, base=head.base, raw_bits=head.bits, alphabet=head.alphabet,
            escape=head.escape, wide=wide,
        )  # fmt: skip
        for slot in range(len(head.tables)):
            yield Instruction.of(Op.TABLE, address=at + _TABLES + slot * TABLE_BYTES, slot=slot)
    for block, entry in enumerate(head.entries):
        place, words = at + head.starts[block], head.words_of(block)
        if entry.kind == Kind.STORED:
            yield Instruction.of(Op.UNPACK, address=place, words=words, width=8 * head.word_bytes, wide=wide)
        elif entry.kind == Kind.CONSTANT:
            base = int.from_bytes(data[head.starts[block] :][: head.word_bytes], "little")
            yield Instruction.of(Op.UNPACK, address=place, words=words, base=base, wide=wide)
        else:
            own = 0 if head.tables else TABLE_BYTES
            if own:
                yield Instruction.of(Op.TABLE, address=place, slot=0)
            classed = len(head.tables) > 1
            yield Instruction.of(
                Op.DECODE, address=place + own, length=entry.length - own, words=words, escapes=entry.escapes,
                tables=max(1, len(head.tables)), rows=words // head.row_words if classed else 0,
                row_words=head.row_words,
            )  # fmt: skip
