"""The reference encoder: a pure function of words and plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.reference_crc import seeded_crc32c
from regrain.kernels.reference_head import ESCAPE, Entry, Family, Head, Kind, check_head, check_table, parse_head
from regrain.kernels.reference_plan import BlockPlan, Layout, Plan, layout_of
from regrain.kernels.reference_planes import LANES, Words, pack, split_floats
from regrain.kernels.reference_tables import alias

Natural = NDArray[np.integer]
"""Words as they are kept: 1, 2, 4 or 8 bytes."""


def encode(words: Natural, *, family: int, mantissa_bits: int, plan: Plan, seed: int) -> NDArray[np.uint8]:
    """Write the payload of `words` ((n,) of 1, 2, 4 or 8 bytes) that `plan` describes.

    `family` is 0 for floats, with `mantissa_bits` of 2, 3, 7, 10 or 23, and 1 for integers.
    Raises ValueError if the plan makes no valid head, or a block can't hold its words.
    """
    if words.ndim != 1 or words.dtype.kind not in "iu":
        raise ValueError(f"words must be one row of integers, not {words.dtype} {words.shape}; view them as such")
    size = words.dtype.itemsize
    natural = words.astype(f"<u{size}")
    bits = mantissa_bits if family == Family.FLOAT else plan.raw_bits
    head = Head(
        Family(family), size, bits, plan.escape, natural.size, plan.base, plan.block_words,
        plan.row_words, plan.values, plan.tables, (),
    )  # fmt: skip
    check_head(head)
    blocks = -(-natural.size // plan.block_words)
    if len(plan.blocks) != blocks:
        raise ValueError(f"the plan must have {blocks} blocks, not {len(plan.blocks)!r}")
    bodies, entries = [], []
    for block, choice in enumerate(plan.blocks):
        part = natural[block * plan.block_words :][: plan.block_words]
        body, escapes = _encode_block(part, head, choice, block)
        bodies.append(body)
        entries.append(Entry(len(body), seeded_crc32c(body, seed, block), escapes, choice.kind))
    data = replace(head, entries=tuple(entries)).to_bytes(seed) + b"".join(bodies)
    data += bytes(-len(data) % 8)
    parse_head(data, seed)
    return np.frombuffer(data, np.uint8)


def _encode_block(words: Natural, head: Head, choice: BlockPlan, block: int) -> tuple[bytes, int]:
    """Give a block's bytes and how many of its words are escaped."""
    if choice.kind == Kind.STORED:
        return words.tobytes(), 0
    if choice.kind == Kind.CONSTANT:
        if (words != words[0]).any():
            raise ValueError(f"words of constant block {block} must be equal; plan it as stored")
        return words[:1].tobytes(), 0

    _check_choice(choice, head, words.size, block)
    layout = layout_of(head, choice.table, choice.classes, words.size)
    fields, planes = _part(words.astype(np.uint64), head, layout, block)
    symbols, escaped = _symbols(fields, head, layout, block)
    carried = np.zeros(LANES, np.uint8)
    if layout.carries:
        last = planes[-1]
        hole = -(-layout.runs[-1][0] // LANES) * LANES - LANES
        carried = last[hole : hole + LANES]
        planes[-1] = np.concatenate([last[:hole], last[hole + LANES :]])
    states, stream = _encode_symbols(symbols, carried, layout)
    start = choice.table.to_bytes() if choice.table else _pack_nibbles(choice.classes)
    body = start + states.astype("<u2").tobytes() + stream
    return body + b"".join(p.tobytes() for p in planes) + escaped.tobytes(), escaped.size


def _check_choice(choice: BlockPlan, head: Head, words: int, block: int) -> None:
    """Refuse a block's plan that disagrees with the number of shared tables."""
    rows = words // head.row_words if head.row_words else 0
    if (choice.table is None) != bool(head.tables) or len(choice.classes) != rows:
        raise ValueError(
            f"the plan of block {block} must have its own table if none is shared, and {rows} row "
            f"classes below {len(head.tables)}, not {choice!r}"
        )
    if choice.table:
        check_table(choice.table, head, block)
    if choice.classes and not 0 <= min(choice.classes) <= max(choice.classes) < len(head.tables):
        raise ValueError(f"row classes of block {block} must be below {len(head.tables)}, not {choice.classes!r}")


def _pack_nibbles(nibbles: tuple[int, ...]) -> bytes:
    padded = (*nibbles, 0)
    return bytes(padded[i] | padded[i + 1] << 4 for i in range(0, len(nibbles), 2))


def _part(words: Words, head: Head, layout: Layout, block: int) -> tuple[Words, list[NDArray[np.uint8]]]:
    """Part words into field values and the planes of each run."""
    fields, planes, done = [], [], 0
    for run, width in layout.runs:
        field, raw = _split(words[done : done + run], width, head, block)
        fields.append(field)
        planes.append(pack(raw, width))
        done += run
    return np.concatenate(fields), planes


def _split(words: Words, width: int, head: Head, block: int) -> tuple[Words, Words]:
    """Give field value and raw bits of each word, or refuse a word that they can't hold."""
    bits = 8 * head.word_bytes
    if head.family is Family.FLOAT:
        field, rest = split_floats(words, head.bits, bits - 1)
        dropped = np.uint64(head.bits + 1 - width)
        raw = rest >> dropped
        lost = (raw << dropped != rest).any()
    else:
        rest = words - np.uint64(head.base) & np.uint64((1 << bits) - 1)
        field, raw = rest >> np.uint64(width), rest & np.uint64((1 << width) - 1)
        lost = (field >> np.uint64(head.field_bits)).any()
    if lost:
        raise ValueError(f"words of block {block} must fit {width} raw bits; plan it as stored")
    return field, raw


def _symbols(fields: Words, head: Head, layout: Layout, block: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give the symbols (steps, 64) and the escape bytes.

    A value without a symbol, or whose symbol has frequency 0 in its step's table, is escaped.
    The last step is filled up with the most frequent symbol of its table, the lowest on ties.
    """
    steps = len(layout.steps)
    freq = np.array([table.freq for table in layout.steps], np.uint32)
    symbol_of = np.full(1 << head.field_bits, ESCAPE, np.uint8)
    symbol_of[list(head.values)] = np.arange(len(head.values))
    known = np.zeros(symbol_of.size, np.bool_)
    known[list(head.values)] = True

    symbols = np.full(steps * LANES, freq[-1].argmax(), np.uint8)
    symbols[: fields.size] = symbol_of[fields]
    step = np.arange(fields.size) // LANES
    lost = ~known[fields] | (freq[step, symbols[: fields.size]] == 0)
    if lost.any() and not (head.escape and freq[step[lost], ESCAPE].all()):
        raise ValueError(f"values of block {block} must have symbols or an escape; plan it as stored")
    symbols[: fields.size][lost] = ESCAPE
    return symbols.reshape(steps, LANES), fields[lost].astype(np.uint8)


def _encode_symbols(
    symbols: NDArray[np.uint8], carried: NDArray[np.uint8], layout: Layout
) -> tuple[NDArray[np.uint32], bytes]:
    """Run the 64 lanes from the last step to the first; give the states and the stream.

    A step's bytes are kept in ascending lane order, the order in which a decoder takes them.
    """
    x: NDArray[np.uint32] = np.uint32(0x100) | carried.astype(np.uint32)
    chunks = []
    for row, table in zip(symbols[::-1], layout.steps[::-1], strict=True):
        code = alias(table.freq)
        freq = np.asarray(table.freq, np.uint32)[row]
        full = x >= freq << 8
        chunks.append(x[full].astype(np.uint8).tobytes())
        x = np.where(full, x >> 8, x)
        x = ((x // freq) << 8) | code.slot[row, x % freq]
    return x, b"".join(reversed(chunks))
