"""How a matrix lies in the memories that the reorganizer reads, and what its parts tell one another.

The master copy of a matrix holds all its weights. Tags, nested and decided beforehand, say what each granularity keeps:
a bit a weight (fine), a bit for each block of a tile (medium), and a table of the input channels (coarse).

| memory | word | address |
|---|---|---|
| master | `master_layout`, 144 bits: an input channel's weights | base + 8 (tile * blocks + block) + position |
| tags | 32 bits: bit b of word w tells of block 32 w + b | base + tile * ceil(blocks / 32) + w |
| table | `entry_layout`, 88 bits: a channel of each bank of the activation memory | base + entry |
"""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from regrain.hw.machine import Machine
from regrain.hw.rtl.layouts import BLOCK_BITS

ADDRESS_BITS = 24
TILE_BITS = 10
TAG_BITS = 32


class Refusal(IntEnum):
    """Why a reorganizer stopped."""

    NONE = 0
    GRANULARITY = 1  # 3 is none
    BLOCKS = 2  # 0 blocks, or more than a number of ten bits counts
    ENTRIES = 3  # more entries in the gather table than blocks
    TAG = 4  # a medium tag of a block beyond the last
    TABLE = 5  # an entry without a channel, or with one beyond the last block
    WORD = 6  # a word of the master copy came that wasn't asked for


COMMAND = data.StructLayout(
    {
        "tile": TILE_BITS,
        "granularity": 2,  # `Code`
        "inside": 1,  # with medium: weights without a fine tag take no cycle
        "blocks": BLOCK_BITS + 1,  # of inputs, 1 to 1,024
        "entries": BLOCK_BITS + 1,  # of the gather table
        "master": ADDRESS_BITS,
        "tags": ADDRESS_BITS,
        "table": ADDRESS_BITS,
    }
)
"""A tile: its number among the matrix' tiles, and how its matrix lies in the memories (the last three: addresses)."""


class Reading(Signature):
    """A memory of `width` bits, seen by its reader.

    In a cycle with `read` and `ready` an address is taken; in a later one, in order, `data` comes with `valid`, which
    stands for one cycle.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            {"read": Out(1), "ready": In(1), "address": Out(ADDRESS_BITS), "valid": In(1), "data": In(width)}
        )


def master_layout(machine: Machine) -> data.StructLayout:
    """An input channel's weights in a tile, and their fine tags: 1 is kept. A weight of 0 counts as not kept."""
    return data.StructLayout({"values": data.ArrayLayout(signed(8), machine.outputs), "fine": machine.outputs})


def entry_layout(machine: Machine) -> data.StructLayout:
    """Slot s holds channel block * rows[s] + s, if `present`."""
    return data.StructLayout({"rows": data.ArrayLayout(BLOCK_BITS, machine.block), "present": machine.block})


def group_layout(machine: Machine) -> data.StructLayout:
    """Words of the master copy that make one step: `present` slots of `rows`; or, with `end`, the end of a tile."""
    return data.StructLayout(
        {
            "rows": data.ArrayLayout(BLOCK_BITS, machine.block),
            "present": machine.block,
            "base": ADDRESS_BITS,
            "block": BLOCK_BITS,
            "whole": 1,  # its words stay together, whatever the fine tags say
            "gather": 1,
            "end": 1,
        }
    )


def pending_layout(machine: Machine) -> data.StructLayout:
    """What is known of a word that is on its way; or, with `end`, the end of a tile, for which no word comes."""
    return data.StructLayout(
        {"slot": machine.index_bits, "block": BLOCK_BITS, "complete": 1, "whole": 1, "gather": 1, "end": 1}
    )
