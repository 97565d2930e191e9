"""The reconstruction unit: runs a program of reconstruct instructions, and gives a matrix of int8 weights."""

from __future__ import annotations

import binascii
from enum import IntEnum
from functools import reduce
from operator import and_, or_, xor
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.data import View
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from regrain.hw.reconstruction.instructions import ADDRESS_BITS, FORMATS, OP_BITS, WORD_BITS, Fault, Op
from regrain.hw.rtl.channel_scales import ChannelScales
from regrain.hw.rtl.expander import GRID, Expander
from regrain.hw.rtl.list_decoder import LAYOUTS, ListDecoder
from regrain.hw.rtl.rescaler import Rescaler

PROGRAM_BITS = 14
WATCHDOG_BITS = 12
_LEAST_CODE, _MOST_CODE = -1008, 1023
_LISTS = (Op.FIELD, Op.TABLE, Op.DECODE, Op.UNPACK)


class Sink(IntEnum):
    """Where words go."""

    NONE = 0
    MASK = 1
    CODES = 2
    VALUES = 3


class Reconstruct(Component):
    """Runs one program at a time (regrain/hw/reconstruction/instructions.py).

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while not `busy` |
    | `program` | in | 14 | row of the first instruction in the metadata memory |
    | `asked`, `address` | out | 1, 14 | a row of the metadata memory is asked for |
    | `granted` | in | 1 | and will be `instruction` in the next cycle |
    | `instruction` | in | 128 | |
    | `limit`, `stream_read`, … `escape_data` | | | the payload's memory, as of `ListDecoder` |
    | `weight` | out | signed 8 | weights in C order of the matrix |
    | `weight_row`, `weight_column` | out | 16 | |
    | `weight_valid` | out | 1 | |
    | `weight_ready` | in | 1 | |
    | `channel_row` | out | 16 | the row that has `factor` and `shift` |
    | `factor`, `shift` | out | 16, 6 | |
    | `channel_valid` | out | 1 | |
    | `channel_ready` | in | 1 | |
    | `busy` | out | 1 | |
    | `done` | out | 1 | for one cycle: the program has ended, and all was right |
    | `stopped` | out | 1 | `done`, or a fault |
    | `rounded` | out | 1 | since `start`, a weight was rounded to its row's step |
    | `fault` | out | 4 | `Fault`; sticky until reset. Nothing is given any more |

    An instruction takes 4 cycles beside what it does. Symbols, raw bits, joining, expansion and rescaling go on at the
    same time, so a matrix takes a cycle for each place while a block is decoded; `RansDecoder` says what lies between
    blocks. The checksum of END is CRC-16/CCITT-FALSE of all weights as they leave. A program that is not sound ends in
    a fault, 2^12 cycles after anything moved at the latest; waiting for weights or channels to be taken doesn't count.
    """

    def __init__(self, mask: int = 1 << 18, codes: int = 1 << 14, rows: int = 1 << 12) -> None:
        """Sizes of the memories: see `Expander`."""
        self.sizes = mask, codes, rows
        memories: dict[str, Any] = {}
        for name in ("stream", "plane", "escape"):
            memories |= {f"{name}_read": Out(1), f"{name}_address": Out(ADDRESS_BITS), f"{name}_data": In(8)}
        self.memories = tuple(memories)
        super().__init__(
            {
                "start": In(1),
                "program": In(PROGRAM_BITS),
                "asked": Out(1),
                "address": Out(PROGRAM_BITS),
                "granted": In(1),
                "instruction": In(WORD_BITS),
                "limit": In(ADDRESS_BITS + 1),
                **memories,
                "weight": Out(signed(8)),
                "weight_row": Out(16),
                "weight_column": Out(16),
                "weight_valid": Out(1),
                "weight_ready": In(1),
                "channel_row": Out(16),
                "factor": Out(16),
                "shift": Out(6),
                "channel_valid": Out(1),
                "channel_ready": In(1),
                "busy": Out(1),
                "done": Out(1),
                "stopped": Out(1),
                "rounded": Out(1),
                "fault": Out(Fault),
            }
        )
        self.found, self.sound = Signal(Fault), Signal()
        self.sink, self.left = Signal(Sink), Signal(24)  # where words go; how many a mask or scales still lack
        self.units = Signal(3)  # of the mask's last word
        self.held, self.sum = Signal(WORD_BITS), Signal(16)
        self.given = {op: Signal(name=f"given_{op.name.lower()}") for op in (Op.MATRIX, Op.FIELD, Op.MASK, Op.SCALE)}

    def elaborate(self, platform: Any) -> Module:
        """The circuit: where words and weights go; the sequencer; the watchdog."""
        m = Module()
        m.submodules.lists = lists = ListDecoder()
        m.submodules.expander = expander = Expander(*self.sizes)
        m.submodules.rescaler = rescaler = Rescaler()
        m.submodules.channels = channels = ChannelScales()
        m.d.comb += [self.sound.eq(self.fault == Fault.NONE), lists.instruction.eq(self.held)]
        m.d.comb += [lists.limit.eq(self.limit), self.stopped.eq(self.done | ~self.sound)]
        for name in self.memories:
            inner, outer = getattr(lists, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if name.endswith("data") else outer.eq(inner)
        self._sink(m, lists, expander)
        self._weights(m, expander, rescaler)
        self._channels(m, expander, channels)
        self._sequence(m, lists, expander, rescaler, channels)
        self._watch(m, lists)
        with m.If(lists.fault != Fault.NONE):
            m.d.comb += self.found.eq(lists.fault)
        with m.If(self.sound & (self.found != Fault.NONE)):
            m.d.sync += self.fault.eq(self.found)
        return m

    def _sink(self, m: Module, lists: ListDecoder, expander: Expander) -> None:
        """Words go to the mask, to the codes, or as weights to the expander."""
        place = Signal(ceil_log2(max(self.sizes[:2])))
        column, row, largest = Signal(16), Signal(16), Signal(signed(11))
        word, code = lists.word, lists.word[:11].as_signed()
        taken, row_end = lists.word_valid & lists.word_ready, column == expander.cell_grid - 1
        larger = Mux((column == 0) | (code > largest), code, largest)
        m.d.comb += [
            expander.mask_address.eq(place),
            expander.mask_units.eq(word),
            expander.code_address.eq(place),
            expander.code.eq(code),
            expander.row_code_address.eq(row),
            expander.row_code.eq(larger),
            expander.kept.eq(word[:8].as_signed()),
        ]
        with m.Switch(self.sink):
            with m.Case(Sink.VALUES):
                m.d.comb += [lists.word_ready.eq(expander.kept_ready & self.sound)]
                m.d.comb += expander.kept_valid.eq(lists.word_valid & self.sound)
                with m.If(lists.word_valid & expander.idle):
                    m.d.comb += self.found.eq(Fault.COUNT)
            with m.Case(Sink.MASK):
                m.d.comb += [lists.word_ready.eq(self.sound), expander.mask_write.eq(taken & (self.left != 0))]
                with m.If(lists.word_valid & (word >> Mux(self.left == 1, self.units, 4) != 0)):
                    m.d.comb += self.found.eq(Fault.WORD)
            with m.Case(Sink.CODES):
                m.d.comb += [lists.word_ready.eq(self.sound), expander.code_write.eq(taken & (self.left != 0))]
                m.d.comb += expander.row_code_write.eq(expander.code_write & row_end)
                number = word.as_signed()
                with m.If(lists.word_valid & ((number < _LEAST_CODE) | (number > _MOST_CODE))):
                    m.d.comb += self.found.eq(Fault.WORD)
        with m.If(taken & (self.sink != Sink.VALUES)):
            m.d.sync += [self.left.eq(self.left - 1), place.eq(place + 1), largest.eq(larger)]
            m.d.sync += [column.eq(Mux(row_end, 0, column + 1)), row.eq(row + row_end)]
            with m.If(self.left == 0):
                m.d.comb += self.found.eq(Fault.COUNT)
            with m.Elif((self.sink == Sink.CODES) & (row >= self.sizes[2])):
                m.d.comb += self.found.eq(Fault.INSTRUCTION)
        with m.If(self.sink == Sink.NONE):
            m.d.sync += [place.eq(0), column.eq(0), row.eq(0)]

    def _weights(self, m: Module, expander: Expander, rescaler: Rescaler) -> None:
        """Weights leave by the rescaler; their checksum."""
        m.d.comb += [
            *(getattr(rescaler, name).eq(getattr(expander, name)) for name in ("value", "delta", "row", "column")),
            rescaler.value_valid.eq(expander.value_valid),
            expander.value_ready.eq(rescaler.value_ready),
            *(getattr(self, name).eq(getattr(rescaler, name)) for name in ("weight", "weight_row", "weight_column")),
            self.weight_valid.eq(rescaler.weight_valid & self.sound),
            rescaler.weight_ready.eq(self.weight_ready & self.sound),
        ]
        with m.If(expander.wrong):
            m.d.comb += self.found.eq(Fault.COUNT)
        with m.If(self.weight_valid & self.weight_ready):
            m.d.sync += self.sum.eq(_continued(self.sum, self.weight))
            m.d.sync += self.rounded.eq(self.rounded | rescaler.rounded)

    def _sequence(
        self, m: Module, lists: ListDecoder, expander: Expander, rescaler: Rescaler, channels: ChannelScales
    ) -> None:
        """One instruction after the other."""
        in_range = Signal()
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("idle") & self.sound)
            with m.State("idle"):
                m.d.sync += [self.address.eq(self.program), self.sink.eq(Sink.NONE), self.left.eq(0)]
                m.d.sync += [flag.eq(0) for flag in self.given.values()]
                with m.If(self.start & self.sound):
                    m.d.sync += [self.sum.eq(0xFFFF), self.rounded.eq(0)]
                    m.next = "fetch"
            with m.State("fetch"):
                m.d.comb += self.asked.eq(self.sound)
                with m.If(self.asked & self.granted):
                    m.d.sync += self.address.eq(self.address + 1)
                    m.next = "take"
            with m.State("take"):
                m.d.sync += self.held.eq(self.instruction)
                m.next = "range"
            with m.State("range"):
                m.d.sync += in_range.eq(self._in_range())
                m.next = "check"
            with m.State("check"):
                m.next = "fetch"
                with m.If(~in_range):
                    m.d.comb += self.found.eq(Fault.INSTRUCTION)
                with m.Elif(self.sound):
                    self._begin(m, lists, expander, channels)
            with m.State("list"):
                with m.If(lists.idle & self.sound):
                    m.next = "fetch"
            with m.State("mask"):
                m.d.sync += self.sink.eq(Sink.MASK)
                m.next = "fetch"
            with m.State("codes"):
                m.d.sync += self.sink.eq(Sink.CODES)
                m.next = "fetch"
            with m.State("channels"):
                with m.If(channels.idle & self.sound):
                    m.next = "fetch"
            with m.State("end"):
                with m.If(expander.kept_ready):  # for a weight that doesn't come any more
                    m.d.comb += self.found.eq(Fault.COUNT)
                with m.If(expander.idle & rescaler.idle & self.sound):
                    m.next = "idle"
                    sound = self.sum == View(LAYOUTS[Op.END], self.held[: LAYOUTS[Op.END].size]).checksum
                    m.d.comb += [self.done.eq(sound), self.found.eq(Mux(sound, Fault.NONE, Fault.CHECKSUM))]

    def _in_range(self) -> Any:
        """Whether there is such an instruction, its operands are in range, and other bits are 0."""
        found = []
        for op, operands in FORMATS.items():
            layout, checks = LAYOUTS[op], [self.held[:OP_BITS] == op]
            fields = View(layout, self.held[: layout.size])
            for name, width, least, most in operands:
                checks += [fields[name] >= least] if least else []
                checks += [fields[name] <= most] if most < (1 << width) - 1 else []
            found.append(reduce(and_, [*checks, self.held[layout.size :] == 0]))
        return reduce(or_, found)

    def _begin(self, m: Module, lists: ListDecoder, expander: Expander, channels: ChannelScales) -> None:
        """State `check`: what an instruction sets, and where it goes on. What was begun must be complete before."""
        given, mask_size, code_size = self.given, *self.sizes[:2]
        f = {op: View(layout, self.held[: layout.size]) for op, layout in LAYOUTS.items()}
        between = given[Op.MATRIX] & (self.sink != Sink.VALUES)
        some, codes, orderly = self.sink != Sink.NONE, self.sink == Sink.CODES, Signal()

        def require(holds: Any, fault: Fault) -> None:
            with m.If(~holds):
                m.d.comb += self.found.eq(fault)

        with m.Switch(self.held[:OP_BITS]):  # where two things are wrong, the last one is named
            with m.Case(Op.MATRIX):
                require(~given[Op.MATRIX], Fault.ORDER)
                m.d.sync += [given[Op.MATRIX].eq(1), expander.rows.eq(f[Op.MATRIX].rows)]
                m.d.sync += expander.columns.eq(f[Op.MATRIX].columns)
            with m.Case(Op.FIELD):
                m.d.comb += orderly.eq(some)
                require(f[Op.FIELD].raw_bits <= Mux(f[Op.FIELD].wide, 16, 8), Fault.INSTRUCTION)
                m.d.sync += given[Op.FIELD].eq(1)
            with m.Case(Op.TABLE):
                m.d.comb += orderly.eq(given[Op.FIELD])
            with m.Case(Op.DECODE):
                m.d.comb += orderly.eq(given[Op.FIELD] & (lists.wide == codes))
            with m.Case(Op.UNPACK):
                m.d.comb += orderly.eq(some & (f[Op.UNPACK].wide == codes))
            for op, state, kind, most in (
                (Op.MASK, "mask", "unit", 4 * mask_size),
                (Op.SCALE, "codes", "cell", code_size),
            ):
                with m.Case(op):
                    require(f[op].count <= most, Fault.INSTRUCTION)
                    require(between & ~given[op], Fault.ORDER)
                    m.d.sync += [getattr(expander, f"{kind}_{name}").eq(f[op][name]) for name in GRID]
                    m.d.sync += [given[op].eq(1), given[Op.FIELD].eq(0), self.sink.eq(Sink.NONE)]
                    m.d.sync += self.left.eq((f[op].count + 3) >> 2 if op is Op.MASK else f[op].count)
                    m.d.sync += self.units.eq((f[op].count - 1)[:2] + 1)
                    m.next = state
            with m.Case(Op.VALUES):
                masked, rescaled = f[Op.VALUES].masked, f[Op.VALUES].rescaled
                require(between & (~masked | given[Op.MASK]) & (~rescaled | given[Op.SCALE]), Fault.ORDER)
                m.d.comb += expander.start.eq(1)
                m.d.sync += [self.sink.eq(Sink.VALUES), given[Op.FIELD].eq(0)]
                m.d.sync += [expander.masked.eq(masked), expander.rescaled.eq(rescaled)]
            with m.Case(Op.CHANNELS):
                require(between & given[Op.SCALE], Fault.ORDER)
                m.d.comb += channels.start.eq(1)
                m.next = "channels"
            with m.Case(Op.END):
                require(self.sink == Sink.VALUES, Fault.ORDER)
                m.next = "end"
        with m.Switch(self.held[:OP_BITS]):
            with m.Case(*_LISTS):
                m.d.comb += lists.start.eq(orderly)
                require(orderly, Fault.ORDER)
                m.next = "list"
            with m.Case(Op.MASK, Op.SCALE, Op.VALUES, Op.CHANNELS, Op.END):
                require(self.left == 0, Fault.COUNT)

    def _channels(self, m: Module, expander: Expander, channels: ChannelScales) -> None:
        """Rows' factors and shifts: their codes are in the expander."""
        operands = View(LAYOUTS[Op.CHANNELS], self.held[: LAYOUTS[Op.CHANNELS].size])
        m.d.comb += [
            channels.rows.eq(expander.rows),
            channels.down.eq(expander.cell_down),
            channels.offset.eq(operands.offset),
            expander.row_code_at.eq(channels.cell_row),
            channels.code.eq(expander.row_code_is),
            self.channel_row.eq(channels.row),
            self.factor.eq(channels.factor),
            self.shift.eq(channels.shift),
            self.channel_valid.eq(channels.valid & self.sound),
            channels.ready.eq(self.channel_ready & self.sound),
        ]
        with m.If(channels.bad):
            m.d.comb += self.found.eq(Fault.SCALE)

    def _watch(self, m: Module, lists: ListDecoder) -> None:
        """The watchdog."""
        quiet = Signal(WATCHDOG_BITS)
        moving = lists.moving | self.weight_valid | self.channel_valid | self.granted
        m.d.sync += quiet.eq(Mux(self.busy & ~moving, quiet + 1, 0))
        with m.If(quiet == (1 << WATCHDOG_BITS) - 1):
            m.d.comb += self.found.eq(Fault.HANG)


def _continued(sum_: Any, byte: Any) -> Any:
    """CRC-16/CCITT-FALSE, a byte further: linear in what the byte and the upper half of the sum make together."""
    top = sum_[8:] ^ byte.as_unsigned()
    columns = [binascii.crc_hqx(bytes([1 << place]), 0) for place in range(8)]
    parities = [reduce(xor, [top[place] for place in range(8) if columns[place] >> bit & 1]) for bit in range(16)]
    return Cat(*parities) ^ (sum_[:8] << 8)
