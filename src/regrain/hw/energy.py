"""Energy: what happened in a run of the array, times what each happening costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrain.hw.machine import ACTIVATION_BITS, VALUE_BITS
from regrain.hw.model.timing import ENTRY_BITS
from regrain.hw.networks.schedule import stalls

if TYPE_CHECKING:
    from regrain.hw.energy_table import Table
    from regrain.hw.machine import Machine
    from regrain.hw.model.memory import Memory
    from regrain.hw.model.timing import Events, Timing

_COLUMN = 64  # bits: wider memories are made of such
_PRODUCT = 2 * VALUE_BITS
GATHERED = 10
"""Bits of a row in the gather table."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a memory gave and took."""

    read: float
    written: float


@dataclass(frozen=True, slots=True)
class Features:
    """Where a matrix' inputs come from and its outputs go.

    A convolution's rows have each input `repeats` times: they are made of images on the way into the buffer. `inputs`
    come from, and `outputs` go to, a memory on chip of so many `kept_bytes`; else memory outside.
    """

    repeats: float = 1.0
    kept_bytes: int = 0
    inputs: bool = False
    outputs: bool = False


OUTSIDE = Features()


def traffic(events: Events, machine: Machine, features: Features = OUTSIDE) -> dict[str, Traffic]:
    """What was moved from and to each memory. Outputs are moved as bytes."""
    entries = ENTRY_BITS / 8
    read, written = events.activation_bits_fetched / 8 / features.repeats, events.outputs * ACTIVATION_BITS / 8
    return {
        "memory": Traffic(
            events.weight_bits_fetched / 8 + read * (not features.inputs), written * (not features.outputs)
        ),
        "feature memory": Traffic(read * features.inputs, written * features.outputs),
        "weight banks": Traffic(events.words * machine.word_bits / 8, events.bank_writes * machine.word_bits / 8),
        "lists": Traffic(events.list_reads * entries, events.list_writes * entries),
        "gather table": Traffic(events.gather_reads * machine.block * GATHERED / 8, 0.0),
        "activation buffer": Traffic(
            events.steps * machine.rows * machine.block * ACTIVATION_BITS / 8, events.activation_bits_fetched / 8
        ),
    }


def energy(
    timing: Timing,
    table: Table,
    machine: Machine,
    memory: Memory,
    features: Features = OUTSIDE,
    master_words: int = 0,
) -> dict[str, float]:
    """pJ by part of what a run of the array did.

    A word of weights is read once and clocked through all rows; a block of activations is read once a row and clocked
    through its processing elements. Lanes that are gated choose, but neither multiply nor clock an accumulator. The
    activation buffer has a bank for each position of a block, each as wide as the array has rows; a wide memory is made
    of narrow ones side by side. An output is copied, shifted by half of the rows on the average, rescaled, watched, and
    written. The reorganizer clocks each word of the master copy, with its tags, in and out of its buffers.
    """
    what, cost, moved = timing.events, table.pj, traffic(timing.events, machine, features)
    block_bits = machine.rows * machine.block * ACTIVATION_BITS
    sizes = {
        "feature memory": max(features.kept_bytes, 1),
        "weight banks": _column(machine.bank_words, machine.word_bits),
        "lists": _column(machine.list_entries, ENTRY_BITS),
        "gather table": _column(machine.list_entries, machine.block * GATHERED),
        "activation buffer": _column(memory.buffer_bits / block_bits, machine.rows * ACTIVATION_BITS),
    }
    kept = {
        name: 8 * (moved[name].read * table.read_bits(size) + moved[name].written * table.write_bits(size))
        for name, size in sizes.items()
    }
    clocked = (
        what.words * machine.rows * machine.word_bits
        + what.steps * machine.pes * block_bits
        + what.macs * (_PRODUCT + machine.accumulator)
        + what.outputs * machine.accumulator * (1 + machine.rows / 2)
    )
    return {
        "arithmetic": what.macs * (cost["multiply"] + cost["add"]),
        "selection": (what.macs + what.gated) * cost["select"],
        "registers": clocked * cost["register"],
        "gated lanes": what.gated * cost["gated"],
        "stalls": sum(stalls(timing).values()) * machine.macs * cost["idle"],
        "re-organization": 2 * master_words * machine.outputs * (VALUE_BITS + 1) * cost["register"],
        **kept,
        "write-back": what.outputs * (cost["rescale"] + cost["square"]),
        "memory": (moved["memory"].read + moved["memory"].written) * cost["memory"],
    }


def _column(words: float, bits: int) -> float:
    """Bytes of the narrow memories that one of so many words of so many bits is made of."""
    return words * min(bits, _COLUMN) / 8
