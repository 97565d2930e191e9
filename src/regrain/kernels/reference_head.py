"""The head of a coded payload: what it holds, how it is read, checked and written.

The layout and the numbered reasons to reject are those of docs/format.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import accumulate

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_crc import seeded_crc32c
from regrain.kernels.reference_planes import LANES
from regrain.kernels.reference_tables import MOST, SYMBOLS, TOTAL

MAGIC = b"rgP1"
FLOATS = ((1, 2), (1, 3), (2, 7), (2, 10), (4, 23))
"""(bytes of a word, mantissa bits) of every float that can be coded."""

ESCAPE = 15
"""The symbol that stands for any value not among the others, if the head says so."""

HEAD = 0xFFFFFFFF
"""Block number that seeds the checksum of the head."""

_FIXED = struct.Struct("<4sBBBBQQII16sB3s")
_TABLE = struct.Struct("<B16s")
TABLE_BYTES = _TABLE.size
_ENTRY = struct.Struct("<IIHBB")


class Family(IntEnum):
    """What the words are."""

    FLOAT = 0
    INTEGER = 1


class Kind(IntEnum):
    """How a block is kept."""

    CODED = 0
    STORED = 1
    CONSTANT = 2


@dataclass(frozen=True)
class Table:
    """Raw bits of a word beside its symbol, and 16 frequencies that sum to 256."""

    raw_bits: int
    freq: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Give the 17 bytes of the table."""
        return _TABLE.pack(self.raw_bits, bytes(self.freq))

    @classmethod
    def from_bytes(cls, data: bytes) -> Table:
        """Read 17 bytes; nothing is checked."""
        raw_bits, freq = _TABLE.unpack(data)
        return cls(raw_bits, tuple(freq))


@dataclass(frozen=True)
class Entry:
    """A block's line in the index; length in bytes, escapes in words."""

    length: int
    crc: int
    escapes: int
    kind: Kind


