"""The accelerator with its decompressor: matrices out of an artifact's payloads, reconstructed, and run."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import ceil_log2

from regrain.hw.machine import Machine
from regrain.hw.model.descriptor import CHANNELS_A_ROW
from regrain.hw.reconstruction.instructions import Fault
from regrain.hw.rtl.descriptor import DescriptorDecoder
from regrain.hw.rtl.engine import MOST_TILES
from regrain.hw.rtl.master_writer import MasterWriter, Misfit, Writing
from regrain.hw.rtl.metadata import ROW_BITS
from regrain.hw.rtl.reconstruct import PROGRAM_BITS, Reconstruct
from regrain.hw.rtl.top import Part, Top
from regrain.hw.rtl.writeback import CHANNEL

PAYLOAD = "limit stream_read stream_address stream_data plane_read plane_address plane_data".split()
PAYLOAD += "escape_read escape_address escape_data".split()
_OWN = ("start", "write", "write_address", "write_data", "write_keep", "reader", "fault", "code")
_CHANNEL_BITS = ROW_BITS // CHANNELS_A_ROW


class Accelerator(Component):
    """`Top`, and beside it the path from a payload to the master copy that it runs.

    | port | direction | width | |
    |---|---|---|---|
    | `write`, `write_address`, `write_data`, `clear` | in | | load the metadata memory; see `MetadataMemory` |
    | `reconstruct`, `source` | in | 1, row | reconstruct the matrix whose descriptor begins at that row; see below |
    | `reconstructing`, `reconstructed` | out | 1, 1 | from the cycle after it to that of `reconstructed` |
    | `rounded` | out | 1 | as of `Reconstruct` |
    | `limit`, `stream_read`, ... `escape_data` | | | the payload's memory, as of `Reconstruct` |
    | `copy` | out | `Writing` | the memory of master copies, to be written |
    | `fault`, `code` | out | 4, 4 | sticky until reset: `Part` that refused, and why |
    | `start`, `descriptor`, `matrix`, `busy`, `done`, ... | | | all other ports are those of `Top` |

    **Reconstructing** takes what the metadata memory says: the descriptor, of a matrix that is dynamic, and the program
    of reconstruct instructions in the rows behind it. Weights go to the master copy that begins at the descriptor's
    `weights`, a cycle each (`MasterWriter`); a factor and a shift for each row, if the program asks for them, into the
    channel table at its `channels`, whose bias stays. Medium tags and the gather table are as they were loaded.

    **Both at once.** A matrix can be reconstructed while another one runs: their master copies must not overlap, and a
    matrix must not be started before it is `reconstructed`. They take turns at the metadata memory, so a run may wait
    a cycle for each row that it reads. What `write` loads goes before what is written into a channel table; a matrix
    that runs has read its own, which can thus be written.

    **Faults.** Nothing is begun any more by `start` or `reconstruct`. What refused has stopped; a run, or a program,
    that the other part had begun goes on to its end, unless the metadata memory is what refused. A copy that isn't
    `reconstructed` is not to be used. Whatever hangs ends: `Reconstruct` and `Engine` have watchdogs, and
    `MasterWriter` has one for a memory that takes nothing. A descriptor that isn't dynamic, and thus runs packed tiles,
    is refused as DESCRIPTOR, too.

    **Time.** From `reconstruct` to the program's start 6 cycles, if no row is waited for; `reconstructed` comes a cycle
    after the program's end. `MasterWriter` says how long weights wait.
    """

    def __init__(
        self,
        machine: Machine | None = None,
        *,
        rows: int = 4096,
        tiles: int = MOST_TILES,
        patience: int = 16,
        sizes: tuple[int, int, int] = (1 << 18, 1 << 14, 1 << 12),
        inline: bool = False,
    ) -> None:
        """`sizes`: see `Reconstruct`; the others: see `Top`."""
        self.machine = machine = machine or Machine()
        self.top = Top(machine, rows=rows, tiles=tiles, patience=patience, inline=inline)
        self.modules = self.top.modules
        self.unit, self.writer = Reconstruct(*sizes), MasterWriter(machine, patience=patience)
        self.decoder = DescriptorDecoder(machine, rows)
        self.refused = Signal()  # what reconstructs has stopped
        self.shared = {name: member for name, member in self.top.signature.members.items() if name not in _OWN}
        self.payload = {name: self.unit.signature.members[name] for name in PAYLOAD}
        row = In(ceil_log2(rows))
        super().__init__(
            {
                "write": In(1),
                "write_address": row,
                "write_data": In(ROW_BITS),
                "reconstruct": In(1),
                "source": row,
                "reconstructing": Out(1),
                "reconstructed": Out(1),
                "rounded": Out(1),
                **self.payload,
                "copy": Out(Writing(machine)),
                "fault": Out(4),
                "code": Out(4),
                "start": In(1),
                **self.shared,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The parts, wired; the order of reconstructing; faults."""
        m = Module()
        for name in ("top", "unit", "writer", "decoder"):
            m.submodules[name] = getattr(self, name)
        for part, members in ((self.top, self.shared), (self.unit, self.payload)):
            for name, member in members.items():
                inner, outer = getattr(part, name), getattr(self, name)
                if member.is_signature:
                    connect(m, inner, flipped(outer))
                else:
                    m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        m.d.comb += self.top.start.eq(self.start & (self.fault == Part.NONE))
        self._weights(m)
        surplus = self._channels(m)
        self._sequence(m)
        self._fail(m, surplus)
        return m

    def _weights(self, m: Module) -> None:
        """From the unit to the writer."""
        unit, writer = self.unit, self.writer
        for name in ("weight", "weight_row", "weight_column", "weight_valid"):
            m.d.comb += getattr(writer, name).eq(getattr(unit, name))
        m.d.comb += [unit.weight_ready.eq(writer.weight_ready), self.rounded.eq(unit.rounded)]
        connect(m, writer.write, flipped(self.copy))

    def _channels(self, m: Module) -> Signal:
        """Factors and shifts into the channel table, when nothing else is written; whether one has no place there."""
        top, unit, f = self.top, self.unit, self.decoder.fields
        entry, surplus, writing = Signal(CHANNEL), Signal(), Signal()
        first, last = CHANNEL["factor"].offset // 8, (CHANNEL.size - 1) // 8
        changed = ((1 << last + 1) - (1 << first)) << Mux(unit.channel_row[0], _CHANNEL_BITS // 8, 0)
        m.d.comb += [
            entry.factor.eq(unit.factor),
            entry.shift.eq(unit.shift),
            surplus.eq(unit.channel_valid & (unit.channel_row >= f.outputs)),
            unit.channel_ready.eq(~self.write & ~surplus),
            writing.eq(unit.channel_valid & unit.channel_ready),
            top.write.eq(self.write | writing),
            top.write_address.eq(Mux(self.write, self.write_address, f.channels + (unit.channel_row >> 1))),
            top.write_data.eq(
                Mux(self.write, self.write_data, Cat(entry, Const(0, _CHANNEL_BITS - CHANNEL.size)).replicate(2))
            ),
            top.write_keep.eq(Mux(self.write, 0, ~changed)),
        ]
        return surplus

    def _sequence(self, m: Module) -> None:
        """Descriptor, program, and the end of the copy."""
        top, unit, writer, decoder = self.top, self.unit, self.writer, self.decoder
        reader, f = top.reader, decoder.fields
        row, half, second, asking = Signal(PROGRAM_BITS), Signal(ROW_BITS), Signal(), Signal()
        m.d.comb += [
            reader.read.eq(unit.asked | (asking & ~reader.valid)),
            reader.address.eq(Mux(unit.asked, unit.address, row)),
            unit.granted.eq(reader.ready),
            unit.instruction.eq(reader.data),
            unit.program.eq(row),
            decoder.words.eq(Cat(half, reader.data)),
            writer.base.eq(f.weights),
            writer.outputs.eq(f.outputs),
            writer.blocks.eq(f.blocks),
            writer.end.eq(unit.done),
        ]
        with m.FSM() as fsm:
            stopped = (self.fault == Part.METADATA) | self.refused
            m.d.comb += self.reconstructing.eq(~fsm.ongoing("rest") & ~stopped)
            with m.State("rest"):
                m.d.sync += [row.eq(self.source), second.eq(0)]
                with m.If(self.reconstruct & (self.fault == Part.NONE)):
                    m.next = "descriptor"
            with m.State("descriptor"):
                m.d.comb += [asking.eq(1), decoder.load.eq(reader.valid & second)]
                with m.If(self.fault != Part.NONE):
                    m.next = "rest"
                with m.Elif(reader.valid):
                    m.d.sync += [half.eq(reader.data), second.eq(1), row.eq(row + 1)]
                    with m.If(second):
                        m.next = "decode"
            with m.State("decode"):
                with m.If(decoder.valid & ~decoder.error & f.dynamic):
                    m.d.comb += [unit.start.eq(1), writer.start.eq(1)]
                    m.next = "program"
            with m.State("program"):
                with m.If(writer.done):
                    m.d.comb += self.reconstructed.eq(1)
                    m.next = "rest"

    def _fail(self, m: Module, surplus: Signal) -> None:
        """The first refusal stays."""
        top, unit, writer, decoder = self.top, self.unit, self.writer, self.decoder
        own = (
            (Part.DESCRIPTOR, decoder.valid & (decoder.error | ~decoder.fields.dynamic), Const(0)),
            (Part.RECONSTRUCT, unit.fault != Fault.NONE, unit.fault),
            (Part.MASTER, writer.fault != Misfit.NONE, writer.fault),
            (Part.MASTER, surplus, Const(Misfit.OUTPUTS)),
        )
        for part, refused, code in (*reversed(own), (top.fault, top.fault != Part.NONE, top.code)):
            with m.If(refused & (self.fault == Part.NONE)):
                m.d.sync += [self.fault.eq(part), self.code.eq(code)]
        for _, refused, _ in own:
            with m.If(refused):
                m.d.sync += self.refused.eq(1)
