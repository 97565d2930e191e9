"""Two banks of weights: one is filled and checked while the array computes from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, stream
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.layouts import BLOCK_BITS, Fault, lanes_layout, step_layout, tile_layout, word_layout

if TYPE_CHECKING:
    from regrain.hw.machine import Machine


class Bank(Component):
    """Weights and lists of two tiles: the active one is read, the shadow filled; `swap` makes each the other.

    | port | direction | width | |
    |---|---|---|---|
    | `stream` | in | stream of `word_layout` | tiles, word by word |
    | `blocks` | in | 11 | blocks of activations that there are, for tiles that don't gather |
    | `gathered` | in | 11 | rows of the gather table, for tiles that do |
    | `full` | out | 1 | the shadow holds a whole tile |
    | `shadow` | out | `tile_layout` | of the tile in the shadow, if full |
    | `active` | out | `tile_layout` | of the tile that is read |
    | `swap` | in | 1 | only if full: takes effect at the end of the cycle |
    | `read_step`, `step` | in | 1, address | read an entry of the list; with `swap`, of the new tile's |
    | `entry` | out | `step_layout` | a cycle later, and until the next read |
    | `read_word`, `word` | in | 1, address | read a word of the tile that is active in this cycle |
    | `weights` | out | `lanes_layout` | two cycles later |
    | `written`, `listing` | out | 1 | events: a word, an entry of the list, was written |
    | `fault` | out | `Fault` | what is wrong with the word that is offered; not sticky |

    **Filling.** A word is taken in each cycle in which the shadow isn't full, but for the cycle after a swap, in
    which the last word of the old tile may still be read: no memory is ever both read and written, and those with one
    port will do. A tile whose last word is taken in cycle t is full from t + 1 on. A word with a fault isn't taken,
    and the bank stays as it is; the tile never gets full.

    **Checks.** Steps have as many words as they said and tiles end with a step (FRAMING); words and listed steps fit
    (WORDS, LIST); blocks are below `blocks` or `gathered` (BLOCK); `listed` and `gather` stay the same (MIXED);
    blocks of a tile that isn't listed are 0, 1, 2 ... with one count (ORDER).
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.filling = Signal()  # the shadow's number; the other is active
        self.address = Signal(range(machine.bank_words + 1))
        self.steps = Signal(BLOCK_BITS + 1)
        self.left = Signal(range(machine.block))  # words that the step still lacks
        super().__init__(
            {
                "stream": In(stream.Signature(word_layout(machine))),
                "blocks": In(BLOCK_BITS + 1),
                "gathered": In(BLOCK_BITS + 1),
                "full": Out(1),
                "shadow": Out(tile_layout(machine)),
                "active": Out(tile_layout(machine)),
                "swap": In(1),
                "read_step": In(1),
                "step": In(range(machine.list_entries)),
                "entry": Out(step_layout(machine)),
                "read_word": In(1),
                "word": In(range(machine.bank_words)),
                "weights": Out(lanes_layout(machine)),
                "written": Out(1),
                "listing": Out(1),
                "fault": Out(Fault),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """What is offered, what is written, what is read."""
        m = Module()
        offered, swapped = self.stream.payload, Signal()
        m.d.sync += swapped.eq(self.swap)
        m.d.comb += [
            self.fault.eq(Mux(self.stream.valid & ~self.full, self._fault(m), Fault.NONE)),
            self.stream.ready.eq(~self.full & ~swapped & (self.fault == Fault.NONE)),
            self.written.eq(self.stream.valid & self.stream.ready),
            self.listing.eq(self.written & offered.first & offered.listed),
        ]
        self._fill(m)
        self._store_words(m)
        self._store_steps(m)
        return m

    def _fault(self, m: Module) -> Any:
        """What is wrong with the word that is offered, whether or not it is."""
        word, fault = self.stream.payload, Signal(Fault)
        begun = self.address != 0
        remaining = Mux(word.first, word.count, self.left - 1)
        limit = Mux(word.gather, self.gathered, self.blocks)
        with m.If((word.first != (self.left == 0)) | (word.last & (remaining != 0))):
            m.d.comb += fault.eq(Fault.FRAMING)
        with m.Elif(self.address == self.machine.bank_words):
            m.d.comb += fault.eq(Fault.WORDS)
        with m.Elif(word.first & word.listed & (self.steps >= self.machine.list_entries)):
            m.d.comb += fault.eq(Fault.LIST)
        with m.Elif(word.first & (word.block >= limit)):
            m.d.comb += fault.eq(Fault.BLOCK)
        with m.Elif(begun & ((word.listed != self.shadow.listed) | (word.gather != self.shadow.gather))):
            m.d.comb += fault.eq(Fault.MIXED)
        with m.Elif(word.first & ~word.listed & (word.block != self.steps)):
            m.d.comb += fault.eq(Fault.ORDER)
        with m.Elif(word.first & ~word.listed & begun & (word.count != self.shadow.count)):
            m.d.comb += fault.eq(Fault.ORDER)
        return fault

    def _fill(self, m: Module) -> None:
        """Where the shadow stands."""
        word = self.stream.payload
        with m.If(self.written):
            m.d.sync += [
                self.address.eq(self.address + 1),
                self.left.eq(Mux(word.first, word.count, self.left - 1)),
                self.steps.eq(self.steps + word.first),
                self.full.eq(word.last),
                self.shadow.end.eq(self.address),
            ]
            with m.If(self.address == 0):
                m.d.sync += [
                    self.shadow.count.eq(word.count),
                    self.shadow.listed.eq(word.listed),
                    self.shadow.gather.eq(word.gather),
                ]
        with m.If(self.swap):
            m.d.sync += [
                self.active.eq(self.shadow),
                self.filling.eq(~self.filling),
                self.full.eq(0),
                self.address.eq(0),
                self.steps.eq(0),
            ]

    def _store_words(self, m: Module) -> None:
        """Words are read a cycle after they are asked for, from the bank that was active then."""
        reading, address, bank, given = (
            Signal(),
            Signal.like(self.word),
            Signal(),
            Signal(),
        )
        m.d.sync += [reading.eq(self.read_word), address.eq(self.word), bank.eq(~self.filling), given.eq(bank)]
        data = []
        for number in range(2):
            words = memory.Memory(shape=self.weights.shape(), depth=self.machine.bank_words, init=[])
            m.submodules[f"words_{number}"] = words
            write, read = words.write_port(), words.read_port()
            m.d.comb += [
                write.en.eq(self.written & (self.filling == number)),
                write.addr.eq(self.address),
                write.data.eq(self.stream.payload.weights),
                read.en.eq(reading & (bank == number)),
                read.addr.eq(address),
            ]
            data.append(read.data)
        m.d.comb += self.weights.eq(Mux(given, data[1], data[0]))

    def _store_steps(self, m: Module) -> None:
        """Entries are read at once, from the bank that will be active in the next cycle."""
        bank, given = Signal(), Signal()
        m.d.comb += bank.eq(self.filling ^ ~self.swap)
        with m.If(self.read_step):
            m.d.sync += given.eq(bank)
        data = []
        for number in range(2):
            steps = memory.Memory(shape=self.entry.shape(), depth=self.machine.list_entries, init=[])
            m.submodules[f"steps_{number}"] = steps
            write, read = steps.write_port(), steps.read_port()
            m.d.comb += [
                write.en.eq(self.listing & (self.filling == number)),
                write.addr.eq(self.steps),
                write.data.block.eq(self.stream.payload.block),
                write.data.count.eq(self.stream.payload.count),
                read.en.eq(self.read_step & (bank == number)),
                read.addr.eq(self.step),
            ]
            data.append(read.data)
        m.d.comb += self.entry.eq(Mux(given, data[1], data[0]))
