"""What an encoder decides, and how it lays out a coded block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_head import TABLE_BYTES, Family, Head, Kind, Table, check_table, parse_head
from regrain.kernels.reference_planes import LANES, planes_size

if TYPE_CHECKING:
    from collections.abc import Iterator

Payload = bytes | bytearray | memoryview | NDArray[np.uint8]


@dataclass(frozen=True)
class BlockPlan:
    """How one block is kept; `table` if each brings its own, `classes` (one a row) if it has any."""

    kind: Kind
    table: Table | None = None
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All that an encoder decides; words and plan together fix every byte of a payload.

    values: the field value of each symbol, the escape left out. tables: those shared by all
    blocks. raw_bits: k of integers, unused for floats. row_words: words of a row with more than
    one table, else 0.
    """

    values: tuple[int, ...]
    escape: bool
    tables: tuple[Table, ...]
    block_words: int
    row_words: int
    base: int
    raw_bits: int
    blocks: tuple[BlockPlan, ...]


@dataclass(frozen=True)
class Layout:
    """What a coded block's tables mean for its n words.

    runs: (words, raw bits) of each run of rows with equally many. steps: the table of each step.
    """

    runs: tuple[tuple[int, int], ...]
    steps: tuple[Table, ...]

    @property
    def carries(self) -> bool:
        """Whether the states carry 64 bytes of the last run's lowest byte plane."""
        return self.runs[-1][1] >= 8

    @property
    def planes(self) -> int:
        """Bytes of all planes, without those carried."""
        return sum(planes_size(*run) for run in self.runs) - LANES * self.carries


def layout_of(head: Head, own: Table | None, classes: tuple[int, ...], words: int) -> Layout:
    """Lay out a coded block of so many words from its own table, or its row classes, or the one shared table."""
    steps = range(-(-words // LANES))
    if not classes:
        table = own or head.tables[0]
        return Layout(((words, table.raw_bits),), tuple(table for _ in steps))
    tables = [head.tables[c] for c in classes]
    groups = groupby(table.raw_bits for table in tables)
    runs = tuple((head.row_words * len(list(rows)), width) for width, rows in groups)
    return Layout(runs, tuple(tables[s * LANES // head.row_words] for s in steps))


class Cursor:
    """Takes the parts of a block, in order."""

    def __init__(self, body: bytes, block: int) -> None:
        self.body, self.block, self.at = body, block, 0

    def take(self, size: int) -> bytes:
        """Give the next `size` bytes; a fault if they are not there."""
        left = len(self.body) - self.at
        if not 0 <= size <= left:
            raise PayloadFault(self.block, f"length must hold every part, not {len(self.body)} bytes")
        self.at += size
        return self.body[self.at - size : self.at]


def read_choices(cursor: Cursor, head: Head) -> tuple[Table | None, tuple[int, ...]]:
    """Read what a coded block starts with: its own table, or the classes of its rows, or nothing."""
    block, words = cursor.block, head.words_of(cursor.block)
    if not head.tables:
        table = Table.from_bytes(cursor.take(TABLE_BYTES))
        check_table(table, head, block)
        return table, ()
    if len(head.tables) == 1:
        return None, ()
    rows = words // head.row_words
    packed = cursor.take(-(-rows // 2))
    nibbles = [nibble for byte in packed for nibble in (byte & 15, byte >> 4)]
    if any(nibbles[rows:]):
        raise PayloadFault(block, "the nibble after the last row class must be 0, not "
                           f"{nibbles[rows]!r}")  # fmt: skip
    if max(nibbles) >= len(head.tables):
        raise PayloadFault(block, f"a row class must be below {len(head.tables)}, not {max(nibbles)!r}")
    return None, tuple(nibbles[:rows])


def plan_of(payload: Payload) -> Plan:
    """Recover the plan of a payload; its checksums are not looked at."""
    data = bytes(payload)
    head = parse_head(data, None)
    return Plan(
        head.values, head.escape, head.tables, head.block_words, head.row_words, head.base,
        head.bits if head.family is Family.INTEGER else 0, tuple(_plan_blocks(data, head)),
    )  # fmt: skip


def _plan_blocks(data: bytes, head: Head) -> Iterator[BlockPlan]:
    for block, entry in enumerate(head.entries):
        if entry.kind == Kind.CODED:
            cursor = Cursor(data[head.starts[block] : head.starts[block + 1]], block)
            yield BlockPlan(entry.kind, *read_choices(cursor, head))
        else:
            yield BlockPlan(entry.kind)
