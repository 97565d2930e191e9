"""Lists of an artifact's payload, coded or packed, as words: what FIELD, TABLE, DECODE and UNPACK do."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.data import StructLayout, View
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.instructions import ADDRESS_BITS, FORMATS, OP_BITS, WORD_BITS, Fault, Op
from regrain.hw.rtl import rans_decoder
from regrain.hw.rtl.byte_reader import LENGTH_BITS, ByteReader
from regrain.hw.rtl.joiner import Joiner, Unpacker
from regrain.hw.rtl.plane_reader import PlaneReader
from regrain.hw.rtl.rans_decoder import RansDecoder

LAYOUTS = {
    op: StructLayout({"op": OP_BITS, **{name: width for name, width, *_ in operands}})
    for op, operands in FORMATS.items()
}
_VALUES, _TABLE, _STATES = 16, 17, 128  # bytes


class ListDecoder(Component):
    """Executes one of its four instructions at a time.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while `idle` |
    | `instruction` | in | 128 | FIELD, TABLE, DECODE or UNPACK with operands in range; holds until `idle` again |
    | `limit` | in | 25 | bytes that the payload's memory has: nothing is read beyond |
    | `stream_read`, `stream_address` | out | 1, 24 | a byte is asked for: field values, tables, states, streams |
    | `stream_data` | in | 8 | it, in the next cycle |
    | `plane_read`, `plane_address`, `plane_data` | | 1, 24, 8 | the same for raw planes |
    | `escape_read`, `escape_address`, `escape_data` | | 1, 24, 8 | the same for escapes and packed lists |
    | `word` | out | 16 | |
    | `word_valid` | out | 1 | |
    | `word_ready` | in | 1 | |
    | `wide` | out | 1 | what the last FIELD said of its words |
    | `idle` | out | 1 | not before all words have been taken |
    | `moving` | out | 1 | something has happened in this cycle |
    | `fault` | out | 4 | `Fault`; not kept |

    A word a cycle while a block is decoded, for up to 7 raw bits; see `RansDecoder` for what lies between blocks, and
    `Unpacker` for packed lists.
    """

    def __init__(self) -> None:
        self.stream, self.planes, self.escapes = ByteReader(), PlaneReader(), ByteReader()
        self.decoder, self.joiner, self.unpacker = RansDecoder(), Joiner(), Unpacker()
        self.words = SyncFIFO(width=16, depth=4)  # no path leads from who takes words to who reads bytes
        memories: dict[str, Any] = {}
        for name in ("stream", "plane", "escape"):
            memories |= {f"{name}_read": Out(1), f"{name}_address": Out(ADDRESS_BITS), f"{name}_data": In(8)}
        super().__init__(
            {
                "start": In(1),
                "instruction": In(WORD_BITS),
                "limit": In(ADDRESS_BITS + 1),
                **memories,
                "word": Out(16),
                "word_valid": Out(1),
                "word_ready": In(1),
                "wide": Out(1),
                "idle": Out(1),
                "moving": Out(1),
                "fault": Out(Fault),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: the parts; then what starts them."""
        m = Module()
        stream, planes, decoder, joiner = self.stream, self.planes, self.decoder, self.joiner
        for name in ("stream", "planes", "escapes", "decoder", "joiner", "unpacker", "words"):
            m.submodules[name] = getattr(self, name)
        self._wire(m)
        field = Signal(StructLayout({name: width for name, width, *_ in FORMATS[Op.FIELD] if name != "address"}))
        raw_bits = field.raw_bits
        room = Mux(field.wide, 16, 8) - raw_bits
        m.d.comb += [
            joiner.raw_bits.eq(raw_bits),
            joiner.field_bits.eq(Mux(room > 8, 8, room)),
            joiner.escape.eq(field.escape),
            joiner.base.eq(field.base),
            decoder.alphabet.eq(field.alphabet),
            decoder.raw_bits.eq(raw_bits),
            decoder.carries.eq(raw_bits >= 8),
            planes.raw_bits.eq(raw_bits),
            self.wide.eq(field.wide),
        ]
        f = {op: View(layout, self.instruction[: layout.size]) for op, layout in LAYOUTS.items()}
        index, built = Signal(range(_VALUES)), Signal(16)  # tables that are there
        wanted = Signal(16)
        m.d.comb += wanted.eq((1 << f[Op.DECODE].tables) - 1)
        m.d.comb += [joiner.value_symbol.eq(index), joiner.value.eq(stream.byte)]
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.start), m.Switch(self.instruction[:OP_BITS]):
                    with m.Case(Op.FIELD):
                        self._begin(m, stream, f[Op.FIELD].address, _VALUES)
                        m.d.sync += [field[name].eq(f[Op.FIELD][name]) for name in field.shape().members]
                        m.d.sync += built.eq(0)
                        m.next = "values"
                    with m.Case(Op.TABLE):
                        self._begin(m, stream, f[Op.TABLE].address, _TABLE)
                        m.next = "table"
                    with m.Case(Op.DECODE):
                        with m.If(wanted & ~built != 0):
                            m.d.comb += self.fault.eq(Fault.ORDER)
                        m.next = "size"
                    with m.Case(Op.UNPACK):
                        m.next = "packed size"
            with m.State("values"):
                m.d.comb += [stream.byte_ready.eq(1), joiner.value_write.eq(stream.byte_valid)]
                m.d.sync += index.eq(index + joiner.value_write)
                with m.If(stream.byte_valid & (stream.byte >> joiner.field_bits != 0)):
                    m.d.comb += self.fault.eq(Fault.ESCAPE)
                with m.If(stream.byte_valid & (index == _VALUES - 1)):
                    m.next = "idle"
            with m.State("table"):
                m.d.comb += [decoder.command_valid.eq(1), decoder.slot.eq(f[Op.TABLE].slot)]
                with m.If(decoder.command_ready):
                    m.next = "building"
            with m.State("building"):
                with m.If(decoder.idle):
                    m.d.sync += built.eq(built | (1 << f[Op.TABLE].slot))
                    m.next = "idle"
            self._block(m, f[Op.DECODE], raw_bits)
            self._packed(m, f[Op.UNPACK])
        with m.If(decoder.fault != rans_decoder.Fault.NONE):
            m.d.comb += self.fault.eq(Fault.STREAM)
        with m.If(joiner.bad):
            m.d.comb += self.fault.eq(Fault.ESCAPE)
        return m

    def _begin(self, m: Module, reader: ByteReader, address: Any, length: Any) -> None:
        """Start a reader, whose bytes must be there."""
        m.d.comb += [reader.address.eq(address), reader.length.eq(length)]
        with m.If(address + length > self.limit):
            m.d.comb += self.fault.eq(Fault.LENGTH)
        with m.Else():
            m.d.comb += reader.start.eq(1)

    def _block(self, m: Module, f: Any, raw_bits: Any) -> None:
        """States of DECODE: where the block's parts are; they begin; they end."""
        stream, planes, escapes, decoder, joiner = self.stream, self.planes, self.escapes, self.decoder, self.joiner
        steps, plane_bytes, first = Signal(11), Signal(18), Signal(signed(20))
        m.d.comb += [
            decoder.block.eq(f.op == Op.DECODE),
            decoder.steps.eq(steps),
            decoder.tables.eq(f.tables),
            decoder.rows.eq(f.rows),
            decoder.row_words.eq(f.row_words),
            planes.steps.eq(steps),
            joiner.words.eq(f.words),
        ]
        with m.State("size"):
            m.d.sync += steps.eq((f.words + 63) >> 6)
            m.next = "planes"
        with m.State("planes"):
            m.d.sync += plane_bytes.eq((steps * raw_bits << 3) - Mux(raw_bits >= 8, 64, 0))
            m.next = "first"
        with m.State("first"):
            m.d.sync += first.eq(f.length - f.escapes - plane_bytes)
            m.next = "begin"
        with m.State("begin"):
            m.d.comb += decoder.command_valid.eq(1)
            with m.If((first < _STATES) | (f.address + f.length > self.limit)):
                m.d.comb += self.fault.eq(Fault.LENGTH)
            with m.Elif(decoder.command_ready):
                m.d.comb += [part.start.eq(1) for part in (stream, planes, escapes, joiner)]
                m.d.comb += [stream.address.eq(f.address), stream.length.eq(first)]
                m.d.comb += planes.address.eq(f.address + first)
                m.d.comb += [escapes.address.eq(f.address + first + plane_bytes), escapes.length.eq(f.escapes)]
                m.next = "decode"
        with m.State("decode"):
            with m.If(decoder.idle & planes.idle & joiner.idle & ~self.word_valid):
                m.next = "idle"
                with m.If(~escapes.idle):
                    m.d.comb += self.fault.eq(Fault.ESCAPE)

    def _packed(self, m: Module, f: Any) -> None:
        """States of UNPACK."""
        size, unpacker = Signal(LENGTH_BITS), self.unpacker
        m.d.comb += [unpacker.words.eq(f.words), unpacker.width.eq(f.width), unpacker.base.eq(f.base)]
        with m.State("packed size"):
            m.d.sync += size.eq((f.words * f.width + 7) >> 3)
            m.next = "unpack"
        with m.State("unpack"):
            self._begin(m, self.escapes, f.address, size)
            m.d.comb += unpacker.start.eq(1)
            m.next = "unpacking"
        with m.State("unpacking"):
            with m.If(unpacker.idle & ~self.word_valid):
                m.next = "idle"
                with m.If(unpacker.bad):
                    m.d.comb += self.fault.eq(Fault.LENGTH)

    def _wire(self, m: Module) -> None:
        """What flows between the parts."""
        stream, planes, escapes = self.stream, self.planes, self.escapes
        decoder, joiner, unpacker, words = self.decoder, self.joiner, self.unpacker, self.words
        for name, part in (("stream", stream), ("plane", planes), ("escape", escapes)):
            m.d.comb += [
                getattr(self, f"{name}_read").eq(part.memory_read),
                getattr(self, f"{name}_address").eq(part.memory_address),
                part.memory_data.eq(getattr(self, f"{name}_data")),
            ]
        m.d.comb += [
            decoder.byte.eq(stream.byte),
            decoder.byte_last.eq(stream.byte_last),
            decoder.byte_valid.eq(stream.byte_valid),
            stream.byte_ready.eq(decoder.byte_ready),
            joiner.symbol.eq(decoder.symbol),
            joiner.carried.eq(decoder.carried),
            joiner.final.eq(decoder.final),
            joiner.symbol_valid.eq(decoder.symbol_valid),
            decoder.symbol_ready.eq(joiner.symbol_ready),
            joiner.raw.eq(planes.raw),
            joiner.raw_valid.eq(planes.raw_valid),
            planes.raw_ready.eq(joiner.raw_ready),
            joiner.byte.eq(escapes.byte),
            joiner.byte_valid.eq(escapes.byte_valid),
            joiner.byte_none.eq(escapes.idle),
            unpacker.byte.eq(escapes.byte),
            unpacker.byte_valid.eq(escapes.byte_valid),
            escapes.byte_ready.eq(joiner.byte_ready | unpacker.byte_ready),
            words.w_data.eq(Mux(unpacker.word_valid, unpacker.word, joiner.word)),
            words.w_en.eq(unpacker.word_valid | joiner.word_valid),
            unpacker.word_ready.eq(words.w_rdy),
            joiner.word_ready.eq(words.w_rdy & ~unpacker.word_valid),
            self.word.eq(words.r_data),
            self.word_valid.eq(words.r_rdy),
            words.r_en.eq(self.word_ready),
            self.moving.eq(
                stream.memory_read | planes.memory_read | escapes.memory_read | joiner.symbol_ready | self.word_valid
            ),
        ]
