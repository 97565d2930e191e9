"""The metadata memory: descriptors, reconstruct instructions, gather and channel tables, in rows of 128 bits."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib.data import ArrayLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

ROW_BITS = 128
"""Half a descriptor, an instruction, a block of a gather table, or the entries of two channels."""


class MetadataMemory(Component):
    """One memory that a loader fills, and several readers share.

    | port | direction | width | |
    |---|---|---|---|
    | `clear` | in | 1 | nothing is loaded any more |
    | `write` | in | 1 | a row is loaded |
    | `write_address` | in | address | that of the first row that isn't loaded yet, or of one to load again |
    | `write_data` | in | 128 | |
    | `write_keep` | in | 16 | bytes of it that stay as they are, of a row that is loaded |
    | `asked` | in | readers | a reader asks for a row, and goes on until it is granted |
    | `address` | in | readers x address | of each |
    | `granted` | out | readers | at most one a cycle; in the cycle of the request |
    | `data` | out | 128 | the row that was granted in the cycle before |
    | `answered` | out | readers | whose it is |
    | `loaded` | out | address + 1 | rows that are loaded: 0 to `loaded` - 1 can be read |
    | `error` | out | 1 | sticky until reset: see below |

    A row a cycle, one cycle from grant to data. Readers take turns: the one after the last that was granted comes
    first, so each of n readers waits for n - 1 others at most. A row that is read in the cycle in which it is written
    again has its old contents.

    Reading a row that isn't loaded, or changing some bytes of it, and writing one that leaves a gap or lies beyond the
    end, are errors: nothing is written or granted from the next cycle on.
    """

    def __init__(self, rows: int = 4096, readers: int = 3) -> None:
        self.rows, self.readers = rows, readers
        bits = ceil_log2(rows)
        super().__init__(
            {
                "clear": In(1),
                "write": In(1),
                "write_address": In(bits),
                "write_data": In(ROW_BITS),
                "write_keep": In(ROW_BITS // 8),
                "asked": In(readers),
                "address": In(ArrayLayout(unsigned(bits), readers)),
                "granted": Out(readers),
                "data": Out(ROW_BITS),
                "answered": Out(readers),
                "loaded": Out(bits + 1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=ROW_BITS, depth=self.rows, init=[])
        write, read = memory.write_port(granularity=8), memory.read_port()
        turn = Signal(range(self.readers))  # the reader that comes first
        chosen, some = self._choose(m, turn)
        appended = (self.write_address == self.loaded) & (self.write_keep == 0) & (self.write_address < self.rows)
        good_write = (self.write_address < self.loaded) | appended
        good_read = self.address[chosen] < self.loaded

        m.d.comb += [
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(Mux(self.write & good_write & ~self.error, ~self.write_keep, 0)),
            read.addr.eq(self.address[chosen]),
            read.en.eq(some & good_read & ~self.error),
            self.granted.eq(Mux(read.en, 1 << chosen, 0)),
            self.data.eq(read.data),
        ]
        m.d.sync += self.answered.eq(self.granted)
        with m.If((self.write & ~good_write) | (some & ~good_read)):
            m.d.sync += self.error.eq(1)
        with m.If(read.en):
            m.d.sync += turn.eq(Mux(chosen == self.readers - 1, 0, chosen + 1))
        with m.If(self.clear):
            m.d.sync += self.loaded.eq(0)
        with m.Elif(self.write & appended & ~self.error):
            m.d.sync += self.loaded.eq(self.loaded + 1)
        return m

    def _choose(self, m: Module, turn: Signal) -> tuple[Signal, Any]:
        """The first reader that asks from `turn` on, around; and whether there is one."""
        chosen = Signal(range(self.readers))
        twice = Array(Cat(self.asked, self.asked)[place:][: self.readers] for place in range(self.readers))
        turned = Signal(self.readers)
        m.d.comb += [turned.eq(twice[turn]), chosen.eq(turn)]
        for place in reversed(range(self.readers)):
            with m.If(turned[place]):
                after = turn + place
                m.d.comb += chosen.eq(Mux(after >= self.readers, after - self.readers, after))
        return chosen, self.asked != 0
