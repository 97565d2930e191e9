"""The cycle model of the engine: when each pass begins and ends, what it waits for, and what happens meanwhile.

Written from the rules of the machine (docs/hardware.md), not from the hardware's description: the two are compared.
Cycle 0 is the one in which `start` is high.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from regrain.hw.machine import ACTIVATION_BITS, Machine
from regrain.hw.model.memory import Memory

if TYPE_CHECKING:
    from regrain.hw.model.program import Program, Tile

ENTRY_BITS = 10 + 3
"""Bits of a list entry: a block and a count."""


@dataclass(frozen=True, slots=True)
class Events:
    """What happened, in numbers: the cause of energy. All are sums over a run.

    A MAC is one weight that meets one activation; `gated` are lanes that stood still while a word was issued. A step
    reads one block of activations for all rows. Words have `Machine.word_bits`. `outputs` are accumulators that left.
    """

    words: int = 0
    macs: int = 0
    gated: int = 0
    steps: int = 0
    list_reads: int = 0
    gather_reads: int = 0
    bank_writes: int = 0
    list_writes: int = 0
    outputs: int = 0
    weight_bits_fetched: int = 0
    activation_bits_fetched: int = 0

    def __add__(self, other: Events) -> Events:
        return Events(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Events)))


@dataclass(frozen=True, slots=True)
class Timing:
    """Cycles of a run, those in which the array stood still, by cause, and the events."""

    cycles: int
    load_stalls: int
    activation_stalls: int
    drain_stalls: int
    events: Events

    def utilization(self, machine: Machine) -> float:
        """MACs issued of those that the array could have done in the cycles."""
        return self.events.macs / (machine.macs * self.cycles) if self.cycles else 0.0


FREED = 2
"""Cycles from a swap until the bank that it freed takes a word: in the one between, the array may still read it."""


def tail(machine: Machine) -> int:
    """Cycles from the last word's issue to the one in which the last token leaves: 2 to the array, as many as it has
    rows and elements to cross it and 1 to be summed, rows - 1 for the shift of the rows, 4 to be written back.
    """
    return 2 * machine.rows + machine.pes + 6


class Supply(Protocol):
    """Where tiles of weights come from."""

    @property
    def inputs(self) -> int:
        """Of the matrix, before padding."""
        ...

    def __len__(self) -> int: ...

    def take(self, place: int, free: int) -> tuple[Tile, int]:
        """The tile of that place, for a bank that takes words from the cycle `free` on; the cycle of its last word."""
        ...

    def swapped(self, place: int, cycle: int) -> None:
        """The tile becomes the active one at the end of the cycle."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """The tiles of a program, out of memory as they are."""

    program: Program
    machine: Machine
    memory: Memory

    @property
    def inputs(self) -> int:
        """See `Supply`."""
        return self.program.shape[1]

    def __len__(self) -> int:
        return len(self.program.tiles)

    def take(self, place: int, free: int) -> tuple[Tile, int]:
        """See `Supply`. One word a cycle, or as they come."""
        tile, memory = self.program.tiles[place], self.memory
        last = tile.words - 1
        if memory.weight_bits is not None:
            last = max(last, -(-last * stream_bits(tile, self.machine) // (tile.words * memory.weight_bits)))
        return tile, free + memory.latency + last

    def swapped(self, place: int, cycle: int) -> None:
        """See `Supply`."""


def simulate(program: Program, tokens: int, machine: Machine, memory: Memory | None = None) -> Timing:
    """Cycles and events of one matrix over so many tokens, its tiles packed beforehand."""
    memory = memory or Memory()
    return simulate_supply(Packed(program, machine, memory), tokens, machine, memory)


def simulate_supply(supply: Supply, tokens: int, machine: Machine, memory: Memory) -> Timing:
    """Cycles and events of one matrix over so many tokens, wherever its tiles come from.

    One pass after the other: a tile's first waits for its bank to be full, each for its activations, and the last word
    of each for the accumulators of the pass before to have left.
    """
    passes = -(-tokens // machine.rows)
    activations = Arrivals(supply, passes, machine, memory)
    load = wait = drain = 0
    last, free = 0, 1  # cycles of the last word issued, and from which the shadow bank takes words
    events = Events()
    for place in range(len(supply)):
        tile, taken = supply.take(place, free)
        swap = max(last, taken + 1)
        supply.swapped(place, swap)
        load += swap - last
        free = swap + FREED
        for number in range(passes):
            begin = (swap if number == 0 else last) + 1
            first = max(begin, activations.ready())
            end = max(first + tile.words - 1, last + machine.rows if last else 0)
            wait += first - begin
            drain += end - first - tile.words + 1
            last = end
            activations.release(end)
        events += _events(tile, tokens, machine)
    events += Events(activation_bits_fetched=activations.fetched_bits)
    return Timing(last + tail(machine), load, wait, drain, events)


def stream_bits(tile: Tile, machine: Machine) -> int:
    """Bits of a packed tile in memory."""
    return tile.words * machine.word_bits + (tile.steps * ENTRY_BITS if tile.listed else ENTRY_BITS)


class Arrivals:
    """When the activations of each pass are there.

    The buffer has room for some tiles of tokens, two at least. If it holds all of them, each is fetched once; if not,
    each pass fetches its own. A tile is asked for as soon as there is room: when the pass that used the room before is
    over. Tiles come one after the other, in the order in which they are asked for, the first bits after the latency.
    """

    def __init__(self, supply: Supply, passes: int, machine: Machine, memory: Memory) -> None:
        blocks = -(-supply.inputs // machine.block)
        self.bits = blocks * machine.block * ACTIVATION_BITS * machine.rows
        self.room = max(2, memory.buffer_bits // self.bits)
        self.fetches = passes if passes <= self.room else passes * len(supply)
        self.memory = memory
        self.number = 0  # of the pass that is next
        self.over: list[int] = []  # cycle of each pass' last word
        self.arrived = 0

    def ready(self) -> int:
        """The first cycle in which the next pass finds its activations."""
        if self.memory.activation_bits is None or self.number >= self.fetches:
            return 0
        asked = 0 if self.number < self.room else self.over[self.number - self.room] + 1
        transfer = -(-self.bits // self.memory.activation_bits)
        self.arrived = max(self.arrived, asked + self.memory.latency) + transfer
        return self.arrived

    def release(self, end: int) -> None:
        """The next pass issued its last word in cycle `end`."""
        self.over.append(end)
        self.number += 1

    @property
    def fetched_bits(self) -> int:
        """Bits of all fetches of a run."""
        return self.fetches * self.bits


def _events(tile: Tile, tokens: int, machine: Machine) -> Events:
    passes = -(-tokens // machine.rows)
    macs = int(np.count_nonzero(tile.values)) * tokens
    return Events(
        words=tile.words * passes,
        macs=macs,
        gated=tile.words * passes * machine.macs - macs,
        steps=tile.steps * passes,
        list_reads=tile.steps * passes if tile.listed else 0,
        gather_reads=tile.steps * passes if tile.gather else 0,
        bank_writes=tile.words,
        list_writes=tile.steps if tile.listed else 0,
        outputs=tokens * machine.outputs,
        weight_bits_fetched=stream_bits(tile, machine),
    )
