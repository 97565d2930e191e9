"""The reference decoder: one step of 64 lanes at a time, all else spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_crc import seeded_crc32c
from regrain.kernels.reference_head import ESCAPE, Family, Head, Kind, parse_head
from regrain.kernels.reference_plan import Cursor, Layout, Payload, layout_of, read_choices
from regrain.kernels.reference_planes import LANES, Words, join_floats, planes_size, unpack
from regrain.kernels.reference_tables import alias

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode(payload: Payload, *, seed: int, first: int = 0, count: int | None = None) -> NDArray[np.unsignedinteger]:
    """Decode words first … first + count (default: to the last), reading only their blocks.

    Returns (count,) uint8, uint16, uint32 or uint64. `seed` is the CRC-32C of the tensor's name.
    Raises PayloadFault if the head or a block that is read is unsound, ValueError if the payload
    has no such words.
    """
    data = bytes(payload)
    head = parse_head(data, seed)
    if count is None:
        count = head.count - first
    if not 0 <= first <= first + count <= head.count:
        raise ValueError(f"first and count must lie within {head.count} words, not {first!r} and {count!r}")
    if count == 0:
        return np.zeros(0, _dtype(head))
    start, stop = first // head.block_words, -(-(first + count) // head.block_words)
    parts = [_decode_block(data, head, block, seed) for block in range(start, stop)]
    first -= start * head.block_words
    return np.concatenate(parts)[first : first + count].astype(_dtype(head))


def _dtype(head: Head) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"u{head.word_bytes}")


def _decode_block(data: bytes, head: Head, block: int, seed: int) -> Words:
    entry, words = head.entries[block], head.words_of(block)
    body = data[head.starts[block] : head.starts[block + 1]]
    found = seeded_crc32c(body, seed, block)
    if found != entry.crc:
        raise PayloadFault(block, f"checksum must be {entry.crc:08x}, not {found:08x}")
    if block == len(head.entries) - 1 and any(data[head.starts[-1] :]):
        raise PayloadFault(block, "bytes after the last block must be zero")
    if entry.kind == Kind.CODED:
        return _decode_coded(body, head, block)
    stored = np.frombuffer(body, f"<u{head.word_bytes}").astype(np.uint64)
    return stored if entry.kind == Kind.STORED else np.full(words, stored[0])


def _decode_coded(body: bytes, head: Head, block: int) -> Words:
    words, escapes = head.words_of(block), head.entries[block].escapes
    cursor = Cursor(body, block)
    layout = layout_of(head, *read_choices(cursor, head), words)
    states = np.frombuffer(cursor.take(2 * LANES), "<u2")
    stream = np.frombuffer(cursor.take(len(body) - cursor.at - layout.planes - escapes), np.uint8)
    planes = np.frombuffer(cursor.take(layout.planes), np.uint8)
    escaped = np.frombuffer(cursor.take(escapes), np.uint8)

    symbols, carried = _decode_symbols(states, stream, layout, block)
    if not layout.carries and carried.any():
        raise PayloadFault(block, "final states must be 0x100 where they carry nothing")
    fields = _fields(symbols.ravel()[:words], escaped, head, block)
    parts, at, done = [], 0, 0
    for run, width in layout.runs:
        size = planes_size(run, width)
        plane = planes[at : at + size]
        if run + done == words and layout.carries:
            hole = -(-run // LANES) * LANES - LANES
            plane = np.concatenate([plane[:hole], carried, plane[hole:]])
        parts.append(_join(fields[done : done + run], unpack(plane, run, width), width, head))
        at, done = at + size, done + run
    return np.concatenate(parts)


def _decode_symbols(
    states: NDArray[np.uint16], stream: NDArray[np.uint8], layout: Layout, block: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Run the 64 lanes; give symbols (steps, 64) and the 64 bytes that the states carried."""
    x = states.astype(np.uint32)
    if x.min() < 256:
        raise PayloadFault(block, f"states must be at least 256, not {x.min()}")
    symbols = np.empty((len(layout.steps), LANES), np.uint8)
    at = 0
    for step, table in enumerate(layout.steps):
        code = alias(table.freq)
        slot = x & 255
        symbols[step] = code.symbol[slot]
        x = code.freq[slot] * (x >> 8) + code.offset[slot]
        short = x < 256
        needed = int(np.count_nonzero(short))
        if at + needed > stream.size:
            raise PayloadFault(block, f"stream must not end before step {step} is decoded")
        x[short] = x[short] << 8 | stream[at : at + needed]
        at += needed
    if at != stream.size:
        raise PayloadFault(block, f"stream must be {at} bytes, not {stream.size}")
    if (x >> 8 != 1).any():
        raise PayloadFault(block, "final states must be 0x100 to 0x1ff")
    return symbols, x.astype(np.uint8)


def _fields(symbols: NDArray[np.uint8], escaped: NDArray[np.uint8], head: Head, block: int) -> Words:
    """Turn symbols into field values, the escape bytes put where they belong."""
    values = np.zeros(16, np.uint64)
    values[: len(head.values)] = head.values
    fields: Words = values[symbols]
    places = symbols == ESCAPE if head.escape else np.zeros(symbols.size, np.bool_)
    found = int(np.count_nonzero(places))
    if found != escaped.size:
        raise PayloadFault(block, f"escapes must be {found}, not {escaped.size}")
    if found and int(escaped.max()) >> head.field_bits:
        raise PayloadFault(block, f"an escape byte must be below 2^{head.field_bits}, not {escaped.max()}")
    fields[places] = escaped
    return fields


def _join(field: Words, raw: Words, width: int, head: Head) -> Words:
    if head.family is Family.FLOAT:
        return join_floats(field, raw, width, head.bits, 8 * head.word_bytes - 1)
    return np.uint64(head.base) + (field << np.uint64(width) | raw)
