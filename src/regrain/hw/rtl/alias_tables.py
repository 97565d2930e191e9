"""Alias tables from frequencies, as docs/format.md 2.4 constructs them: the 17 bytes of a table in, 16 buckets out."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

BUCKETS = 16
TABLE_BYTES = 17
BUILD_CYCLES = TABLE_BYTES + 1 + BUCKETS * 19
"""Cycles of a table whose bytes come one a cycle, from the one after `start`."""

BUCKET = StructLayout(
    {"threshold": 5, "first": 4, "first_offset": 8, "first_freq": 8, "second": 4, "second_offset": 8, "second_freq": 8}
)
"""One bucket: a slot's low four bits below `threshold` (1 to 16) are the first symbol's."""

_SYMBOL = StructLayout({"rest": 8, "used": 8, "freq": 8})


class AliasTables(Component):
    """Builds one table at a time.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | while not `busy`: a table begins; `alphabet` and `raw_bits` must then stay |
    | `alphabet` | in | 5 | symbols, 2 to 16; frequencies from there on must be 0 |
    | `raw_bits` | in | 5 | what the table's first byte must be |
    | `byte` | in | 8 | bytes of the table: raw bits, then 16 frequencies that sum to 256 |
    | `byte_valid` | in | 1 | |
    | `byte_ready` | out | 1 | |
    | `busy` | out | 1 | |
    | `bad` | out | 1 | for one cycle: the table breaks rule 12 of the format; nothing was written |
    | `write` | out | 1 | a bucket is finished; buckets come in order, the last one in the last cycle of `busy` |
    | `bucket` | out | 4 | |
    | `entry` | out | 45 | `BUCKET`, when `write` |

    A table takes BUILD_CYCLES = 322: for each bucket 16 to look for the smallest and the largest rest, and three to
    give out slots. The construction takes the largest *after* the smallest has given its slots; to look for both at
    once is the same: where the bucket isn't full yet, the smallest has nothing left and isn't the largest, as
    docs/rans.md shows.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "alphabet": In(5),
                "raw_bits": In(5),
                "byte": In(8),
                "byte_valid": In(1),
                "byte_ready": Out(1),
                "busy": Out(1),
                "bad": Out(1),
                "write": Out(1),
                "bucket": Out(4),
                "entry": Out(BUCKET),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        m.submodules.symbols = memory = Memory(shape=_SYMBOL, depth=16, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        index, total, wrong = Signal(4), Signal(12), Signal()
        smallest, least = Signal(4), Signal(9)  # 256: none yet
        largest, most = Signal(4), Signal(8)
        given = Signal(5)
        threshold, first, first_offset, first_freq = Signal(5), Signal(4), Signal(8), Signal(8)

        now = read.data
        after = Signal(_SYMBOL)
        m.d.comb += [
            read.addr.eq(index),
            write.addr.eq(index),
            write.data.eq(after),
            after.rest.eq(now.rest - given),
            after.used.eq(now.used + given),
            after.freq.eq(now.freq),
            self.entry.threshold.eq(threshold),
            self.entry.first.eq(first),
            self.entry.first_offset.eq(first_offset),
            self.entry.first_freq.eq(first_freq),
            self.entry.second.eq(largest),
            self.entry.second_offset.eq(now.used - threshold),
            self.entry.second_freq.eq(now.freq),
        ]
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("idle"))
            with m.State("idle"):
                m.d.sync += [index.eq(0), total.eq(0), self.bucket.eq(0), wrong.eq(0)]
                with m.If(self.start):
                    m.next = "width"
            with m.State("width"):
                m.d.comb += self.byte_ready.eq(1)
                with m.If(self.byte_valid):
                    m.d.sync += wrong.eq(self.byte != self.raw_bits)
                    m.next = "frequencies"
            with m.State("frequencies"):
                m.d.comb += [self.byte_ready.eq(1), write.en.eq(self.byte_valid)]
                m.d.comb += [after.rest.eq(self.byte), after.used.eq(0), after.freq.eq(self.byte)]
                with m.If(self.byte_valid):
                    m.d.sync += [total.eq(total + self.byte), index.eq(index + 1)]
                    with m.If((index >= self.alphabet) & (self.byte != 0)):
                        m.d.sync += wrong.eq(1)
                    with m.If(index == 15):
                        m.next = "check"
            with m.State("check"):
                m.d.sync += [least.eq(256), most.eq(0)]
                m.d.comb += self.bad.eq(wrong | (total != 256))
                m.next = "scan"
                with m.If(self.bad):
                    m.next = "idle"
            with m.State("scan"):
                with m.If((now.rest != 0) & (now.rest < least)):
                    m.d.sync += [smallest.eq(index), least.eq(now.rest)]
                with m.If(now.rest > most):
                    m.d.sync += [largest.eq(index), most.eq(now.rest)]
                m.d.sync += index.eq(index + 1)
                with m.If(index == 15):
                    m.next = "threshold"
            with m.State("threshold"):
                m.d.sync += [given.eq(Mux(least >= 16, 16, least[:5])), index.eq(smallest)]
                m.next = "first"
            with m.State("first"):
                m.d.comb += write.en.eq(1)
                m.d.sync += [
                    index.eq(largest),
                    given.eq(16 - given),
                    threshold.eq(given),
                    first.eq(smallest),
                    first_offset.eq(now.used),
                    first_freq.eq(now.freq),
                ]
                m.next = "second"
            with m.State("second"):
                m.d.comb += [write.en.eq(given != 0), self.write.eq(1)]
                m.d.sync += [least.eq(256), most.eq(0), self.bucket.eq(self.bucket + 1), index.eq(0)]
                m.next = "scan"
                with m.If(self.bucket == BUCKETS - 1):
                    m.next = "idle"
        return m


def slot_of(entry: Any, low: Any) -> tuple[Any, Any, Any]:
    """(symbol, offset, frequency) of the slot `low` (4 bits) of a bucket: rank = low + offset, modulo 256."""
    first = low < entry.threshold
    picked = Mux(
        first,
        Cat(entry.first, entry.first_offset, entry.first_freq),
        Cat(entry.second, entry.second_offset, entry.second_freq),
    )
    return picked[:4], picked[4:12], picked[12:]
