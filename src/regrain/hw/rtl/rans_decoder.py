"""The decoder of the artifact's fast streams: 64 interleaved rANS states, one symbol a cycle (docs/format.md 2)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.alias_tables import AliasTables
from regrain.hw.rtl.rans_lanes import LANES, SLOTS, RansLanes

MOST_STEPS = 1024
MOST_ROWS = 1024
MOST_ROW_WORDS = 65536
_COMMAND = ("block", "slot", "alphabet", "raw_bits", "steps", "tables", "rows", "row_words", "carries")


class Fault(IntEnum):
    """Why a decoder stopped. Rules are those of docs/format.md, 3."""

    NONE = 0
    COMMAND = 1  # a field out of range, or rows that are too few for the steps
    TABLE = 2  # rules 12 and 18
    CLASS = 3  # rule 19
    CUT = 4  # rules 20 and 22: the bytes ended too early
    STATE = 5  # rule 21
    LEFT = 6  # rule 22: bytes behind the last symbol's
    FINAL = 7  # rule 23


class RansDecoder(Component):
    """Decodes the symbols of coded blocks.

    | port | direction | width | |
    |---|---|---|---|
    | `command_valid` | in | 1 | a command is offered |
    | `command_ready` | out | 1 | and taken, when the one before is finished |
    | `block` | in | 1 | 0: a table (17 bytes) goes to `slot`; 1: a block is decoded |
    | `slot` | in | 4 | of a table |
    | `alphabet` | in | 5 | of a table: symbols, 2 to 16 |
    | `raw_bits` | in | 5 | of a table: what its first byte must be |
    | `steps` | in | 11 | of a block: 1 to 1024 steps of 64 symbols |
    | `tables` | in | 5 | of a block: 1, slot 0 is the table of all steps; 2 to 16, rows have classes |
    | `rows` | in | 11 | of a block with classes: rows, 1 to 1024 |
    | `row_words` | in | 17 | of a block with classes: words of a row, 64 to 65536 |
    | `carries` | in | 1 | of a block: final states carry bytes; else all must be 0x100 |
    | `byte` | in | 8 | bytes as they stand in the block: its table; row classes, states, stream |
    | `byte_last` | in | 1 | the last byte before the raw planes; of no meaning in tables |
    | `byte_valid` | in | 1 | |
    | `byte_ready` | out | 1 | |
    | `symbol` | out | 4 | 64 a step, those of the last step's padding among them |
    | `carried` | out | 8 | in the last step, the byte that the lane carried |
    | `final` | out | 1 | the symbol is one of the last step |
    | `symbol_valid` | out | 1 | |
    | `symbol_ready` | in | 1 | |
    | `idle` | out | 1 | no command is executed or offered; symbols may still wait to be taken |
    | `fault` | out | 3 | `Fault`; sticky until reset: nothing is taken or given any more |

    One symbol a cycle as long as bytes come and symbols are taken. A block takes 2 cycles for its command, one for each
    two rows with classes, 128 for its states, 10 until its first symbol can be taken, and 64 a step. A table takes 325.
    What was decoded before a fault was found has been given out: whoever reads the symbols must not use a block before
    its end.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "command_valid": In(1),
                "command_ready": Out(1),
                "block": In(1),
                "slot": In(4),
                "alphabet": In(5),
                "raw_bits": In(5),
                "steps": In(11),
                "tables": In(5),
                "rows": In(11),
                "row_words": In(17),
                "carries": In(1),
                "byte": In(8),
                "byte_last": In(1),
                "byte_valid": In(1),
                "byte_ready": Out(1),
                "symbol": Out(4),
                "carried": Out(8),
                "final": Out(1),
                "symbol_valid": Out(1),
                "symbol_ready": In(1),
                "idle": Out(1),
                "fault": Out(Fault),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        m.submodules.builder = builder = AliasTables()
        m.submodules.lanes = lanes = RansLanes()
        command = {name: Signal.like(getattr(self, name)) for name in _COMMAND}
        taken, ended, sound = Signal(), Signal(), Signal()
        fault = Signal(Fault)
        m.d.comb += [
            self.fault.eq(fault),
            sound.eq(fault == Fault.NONE),
            taken.eq(self.byte_valid & self.byte_ready),
            builder.alphabet.eq(command["alphabet"]),
            builder.raw_bits.eq(command["raw_bits"]),
            builder.byte.eq(self.byte),
            lanes.table_write.eq(builder.write),
            lanes.table_address.eq(Cat(builder.bucket, command["slot"])),
            lanes.table_entry.eq(builder.entry),
            lanes.steps.eq(command["steps"]),
            lanes.carries.eq(command["carries"]),
            lanes.byte.eq(self.byte),
            lanes.ended.eq(ended),
            self.symbol.eq(lanes.symbol),
            self.carried.eq(lanes.carried),
            self.final.eq(lanes.final),
            self.symbol_valid.eq(lanes.symbol_valid & sound),
            lanes.symbol_ready.eq(self.symbol_ready & sound),
        ]
        classes, row_missing = self._classes(m, command, lanes)
        count, low = Signal(10), Signal(8)  # bytes of the part so far; the low byte of a state
        m.d.comb += [
            classes.addr.eq(count),
            classes.data.eq(self.byte),
            lanes.state_lane.eq(count[1:]),
            lanes.state.eq(Cat(low, self.byte)),
        ]
        found = Signal(Fault)
        with m.If(sound & (found != Fault.NONE)):
            m.d.sync += fault.eq(found)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += [self.command_ready.eq(sound), self.idle.eq(~self.command_valid)]
                m.d.sync += [count.eq(0), ended.eq(0)]
                m.d.sync += [command[name].eq(getattr(self, name)) for name in _COMMAND]
                with m.If(self.command_valid & sound):
                    m.next = "check"
            with m.State("check"):
                m.d.comb += [builder.start.eq(~command["block"]), found.eq(self._check(command))]
                m.next = "table"
                with m.If(command["block"]):
                    m.next = "states"
                    with m.If(command["tables"] > 1):
                        m.next = "classes"
            with m.State("table"):
                m.d.comb += [builder.byte_valid.eq(taken), self.byte_ready.eq(builder.byte_ready & sound)]
                m.d.comb += found.eq(Mux(builder.bad, Fault.TABLE, Fault.NONE))
                with m.If(~builder.busy):
                    m.next = "idle"
            with m.State("classes"):
                m.d.comb += [self.byte_ready.eq(sound), classes.en.eq(taken)]
                odd = count == command["rows"][1:]  # the last byte has one row
                upper = Mux(odd, self.byte[4:] != 0, self.byte[4:] >= command["tables"])
                with m.If(taken):
                    m.d.sync += count.eq(count + 1)
                    m.d.comb += found.eq(Mux(self.byte_last, Fault.CUT, Fault.NONE))
                    with m.If((self.byte[:4] >= command["tables"]) | upper):
                        m.d.comb += found.eq(Fault.CLASS)
                    with m.If(count + 1 == (command["rows"] + 1)[1:]):
                        m.d.sync += count.eq(0)
                        m.next = "states"
            with m.State("states"):
                m.d.comb += [self.byte_ready.eq(sound), lanes.state_write.eq(taken & count[0])]
                last = count == 2 * LANES - 1
                with m.If(taken):
                    m.d.sync += [low.eq(self.byte), count.eq(count + 1), ended.eq(self.byte_last)]
                    m.d.comb += found.eq(Mux(self.byte_last & ~last, Fault.CUT, Fault.NONE))
                    with m.If(count[0] & (self.byte == 0)):
                        m.d.comb += found.eq(Fault.STATE)
                    with m.If(last):
                        m.next = "decode"
            with m.State("decode"):
                m.d.comb += [lanes.running.eq(sound), self.byte_ready.eq(sound & ~ended & lanes.byte_ready)]
                m.d.comb += lanes.byte_valid.eq(taken)
                m.d.sync += ended.eq(ended | (taken & self.byte_last))
                with m.If(row_missing):
                    m.d.comb += found.eq(Fault.COMMAND)
                with m.Elif(lanes.missing):
                    m.d.comb += found.eq(Fault.CUT)
                with m.Elif(lanes.astray):
                    m.d.comb += found.eq(Fault.FINAL)
                with m.Elif(lanes.done & (~ended | lanes.left)):
                    m.d.comb += found.eq(Fault.LEFT)
                with m.If(lanes.done):
                    m.next = "idle"
        return m

    def _check(self, command: dict[str, Signal]) -> Any:
        """The fault of a command that can't be executed."""
        steps, tables, rows, row_words = (command[name] for name in ("steps", "tables", "rows", "row_words"))
        table = (command["alphabet"] < 2) | (command["alphabet"] > 16)
        block = (steps == 0) | (steps > MOST_STEPS) | (tables == 0) | (tables > SLOTS)
        classes = (row_words < LANES) | (row_words > MOST_ROW_WORDS) | (rows == 0) | (rows > MOST_ROWS)
        wrong = Mux(command["block"], block | ((tables > 1) & classes), table)
        return Mux(wrong, Fault.COMMAND, Fault.NONE)

    def _classes(self, m: Module, command: dict[str, Signal], lanes: RansLanes) -> tuple[Any, Any]:
        """The rows' classes, of which `lanes` gets that of the row in which each step begins.

        Gives the port to write them, two a byte; and whether a step's row isn't there.
        """
        m.submodules.classes = memory = Memory(shape=8, depth=MOST_ROWS // 2, init=[])
        write, read = memory.write_port(), memory.read_port()
        row, following = Signal(10), Signal(10)  # of this step, and of the next: a row takes a step or more
        left, after = Signal(17), Signal(17)  # words of the row from the step's first on
        pair, table, several = Signal(8), Signal(4), command["tables"] > 1
        m.d.comb += [following.eq(row), after.eq(left - LANES), lanes.table.eq(Mux(several, table, 0))]
        with m.If(left <= LANES):
            m.d.comb += [following.eq(row + 1), after.eq(left - LANES + command["row_words"])]
        with m.If(~lanes.running):
            m.d.sync += [row.eq(0), left.eq(command["row_words"]), table.eq(pair[:4])]
        with m.Elif(lanes.turn):
            m.d.sync += [row.eq(following), left.eq(after), table.eq(pair.word_select(following[0], 4))]
        m.d.comb += read.addr.eq(Mux(lanes.running, following[1:], 0))
        m.d.sync += pair.eq(read.data)  # steps take 64 cycles: it is there in time
        return write, several & lanes.turn & (row >= command["rows"])
