"""Bits that several components agree on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from amaranth.hdl import signed
from amaranth.lib import data

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

BLOCK_BITS = 10
"""A number of a block of inputs, or of a row of the activation memory: `machine.MOST_BLOCKS`."""

TOKEN_BITS = 16
"""A number of a tile of tokens."""


class Fault(IntEnum):
    """Why the engine stopped. The first fault stays until reset."""

    NONE = 0
    FRAMING = 1  # a step has not as many words as it said, or a tile doesn't end with a step
    WORDS = 2  # a tile has more words than a bank
    LIST = 3  # a tile has more steps than a list
    BLOCK = 4  # a step names a block that there isn't
    MIXED = 5  # words of one tile differ in `listed` or `gather`
    ORDER = 6  # blocks of a tile that isn't listed must be 0, 1, 2 ... with one count
    JOB = 7  # a job of no tiles, no tokens, or beyond the tables
    WATCHDOG = 8  # nothing happened for too long


def lanes_layout(machine: Machine) -> Any:
    """What lanes take in one cycle: lane i of the tile's outputs has a signed `value` and the `index` of an
    activation in the held block, in bits [11 i, 11 i + 11) of the default machine, the value below. A value of 0 is
    no weight.
    """
    return data.ArrayLayout(data.StructLayout({"value": signed(8), "index": machine.index_bits}), machine.outputs)


def word_layout(machine: Machine) -> Any:
    """A word of a tile's stream, in this order from bit 0: weights of all lanes; whether a step begins; its block;
    its words less one; whether the tile ends; whether the sequencer reads the blocks from a list; whether a block is
    a row of the gather table. Block and count are read where a step begins, the last two must be the same in a whole
    tile.
    """
    return data.StructLayout(
        {
            "weights": lanes_layout(machine),
            "first": 1,
            "block": BLOCK_BITS,
            "count": machine.index_bits,
            "last": 1,
            "listed": 1,
            "gather": 1,
        }
    )


def step_layout(machine: Machine) -> Any:
    """An entry of a list: a block, and for how many words, less one, it is held."""
    return data.StructLayout({"block": BLOCK_BITS, "count": machine.index_bits})


def tile_layout(machine: Machine) -> Any:
    """What is known of a tile in a bank: the address of its last word, the count of its first step less one, and the
    two flags of its words.
    """
    return data.StructLayout({"end": range(machine.bank_words), "count": machine.index_bits, "listed": 1, "gather": 1})


def tokens_layout(machine: Machine) -> Any:
    """A block of int8 activations for each row."""
    return data.ArrayLayout(data.ArrayLayout(signed(8), machine.block), machine.rows)


def accumulators_layout(machine: Machine) -> Any:
    """One accumulator for each output of a tile."""
    return data.ArrayLayout(signed(machine.accumulator), machine.outputs)


CONTROL = data.StructLayout({"valid": 1, "load": 1, "clear": 1, "drain": 1})
"""What a word tells the array. `valid`: it is one; `load`: take a new block of activations; `clear`: it is the first
of a pass; `drain`: the last."""
