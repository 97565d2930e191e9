"""The profiling accelerator: histograms of int8 weights or activations, and from them entropy, sparsity and range."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.model.histogram import (
    BITS_BITS,
    COUNT_BITS,
    FRACTION_BITS,
    INDEX_BITS,
    LOG_BITS,
    REST_BITS,
    TABLE,
)

BINS = 256
SUMMARY_CYCLES = 2 + 12 * (BINS + 3)
"""From the cycle after `finish` to `done`."""

_LINE = StructLayout({"base": FRACTION_BITS, "step": 11})
_MOST = (1 << COUNT_BITS) - 1


class Profiler(Component):
    """Counts values, `lanes` a cycle; then reads its bins one after the other, and is empty again.

    | port | direction | width | |
    |---|---|---|---|
    | `values` | in | lanes x 8 | int8 |
    | `present` | in | lanes | which of them count |
    | `finish` | in | 1 | no more values: the bins are read. Values of the same cycle still count |
    | `ready` | out | 1 | values, and `finish`, are taken in this cycle |
    | `bin_valid` | out | 1 | while bins are read: `count` values had the two's complement `bin`; 0 to 255 in order |
    | `bin` | out | 8 | |
    | `count` | out | 24 | |
    | `done` | out | 1 | for one cycle: what follows is that of all values, and stays until the next `finish` |
    | `total`, `zeros` | out | 24 | values, and those that are 0 |
    | `lowest`, `highest` | out | signed 8 | 0 without values |
    | `most`, `least` | out | 8 | largest, and smallest nonzero magnitude; 0 without any |
    | `bits` | out | 47 | n times the entropy: n log2 n - sum of c log2 c; 18 bits behind the point |
    | `octaves` | out | 21 | log2(most / least), with 18 bits behind the point |
    | `error` | out | 1 | sticky until reset: 2^24 values or more. Nothing is taken any more |

    A word a cycle, whatever the values; 3,110 cycles from `finish` to `done`. Each lane counts in bins of its own, so
    equal values in a cycle don't meet; equal values in a row do, and the second is given what the first one writes.
    All results equal `regrain.hw.model.histogram.Profiled` to the last bit, where the logarithm's error is bounded.
    """

    def __init__(self, lanes: int = 4) -> None:
        self.lanes = lanes
        super().__init__(
            {
                "values": In(ArrayLayout(8, lanes)),
                "present": In(lanes),
                "finish": In(1),
                "ready": Out(1),
                "bin_valid": Out(1),
                "bin": Out(8),
                "count": Out(COUNT_BITS),
                "done": Out(1),
                "total": Out(COUNT_BITS),
                "zeros": Out(COUNT_BITS),
                "lowest": Out(signed(8)),
                "highest": Out(signed(8)),
                "most": Out(8),
                "least": Out(8),
                "bits": Out(BITS_BITS),
                "octaves": Out(3 + FRACTION_BITS),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: the bins; then the summary, a step for each bin, and for `total`, `most` and `least`."""
        m = Module()
        reading, clearing = Signal(), Signal()
        place = Signal(range(BINS + 3))
        counts = [self._bins(m, lane, place[:8], reading, clearing) for lane in range(self.lanes)]
        seen = Signal(range(_MOST + 1 + self.lanes))  # values, one bit wider than what fits a bin
        arrived = reduce(add, [self.present[lane] for lane in range(self.lanes)])
        m.d.comb += self.bin.eq(place[:8])

        number, sum_ = Signal(COUNT_BITS), Signal(BITS_BITS)  # the operand of the logarithm; sum of c log2 c
        log, first_log = self._logarithm(m, number), Signal(LOG_BITS)
        product, occupied = self._product(m, number, log), Signal()
        with m.FSM():
            with m.State("count"):
                m.d.comb += self.ready.eq(~self.error)
                with m.If(self.ready):
                    m.d.sync += seen.eq(seen + arrived)
                    with m.If(seen + arrived > _MOST):
                        m.d.sync += self.error.eq(1)
                    with m.Elif(self.finish):
                        m.next = "drain"
            with m.State("drain"):
                m.d.sync += [place.eq(0), sum_.eq(0), seen.eq(0), self.total.eq(seen), self.zeros.eq(0)]
                m.d.sync += [self.lowest.eq(127), self.highest.eq(-128), self.most.eq(0), self.least.eq(255)]
                m.next = "drained"
            with m.State("drained"):
                m.next = "read"
            with m.State("read"):
                m.d.comb += reading.eq(1)
                m.next = "wait"
            with m.State("wait"):
                m.next = "sum"
            with m.State("sum"):
                m.d.sync += number.eq(reduce(add, counts))
                with m.If(place >= BINS):
                    m.d.sync += number.eq(Mux(place == BINS, self.total, Mux(place == BINS + 1, self.most, self.least)))
                m.next = "bin"
            with m.State("bin"):
                m.d.comb += [self.count.eq(number), self.bin_valid.eq(place < BINS), clearing.eq(self.bin_valid)]
                m.d.sync += occupied.eq(self.bin_valid & (number != 0))
                m.next = "normalize"
            with m.State("normalize"):
                with m.If(occupied):
                    self._range(m, place, number)
                m.next = "look up"
            with m.State("look up"):
                m.next = "line"
            with m.State("line"):
                m.next = "interpolate"
            with m.State("interpolate"):
                m.next = "multiply"
            with m.State("multiply"):
                m.next = "combine"
            with m.State("combine"):
                m.next = "product"
            with m.State("product"):
                m.next = "add"
            with m.State("add"):
                with m.If(place < BINS):
                    m.d.sync += sum_.eq(sum_ + product)
                with m.Elif(place == BINS):
                    m.d.sync += self.bits.eq(product - sum_)  # no less than 0, as `log2_of` never falls
                with m.Elif(place == BINS + 1):
                    m.d.sync += first_log.eq(log)
                with m.Else():
                    m.d.sync += self.octaves.eq(first_log - log)
                    with m.If(self.most == 0):
                        m.d.sync += [self.least.eq(0), self.octaves.eq(0)]
                    with m.If(self.total == 0):
                        m.d.sync += [self.lowest.eq(0), self.highest.eq(0)]
                m.d.sync += place.eq(place + 1)
                m.next = "read"
                with m.If(place == BINS + 2):
                    m.next = "done"
            with m.State("done"):
                m.d.comb += self.done.eq(1)
                m.next = "count"
        return m

    def _bins(self, m: Module, lane: int, place: Any, reading: Signal, clearing: Signal) -> Any:
        """A lane's bins, each read, held and written in three cycles. Gives what is held, two cycles after `reading`.

        What is held may lack the two values before, which are being written: they are put in its place.
        """
        m.submodules[f"bins{lane}"] = memory = Memory(shape=COUNT_BITS, depth=BINS, init=[])
        read, write = memory.read_port(), memory.write_port()
        held = Signal(COUNT_BITS, name=f"held{lane}")
        hits = [self.present[lane] & self.ready, *(Signal(name=f"hit{lane}_{i}") for i in range(1, 4))]
        bins = [self.values[lane], *(Signal(8, name=f"bin{lane}_{i}") for i in range(1, 4))]
        written = [Signal(COUNT_BITS, name=f"written{lane}_{i}") for i in range(2)]
        again = [Signal(name=f"again{lane}_{i}") for i in range(2)]
        m.d.sync += [held.eq(read.data), written[0].eq(write.data), written[1].eq(written[0])]
        m.d.sync += [later.eq(now) for parts in (hits, bins) for now, later in pairwise(parts)]
        m.d.sync += [again[i].eq(hits[2 + i] & (bins[2 + i] == bins[1])) for i in range(2)]
        m.d.comb += [
            read.addr.eq(Mux(reading, place, self.values[lane])),
            write.en.eq(hits[2] | clearing),
            write.addr.eq(Mux(clearing, place, bins[2])),
            write.data.eq(Mux(clearing, 0, Mux(again[0], written[0], Mux(again[1], written[1], held)) + 1)),
        ]
        return held

    def _range(self, m: Module, place: Signal, number: Signal) -> None:
        """What a bin that isn't empty says of the values' range."""
        value, size = Signal(signed(8)), Signal(8)
        m.d.comb += [value.eq(place[:8].as_signed()), size.eq(Mux(value < 0, -value, value))]
        with m.If(value < self.lowest):
            m.d.sync += self.lowest.eq(value)
        with m.If(value > self.highest):
            m.d.sync += self.highest.eq(value)
        with m.If(size == 0):
            m.d.sync += self.zeros.eq(number)
        with m.Else():
            with m.If(size > self.most):
                m.d.sync += self.most.eq(size)
            with m.If(size < self.least):
                m.d.sync += self.least.eq(size)

    def _product(self, m: Module, number: Signal, log: Signal) -> Signal:
        """Their product, three cycles later: of halves of 12 bits, as multipliers are not wider."""
        half = COUNT_BITS // 2
        low, middle, high = Signal(2 * half), Signal(2 * half + 1), Signal(2 * half)
        cross = Signal(2 * half), Signal(2 * half)
        outer, product = Signal(4 * half), Signal(BITS_BITS)
        m.d.sync += [
            low.eq(number[:half] * log[:half]),
            high.eq(number[half:] * log[half:]),
            cross[0].eq(number[:half] * log[half:]),
            cross[1].eq(number[half:] * log[:half]),
            middle.eq(cross[0] + cross[1]),
            outer.eq(Cat(low, high)),
            product.eq(outer + (middle << half)),
        ]
        return product

    def _logarithm(self, m: Module, number: Signal) -> Signal:
        """`log2_of` a number that holds still, five cycles later; 0 of 0."""
        lines = [
            {"base": TABLE[i], "step": TABLE[i + 1] - TABLE[i]} for i in range(2**INDEX_BITS)
        ]  # the last line ends at 2^18, log2 of 2
        m.submodules.table = table = Memory(shape=_LINE, depth=2**INDEX_BITS, init=lines)
        read = table.read_port()
        exponent, above = Signal(range(COUNT_BITS)), Signal(range(COUNT_BITS))  # of the highest bit; zeros above it
        for bit in range(COUNT_BITS):
            with m.If(number[bit]):
                m.d.sync += [exponent.eq(bit), above.eq(COUNT_BITS - 1 - bit)]
        fraction = Signal(COUNT_BITS - 1)
        rest = fraction[COUNT_BITS - 1 - INDEX_BITS - REST_BITS : COUNT_BITS - 1 - INDEX_BITS]
        m.d.comb += fraction.eq(number << above)
        line, base = Signal(_LINE), Signal(LOG_BITS)
        held, step, log = Signal(REST_BITS), Signal(11 + REST_BITS), Signal(LOG_BITS)
        m.d.comb += read.addr.eq(fraction[-INDEX_BITS:])
        m.d.sync += [
            line.eq(read.data),
            held.eq(rest),
            step.eq(line.step * held),
            base.eq((exponent << FRACTION_BITS) + line.base),
            log.eq(Mux(number == 0, 0, base + ((step + (1 << (REST_BITS - 1))) >> REST_BITS))),
        ]
        return log
