"""Raw bits of coded words, out of the planes that hold them (docs/format.md 2.5)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.instructions import ADDRESS_BITS

PLANES = ((6, 8), (6, 8), (5, 4), (4, 2), (3, 1))
"""(log2 of the bytes a step, bits of a word) of the two byte planes and those of 4, 2 and 1 bits."""


class PlaneReader(Component):
    """Gives the raw bits of a block of one run, 64 numbers a step.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while `idle` |
    | `address` | in | 24 | of the first plane |
    | `steps` | in | 11 | 1 to 1024 |
    | `raw_bits` | in | 5 | 0 to 16 |
    | `memory_read` | out | 1 | a byte is asked for |
    | `memory_address` | out | 24 | |
    | `memory_data` | in | 8 | the byte that was asked for in the cycle before |
    | `raw` | out | 16 | from 8 bits on, the low byte of the last step means nothing: the states carry it |
    | `raw_valid` | out | 1 | |
    | `raw_ready` | in | 1 | |
    | `idle` | out | 1 | all of them have been taken |

    The planes lie one after the other, but a step needs its part of each: 8 bytes a bit. They are fetched a byte a
    cycle into one half of a double buffer, while numbers leave from the other; so a number a cycle up to 7 raw bits.
    With 8, a step takes 68 cycles; with 16, 132.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "steps": In(11),
                "raw_bits": In(5),
                "memory_read": Out(1),
                "memory_address": Out(ADDRESS_BITS),
                "memory_data": In(8),
                "raw": Out(16),
                "raw_valid": Out(1),
                "raw_ready": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: fetching; then giving."""
        m = Module()
        width = Signal(5)
        full, emptied = Signal(2), Signal(2)  # halves of the buffer
        with m.If(self.start):
            m.d.sync += width.eq(self.raw_bits)
        stores = []
        for i, (log2, _) in enumerate(PLANES):
            m.submodules[f"plane{i}"] = store = Memory(shape=8, depth=2 << log2, init=[])
            stores.append(store)
        filled = self._fetch(m, width, full, stores)
        m.d.sync += full.eq(full & ~emptied | filled)
        self._give(m, width, full, emptied, stores)
        return m

    def _fetch(self, m: Module, width: Signal, full: Signal, stores: list[Memory]) -> Signal:
        """Where planes begin, a cycle each; then step by step, plane by plane. Gives the half that is filled now."""
        steps, left, half = Signal(11), Signal(11), Signal()
        present, wanted = Signal(len(PLANES)), Signal(len(PLANES))  # planes there are; those that this step still lacks
        cursors = Array(Signal(ADDRESS_BITS, name=f"cursor{i}") for i in range(len(PLANES)))
        followed = Cat(present[0], 0, present[2:4], 0)  # behind the second of the byte planes there is none
        sizes = Array(Mux(followed[i], steps << log2, 0) for i, (log2, _) in enumerate(PLANES))
        place, begun = Signal(ADDRESS_BITS), Signal(3)  # where the next plane begins, and which that is
        plane, index = Signal(3), Signal(6)
        lasts = Array((1 << log2) - 1 for log2, _ in PLANES)
        m.d.comb += present.eq(Cat(width >= 8, width == 16, width[2], width[1], width[0]))
        finished = Signal()
        with m.FSM():
            with m.State("idle"):
                m.d.sync += [steps.eq(self.steps), left.eq(self.steps), place.eq(self.address), begun.eq(0), half.eq(0)]
                with m.If(self.start):
                    m.next = "places"
            with m.State("places"):
                carried = Mux((begun == 0) & present[0], 64, 0)  # the last 64 bytes of plane 0 are not there
                m.d.sync += [cursors[begun].eq(place), place.eq(place + sizes[begun] - carried), begun.eq(begun + 1)]
                with m.If(begun == len(PLANES) - 1):
                    m.next = "step"
            with m.State("step"):
                m.d.sync += [index.eq(0), wanted.eq(Cat(present[0] & (left != 1), present[1:]))]
                with m.If(left == 0):
                    m.next = "idle"
                with m.Elif(~full.bit_select(half, 1)):
                    m.next = "bytes"
            with m.State("bytes"):
                for i in reversed(range(len(PLANES))):
                    with m.If(wanted[i]):
                        m.d.comb += plane.eq(i)
                m.d.comb += [self.memory_read.eq(wanted != 0), self.memory_address.eq(cursors[plane])]
                last = index == lasts[plane]
                m.d.comb += finished.eq((wanted == 0) | (last & ((wanted & (wanted - 1)) == 0)))
                with m.If(wanted != 0):
                    m.d.sync += [cursors[plane].eq(cursors[plane] + 1), index.eq(Mux(last, 0, index + 1))]
                with m.If(last):
                    m.d.sync += wanted.eq(wanted & (wanted - 1))
                with m.If(finished):
                    m.d.sync += [left.eq(left - 1), half.eq(~half)]
                    m.next = "step"
        return self._store(m, stores, plane, Cat(index, half), finished)

    def _store(self, m: Module, stores: list[Memory], plane: Signal, place: Any, finished: Signal) -> Signal:
        """Bytes go to their places in the cycle after they were asked for. Gives the half whose last byte that was."""
        coming, to, at, end = Signal(), Signal(3), Signal(7), Signal()
        filled = Signal(2)
        m.d.sync += [coming.eq(self.memory_read), to.eq(plane), at.eq(place), end.eq(finished)]
        m.d.comb += filled.eq(Mux(end, 1 << at[6], 0))
        for i, (log2, _) in enumerate(PLANES):
            write = stores[i].write_port()
            m.d.comb += [write.en.eq(coming & (to == i)), write.addr.eq(Cat(at[:log2], at[6]))]
            m.d.comb += write.data.eq(self.memory_data)
        return filled

    def _give(self, m: Module, width: Signal, full: Signal, emptied: Signal, stores: list[Memory]) -> None:
        """Number j of a step: its bits of each plane, the low ones from byte planes; behind a register."""
        left, half, j = Signal(11), Signal(), Signal(6)
        parts = []
        for i, (log2, bits) in enumerate(PLANES):
            read = stores[i].read_port(domain="comb")
            if bits == 1:
                m.d.comb += read.addr.eq(Cat(j[3:], half))
                parts.append(read.data.bit_select(j[:3], 1))
            else:
                m.d.comb += read.addr.eq(Cat(j[:log2], half))
                parts.append(read.data.word_select(j[log2:], bits) if bits < 8 else read.data)
        low, high, four, two, one = parts
        small, above = Signal(7), Signal(7)
        m.d.comb += above.eq(Mux(width[1], Cat(two, Mux(width[0], one, 0)), Mux(width[0], one, 0)))
        m.d.comb += small.eq(Mux(width[2], Cat(four, above[:3]), above))
        move, there = Signal(), Signal()
        m.d.comb += [
            there.eq((left != 0) & full.bit_select(half, 1)),
            move.eq(there & (~self.raw_valid | self.raw_ready)),
            emptied.eq(Mux(move & (j == 63), 1 << half, 0)),
            self.idle.eq((left == 0) & ~self.raw_valid),
        ]
        with m.If(move):
            m.d.sync += self.raw.eq(Mux(width == 16, Cat(low, high), Mux(width >= 8, Cat(low, small), small)))
            m.d.sync += j.eq(j + 1)
        with m.If(move | self.raw_ready):
            m.d.sync += self.raw_valid.eq(move)
        with m.If(self.start):
            m.d.sync += [left.eq(self.steps), half.eq(0)]
        with m.Elif(emptied != 0):
            m.d.sync += [left.eq(left - 1), half.eq(~half)]
