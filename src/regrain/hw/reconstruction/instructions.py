"""Reconstruct instructions: how the accelerator gets int8 weights back from an artifact's payload, 128 bits each.

A program is MATRIX; MASK and its lists, of a pruned matrix; SCALE and its lists; CHANNELS, if wanted; VALUES and its
lists; END. A list is FIELD, then TABLE and DECODE as often as needed (a coded payload), or UNPACK.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from regrain.core.errors import HardwareError

WORD_BITS, OP_BITS = 128, 4
ADDRESS_BITS = 24
"""Of a byte in the payload's memory."""

MOST_SIDE = (1 << 16) - 1
MOST_WORDS = 65536
"""Of a block, and of a packed list."""


class Op(IntEnum):
    """What an instruction does; 0 and numbers from 11 on are none."""

    MATRIX = 1  # begin: a matrix of so many rows and columns
    FIELD = 2  # symbols stand for these field values; raw bits and base that make words of them
    TABLE = 3  # 17 bytes become an alias table
    DECODE = 4  # a coded block becomes words
    UNPACK = 5  # packed, stored or constant words
    MASK = 6  # words that follow say which units are kept, four a word
    SCALE = 7  # words that follow are the scale codes of cells
    VALUES = 8  # words that follow are the weights that are kept
    CHANNELS = 9  # a factor and a shift for each row, from the largest code of its cells
    END = 10  # all weights must be there, and have this checksum


_ADDRESS = ("address", ADDRESS_BITS, 0, (1 << ADDRESS_BITS) - 1)
_GRID = (
    ("down", 16, 1, MOST_SIDE),
    ("across", 16, 1, MOST_SIDE),
    ("grid", 16, 1, MOST_SIDE),  # units, or cells, across the matrix
    ("count", 24, 1, (1 << 24) - 1),  # of all of them
)
FORMATS: dict[Op, tuple[tuple[str, int, int, int], ...]] = {
    Op.MATRIX: (("rows", 16, 1, MOST_SIDE), ("columns", 16, 1, MOST_SIDE)),
    Op.FIELD: (
        _ADDRESS,  # of 16 field values
        ("base", 16, 0, 65535),
        ("raw_bits", 5, 0, 16),
        ("alphabet", 5, 2, 16),
        ("escape", 1, 0, 1),
        ("wide", 1, 0, 1),  # words have 16 bits, not 8
    ),
    Op.TABLE: (_ADDRESS, ("slot", 4, 0, 15)),
    Op.DECODE: (
        _ADDRESS,  # of row classes, or states
        ("length", 19, 128, (1 << 19) - 1),  # from there to the block's end
        ("words", 17, 1, MOST_WORDS),
        ("escapes", 16, 0, 65535),
        ("tables", 5, 1, 16),
        ("rows", 11, 0, 1024),
        ("row_words", 17, 0, MOST_WORDS),
    ),
    Op.UNPACK: (_ADDRESS, ("words", 17, 1, MOST_WORDS), ("width", 5, 0, 16), ("base", 16, 0, 65535), ("wide", 1, 0, 1)),
    Op.MASK: _GRID,
    Op.SCALE: _GRID,
    Op.VALUES: (("masked", 1, 0, 1), ("rescaled", 1, 0, 1)),
    Op.CHANNELS: (("offset", 12, 0, 4095),),  # two's complement: added to every code
    Op.END: (("checksum", 16, 0, 65535),),
}
"""The operands of each instruction: name, bits, least and largest value; from bit 4 on, in this order. What is left of
the 128 bits is 0."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its operands in the order of `FORMATS`. Raises HardwareError for operands out of range."""

    op: Op
    operands: tuple[int, ...]

    def __post_init__(self) -> None:
        for (name, _, least, most), value in zip(FORMATS[self.op], self.operands, strict=True):
            if not least <= value <= most:
                raise HardwareError(f"{name} of {self.op.name} must be {least} to {most}, not {value!r}")

    @classmethod
    def of(cls, op: Op, **operands: int) -> Self:
        """By names; what is left out is 0."""
        names = [name for name, *_ in FORMATS[op]]
        assert set(operands) <= set(names)
        return cls(op, tuple(int(operands.get(name, 0)) for name in names))

    def __getitem__(self, name: str) -> int:
        return self.operands[[each for each, *_ in FORMATS[self.op]].index(name)]

    def to_int(self) -> int:
        """Its 128 bits."""
        bits, at = int(self.op), OP_BITS
        for (_, width, _, _), value in zip(FORMATS[self.op], self.operands, strict=True):
            bits |= value << at
            at += width
        return bits

    @classmethod
    def parse(cls, bits: int) -> Self:
        """What `to_int` wrote. Raises HardwareError for anything else."""
        code = bits & ((1 << OP_BITS) - 1)
        if not Op.MATRIX <= code <= Op.END:
            raise HardwareError(f"an instruction must be number {Op.MATRIX:d} to {Op.END:d}, not {code}")
        op, at, operands = Op(code), OP_BITS, []
        for _, width, _, _ in FORMATS[op]:
            operands.append(bits >> at & ((1 << width) - 1))
            at += width
        if bits >> at:
            raise HardwareError(f"bits from {at} on must be 0 in {op.name}")
        return cls(op, tuple(operands))


class Fault(IntEnum):
    """Why a program is stopped."""

    NONE = 0
    INSTRUCTION = 1  # no such instruction, an operand out of range, or one that doesn't fit the memories
    ORDER = 2  # an instruction where it can't stand
    LENGTH = 3  # a block too short for its parts, or bits that are left behind a packed list
    STREAM = 4  # a table, states or a stream that the rANS decoder refuses
    ESCAPE = 5  # escapes too few, too many or too large; or such a field value
    WORD = 6  # a mask of more than four units, or a scale code out of range
    COUNT = 7  # more or fewer words than the matrix, its mask or its scales have
    SCALE = 8  # a row's scale can't be had with a factor and a shift
    CHECKSUM = 9  # of the weights
    HANG = 10  # nothing has happened for 2^12 cycles
