"""The loop of the rANS decoder: 64 states that take turns in a pipeline of nine stages (docs/format.md 2.3)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.alias_tables import BUCKET, slot_of

LANES = 64
SLOTS = 16
"""Tables that are there at the same time."""

DEPTH = 9
"""Cycles from a lane's turn to its symbol at the output."""

_WINDOW = 32  # bytes and symbols that are buffered: more than DEPTH, so that credits never run out at full speed


class RansLanes(Component):
    """Decodes `steps` steps of symbols while `running`.

    | port | direction | width | |
    |---|---|---|---|
    | `table_write` | in | 1 | a bucket of a table is written |
    | `table_address` | in | 8 | slot * 16 + bucket |
    | `table_entry` | in | 45 | `BUCKET` |
    | `state_write` | in | 1 | a lane's initial state is written, while not `running` |
    | `state_lane` | in | 6 | |
    | `state` | in | 16 | |
    | `running` | in | 1 | from the cycle in which a block begins to the one in which it is `done` |
    | `steps` | in | 11 | 1 to 1024 |
    | `carries` | in | 1 | final states carry bytes |
    | `table` | in | 4 | the slot of the step that is next; may change in the cycle after `turn` |
    | `turn` | out | 1 | the last lane of a step takes its turn |
    | `byte` | in | 8 | the stream |
    | `byte_valid` | in | 1 | |
    | `byte_ready` | out | 1 | |
    | `ended` | in | 1 | all bytes of the stream have been taken |
    | `left` | out | 1 | bytes are left |
    | `symbol` | out | 4 | |
    | `carried` | out | 8 | in the last step, the low byte of the final state |
    | `final` | out | 1 | the last step |
    | `symbol_valid` | out | 1 | |
    | `symbol_ready` | in | 1 | |
    | `done` | out | 1 | the last lane has left the pipeline |
    | `missing` | out | 1 | the stream ended too early |
    | `astray` | out | 1 | a final state is wrong |

    A lane's turn comes every 64 cycles at the earliest, so its stages never wait for each other, and nothing in them
    can stall: a lane is issued only with a credit for the byte that it may need, which comes back if it didn't, and one
    for the room that its symbol needs. Once the stream has ended, bytes need no credit: one that is missing then is a
    fault.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "table_write": In(1),
                "table_address": In(8),
                "table_entry": In(BUCKET),
                "state_write": In(1),
                "state_lane": In(6),
                "state": In(16),
                "running": In(1),
                "steps": In(11),
                "carries": In(1),
                "table": In(4),
                "turn": Out(1),
                "byte": In(8),
                "byte_valid": In(1),
                "byte_ready": Out(1),
                "ended": In(1),
                "left": Out(1),
                "symbol": Out(4),
                "carried": Out(8),
                "final": Out(1),
                "symbol_valid": Out(1),
                "symbol_ready": In(1),
                "done": Out(1),
                "missing": Out(1),
                "astray": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: turns, then the stages in order; a register's number is that of the stage that reads it."""
        m = Module()
        m.submodules.stream = stream = SyncFIFO(width=8, depth=_WINDOW)
        m.submodules.symbols = symbols = SyncFIFO(width=13, depth=_WINDOW)
        m.submodules.tables = tables = Memory(shape=BUCKET, depth=16 * SLOTS, init=[])
        m.submodules.states = states = Memory(shape=16, depth=LANES, init=[])
        table_write, lookup = tables.write_port(), tables.read_port()
        state_write, state_read = states.write_port(), states.read_port(domain="comb")
        m.d.comb += [
            table_write.en.eq(self.table_write),
            table_write.addr.eq(self.table_address),
            table_write.data.eq(self.table_entry),
            stream.w_data.eq(self.byte),
            stream.w_en.eq(self.byte_valid),
            self.byte_ready.eq(stream.w_rdy),
            self.left.eq(stream.r_rdy),
            Cat(self.symbol, self.carried, self.final).eq(symbols.r_data),
            self.symbol_valid.eq(symbols.r_rdy),
            symbols.r_en.eq(self.symbol_ready),
        ]

        issue, refund = Signal(), Signal()
        steps_left, lane = Signal(11), Signal(6)
        spare = Signal(8)  # bytes in the buffer, less lanes in flight that may take one; meaningless after the end
        room = Signal(range(_WINDOW + 1), init=_WINDOW)
        pushed, popped = stream.w_en & stream.w_rdy, symbols.r_en & symbols.r_rdy
        m.d.comb += [
            issue.eq(self.running & (steps_left != 0) & ((spare != 0) | self.ended) & (room != 0)),
            self.turn.eq(issue & (lane == LANES - 1)),
            state_read.addr.eq(lane),
        ]
        m.d.sync += [room.eq(room - issue + popped), lane.eq(lane + issue), steps_left.eq(steps_left - self.turn)]
        with m.If(self.running):
            m.d.sync += spare.eq(spare + pushed - issue + refund)
        with m.Else():
            m.d.sync += [spare.eq(0), steps_left.eq(self.steps)]

        valid = [issue, *(Signal(name=f"valid{i}") for i in range(1, DEPTH))]
        final = [steps_left == 1, *(Signal(name=f"final{i}") for i in range(1, DEPTH))]
        m.d.sync += [valid[i + 1].eq(valid[i]) for i in range(DEPTH - 1)]
        m.d.sync += [final[i + 1].eq(final[i]) for i in range(DEPTH - 1)]
        symbol = [Signal(4, name=f"symbol{i}") for i in range(DEPTH)]
        m.d.sync += [symbol[i + 1].eq(symbol[i]) for i in range(4, DEPTH - 1)]

        x1, slot1, rest2, rest3 = Signal(16), Signal(4), Signal(12), Signal(12)  # of a state, without its bucket
        m.d.sync += [x1.eq(state_read.data), slot1.eq(self.table), rest2.eq(Cat(x1[:4], x1[8:])), rest3.eq(rest2)]
        m.d.comb += lookup.addr.eq(Cat(x1[4:8], slot1)[: len(lookup.addr)])

        entry3 = Signal(BUCKET)
        m.d.sync += entry3.eq(lookup.data)
        low4, offset4, freq4, high4 = Signal(4), Signal(8), Signal(8), Signal(8)
        picked = slot_of(entry3, rest3[:4])
        m.d.sync += [Cat(symbol[4], offset4, freq4).eq(Cat(*picked)), low4.eq(rest3[:4]), high4.eq(rest3[4:])]

        rank5, product5 = Signal(8), Signal(16)
        m.d.sync += [rank5.eq(low4 + offset4), product5.eq(freq4 * high4)]
        y6, y7, short7 = Signal(16), Signal(16), Signal()
        m.d.sync += [y6.eq(product5 + rank5), y7.eq(y6), short7.eq(y6[8:] == 0)]

        x8, missing8, done_lane = Signal(16), Signal(), Signal(6)
        m.d.comb += [stream.r_en.eq(valid[7] & short7), refund.eq(valid[7] & ~short7)]
        m.d.sync += [x8.eq(Mux(short7, Cat(stream.r_data, y7[:8]), y7)), missing8.eq(short7 & ~stream.r_rdy)]
        out = valid[8]
        m.d.sync += done_lane.eq(done_lane + out)
        m.d.comb += [
            state_write.en.eq(self.state_write | out),
            state_write.addr.eq(Mux(self.running, done_lane, self.state_lane)),
            state_write.data.eq(Mux(self.running, x8, self.state)),
            symbols.w_en.eq(out),
            symbols.w_data.eq(Cat(symbol[8], x8[:8], final[8])),
            self.done.eq(out & final[8] & (done_lane == LANES - 1)),
            self.missing.eq(out & missing8),
            self.astray.eq(out & final[8] & ((x8[8:] != 1) | (~self.carries & (x8[:8] != 0)))),
        ]
        return m