@dataclass(frozen=True)
class Head:
    """A payload's head, every field checked; `bits` is M of floats and k of integers."""

    family: Family
    word_bytes: int
    bits: int
    escape: bool
    count: int
    base: int
    block_words: int
    row_words: int
    values: tuple[int, ...]
    tables: tuple[Table, ...]
    entries: tuple[Entry, ...]

    @property
    def alphabet(self) -> int:
        """Number of symbols, the escape included."""
        return len(self.values) + self.escape

    @property
    def field_bits(self) -> int:
        """Width of the coded field: values and escape bytes are below 2^field_bits."""
        if self.family is Family.FLOAT:
            return 8 * self.word_bytes - 1 - self.bits
        return min(8, 8 * self.word_bytes - self.bits)

    @property
    def size(self) -> int:
        """Bytes of the head, its checksum included; the blocks start here."""
        return _FIXED.size + _TABLE.size * len(self.tables) + _ENTRY.size * len(self.entries) + 4

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Byte at which each block starts, and the end of the last."""
        return tuple(accumulate((e.length for e in self.entries), initial=self.size))

    def words_of(self, block: int) -> int:
        """Count the words of a block: the last may be short."""
        return min(self.block_words, self.count - block * self.block_words)

    def to_bytes(self, seed: int) -> bytes:
        """Write the head, its checksum included."""
        letters = self.alphabet | (0x80 if self.escape else 0)
        values = bytes(self.values).ljust(SYMBOLS, b"\0")
        head = _FIXED.pack(
            MAGIC, self.family, self.word_bytes, self.bits, letters, self.count, self.base,
            self.block_words, self.row_words, values, len(self.tables), bytes(3),
        )  # fmt: skip
        head += b"".join(table.to_bytes() for table in self.tables)
        for entry in self.entries:
            head += _ENTRY.pack(entry.length, entry.crc, entry.escapes, entry.kind, 0)
        return head + struct.pack("<I", seeded_crc32c(head, seed, HEAD))


def parse_head(payload: bytes, seed: int | None) -> Head:
    """Read the head of a whole payload; raise PayloadFault unless all of it is sound.

    The checksum is left out if `seed` is None. Nothing is allocated for a length that the
    payload can't hold.
    """
    _require(len(payload) >= _FIXED.size + 4, "payload must hold a head", f"{len(payload)} bytes")
    (magic, family, word_bytes, bits, letters, count, base, block_words, row_words, values,
     table_count, zeros) = _FIXED.unpack_from(payload)  # fmt: skip
    _require(magic == MAGIC, "magic must be b'rgP1'", magic)
    _require(table_count <= SYMBOLS, "tables must be at most 16", table_count)
    _require(count >= 1, "count must be at least 1", count)
    _require(1 <= block_words <= 65536, "block_words must be 1 to 65536", block_words)
    blocks = -(-count // block_words)
    _require(blocks < HEAD, f"blocks must be fewer than {HEAD}", blocks)
    size = _FIXED.size + _TABLE.size * table_count + _ENTRY.size * blocks + 4
    _require(size <= len(payload), f"payload must hold a head of {size} bytes", len(payload))
    if seed is not None:
        found = seeded_crc32c(payload[: size - 4], seed, HEAD)
        stated = int.from_bytes(payload[size - 4 : size], "little")
        if found != stated:
            raise PayloadFault(None, f"checksum must be {stated:08x}, not {found:08x}")

    _require(zeros == bytes(3), "reserved bytes must be zero", zeros)
    _require(family in (0, 1), "family must be 0 or 1", family)
    escape, alphabet = bool(letters & 0x80), letters & 0x7F
    _require(1 <= alphabet <= SYMBOLS, "alphabet must be 1 to 16", alphabet)
    _require(alphabet == SYMBOLS or not escape, "alphabet with escape must be 16", alphabet)
    used = alphabet - escape
    _require(not any(values[used:]), "unused values must be zero", values)
    at = _FIXED.size
    tables = tuple(Table.from_bytes(payload[at + _TABLE.size * i :][: _TABLE.size]) for i in range(table_count))
    at += _TABLE.size * table_count
    head = Head(
        Family(family), word_bytes, bits, escape, count, base, block_words, row_words,
        tuple(values[:used]), tables, (),
    )  # fmt: skip
    check_head(head)
    entries = tuple(_parse_entry(payload, at + _ENTRY.size * i, i, head) for i in range(blocks))
    head = replace(head, entries=entries)
    end = head.starts[-1]
    _require(len(payload) == -(-end // 8) * 8, f"payload must be {-(-end // 8) * 8} bytes",
             len(payload))  # fmt: skip
    return head


def check_head(head: Head) -> None:
    """Raise PayloadFault unless every field but the entries is sound, and fits the others."""
    size, bits = head.word_bytes, head.bits
    if head.family is Family.FLOAT:
        _require((size, bits) in FLOATS, f"(word bytes, mantissa bits) must be one of {FLOATS}",
                 (size, bits))  # fmt: skip
        _require(head.base == 0, "base of floats must be 0", head.base)
    else:
        _require(size in (1, 2, 4, 8), "word bytes must be 1, 2, 4 or 8", size)
        _require(bits <= min(24, 8 * size), f"raw bits must be at most {min(24, 8 * size)}", bits)
        _require(head.base < 1 << 8 * size, f"base must be below 2^{8 * size}", head.base)
    _require(1 <= head.alphabet <= SYMBOLS, "alphabet must be 1 to 16", head.alphabet)
    _require(head.alphabet == SYMBOLS or not head.escape, "alphabet with escape must be 16",
             head.alphabet)  # fmt: skip
    _require(len(set(head.values)) == len(head.values), "values must be distinct", head.values)
    _require(max(head.values) < 1 << head.field_bits, f"values must be below 2^{head.field_bits}",
             head.values)  # fmt: skip
    rows = head.row_words
    if len(head.tables) <= 1:
        _require(rows == 0, "row_words without row classes must be 0", rows)
    else:
        _require(rows >= LANES, "row_words must be at least 64", rows)
        _require(head.block_words % rows == 0, f"row_words must divide {head.block_words}", rows)
        _require(head.count % rows == 0, f"row_words must divide {head.count}", rows)
    for table in head.tables:
        check_table(table, head, None)
    widths = {table.raw_bits for table in head.tables}
    _require(rows % LANES == 0 or len(widths) == 1, "rows of several raw bits must be whole steps of 64 words", rows)


def check_table(table: Table, head: Head, block: int | None) -> None:
    """Raise PayloadFault unless a table, of the head or (block given) of a block, is sound."""
    raw_bits, freq = table.raw_bits, table.freq
    if head.family is Family.FLOAT:
        fits, limit = raw_bits <= head.bits + 1, f"at most {head.bits + 1}"
    else:
        fits, limit = raw_bits == head.bits, f"{head.bits}"
    _require(fits, f"raw bits of a table must be {limit}", raw_bits, block)
    _require(sum(freq) == TOTAL, "frequencies must sum to 256", sum(freq), block)
    _require(max(freq) <= MOST, "a frequency must be at most 255", max(freq), block)
    _require(not any(freq[head.alphabet :]), "a frequency beyond the alphabet must be 0",
             freq, block)  # fmt: skip


def _parse_entry(payload: bytes, at: int, block: int, head: Head) -> Entry:
    length, crc, escapes, kind, zero = _ENTRY.unpack_from(payload, at)
    words, entry = head.words_of(block), f"entry {block}:"
    _require(zero == 0, f"{entry} reserved byte must be zero", zero)
    _require(kind <= 2, f"{entry} kind must be 0, 1 or 2", kind)
    if kind != Kind.CODED:
        _require(escapes == 0, f"{entry} escapes of a block that is not coded must be 0", escapes)
        exact = head.word_bytes * (words if kind == Kind.STORED else 1)
        _require(length == exact, f"{entry} length must be {exact}", length)
    most = 1024 + 256 * -(-words // 64) + escapes
    _require(length <= most or kind != Kind.CODED, f"{entry} length must be at most {most}", length)
    return Entry(length, crc, escapes, Kind(kind))


def _require(holds: bool, must: str, found: object, block: int | None = None) -> None:
    if not holds:
        raise PayloadFault(block, f"{must}, not {found!r}")
