"""Numbers as the bits of wide ports: words of the stream, rows of the tables, registers of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from regrain.hw.machine import Machine
    from regrain.hw.model.program import Tile

Words = NDArray[np.uint32]
Bits = NDArray[np.uint8]


def pack(tiles: Sequence[Tile], machine: Machine) -> tuple[Words, NDArray[np.bool_]]:
    """The stream of all tiles: (words, 32-bit words of one `rtl.layouts.word_layout`), and which words end a tile."""
    lasts = [np.arange(tile.words) == tile.words - 1 for tile in tiles]
    return np.concatenate([joined(_word(tile, machine)) for tile in tiles]), np.concatenate(lasts)


def bits(values: NDArray[Any], width: int) -> Bits:
    """The lowest bits of each number, the lowest first: (..., width)."""
    return (values[..., None].astype(np.int64) >> np.arange(width) & 1).astype(np.uint8)


def joined(fields: Sequence[Bits]) -> Words:
    """Bits of fields, each (rows, bits), one after the other: (rows, words), little-endian."""
    flat = np.concatenate(fields, axis=1)
    whole = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return np.packbits(whole, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def register(layout: Any, fields: Mapping[str, int]) -> int:
    """A structure of Amaranth, from its fields."""
    value: int = layout.const(dict(fields)).as_value().value
    return value


def _word(tile: Tile, machine: Machine) -> list[Bits]:
    first = np.zeros(tile.words, np.bool_)
    first[np.cumsum(tile.counts, dtype=np.int64) - tile.counts] = True
    step = np.cumsum(first) - 1
    values = np.unpackbits(tile.values.view(np.uint8)[..., None], axis=2, bitorder="little")
    index = np.unpackbits(tile.index[..., None], axis=2, bitorder="little", count=machine.index_bits)
    one = np.ones(tile.words, np.bool_)
    return [
        np.concatenate([values, index], axis=2).reshape(tile.words, -1),
        bits(first, 1),
        bits(tile.blocks[step] * first, 10),
        bits((tile.counts[step] - 1) * first, machine.index_bits),
        bits(np.arange(tile.words) == tile.words - 1, 1),
        bits(one & tile.listed, 1),
        bits(one & tile.gather, 1),
    ]
