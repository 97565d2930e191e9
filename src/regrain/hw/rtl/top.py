"""The accelerator: a descriptor's matrix from its start to its last output, granularity and all."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import ceil_log2

from regrain.hw.machine import Machine
from regrain.hw.model.descriptor import CHANNELS_A_ROW
from regrain.hw.rtl.control import METRIC_BITS, STATE, Control
from regrain.hw.rtl.descriptor import DescriptorDecoder
from regrain.hw.rtl.engine import MOST_TILES, Engine
from regrain.hw.rtl.layouts import Fault, word_layout
from regrain.hw.rtl.master import TAG_BITS, Reading, entry_layout, master_layout
from regrain.hw.rtl.metadata import ROW_BITS, MetadataMemory
from regrain.hw.rtl.monitor import Monitor
from regrain.hw.rtl.reorganizer import Reorganizer
from regrain.hw.rtl.writeback import CHANNEL

MATRICES = 64
WAITING = 14
"""Tiles between a command and the array, at most: scout (1), its queue (2), reader (8), compactor (2) and bank (1)."""

TAGS_A_ROW = ROW_BITS // TAG_BITS
OWN, TAGS, TABLE, OTHERS = range(4)
"""Readers of the metadata memory."""


class Part(IntEnum):
    """What refused to go on."""

    NONE = 0
    DESCRIPTOR = 1
    METADATA = 2  # a row was read that isn't loaded
    ENGINE = 3  # `Fault` tells
    REORGANIZER = 4  # `Refusal` tells
    CONTROL = 5
    MONITOR = 6
    RECONSTRUCT = 7  # `regrain.hw.reconstruction.instructions.Fault` tells
    MASTER = 8  # `Misfit` tells


class Top(Component):
    """Runs one matrix after the other, each from its descriptor in the metadata memory.

    | port | direction | width | |
    |---|---|---|---|
    | `write`, `write_address`, `write_data`, `write_keep`, `clear` | in | | load the metadata memory; see there |
    | `reader` | in | `Reading`, 128 bits | rows of it for others, who take turns with what runs |
    | `start`, `descriptor`, `matrix` | in | 1, row, 6 | run the matrix whose descriptor begins at that row; see below |
    | `busy`, `done` | out | 1, 1 | from the cycle after `start` to that of `done` |
    | `fault`, `code` | out | 3, 4 | sticky until reset: `Part` that refused, and why |
    | `weights` | out | 20 | from the descriptor: where the packed tiles or the master copy are |
    | `stream` | in | stream of `word_layout` | tiles of a matrix that isn't dynamic |
    | `master` | out | `Reading` | the master copy of one that is, from address `weights` on |
    | `act_ready`, `pass_tile`, `pass_done`, `act_read`, `act_tile`, `act_rows`, `activations` | | | as in `Engine` |
    | `out_*` | out | | as `Engine` has them |
    | `observe`, `observation` | in | 1, 16 | a metric of the dynamic matrix that runs, from whoever watches it beside |
    | `granularity`, `switched` | out | 2, 1 | of the tile in the active bank; it just changed |
    | `metric`, `counts` | out | 16, 3 x 14 | as `Monitor` has them |
    | `counters` | out | 12 x 48 | as `Engine` has them |
    | `master_reads` | out | 32 | words of the master copy, since reset |

    `start` is ignored while `busy` and after a fault. `matrix` is a number under which the granularity of a dynamic
    matrix is kept from one run to the next.

    **A run**: descriptor (two rows), control, gather table (a row a block, up to the first that is empty; only of a
    matrix that gathers or is dynamic), channel table (two channels a row), and the engine. Of a dynamic matrix the
    table of medium tags follows the `blocks` rows of its gather table, four words a row.

    **Granularity.** A matrix whose `log2_samples` isn't 0 is watched: its outputs are the inputs of the next one that
    is dynamic, whose control gets the metric before it runs. Each tile is re-organized to the granularity that control
    wants next; when such a tile becomes the active one, control switches. What was packed before goes on as it was. A
    metric that comes in the last three cycles of a run is too late for its matrix.
    """

    def __init__(
        self,
        machine: Machine | None = None,
        *,
        rows: int = 4096,
        tiles: int = MOST_TILES,
        patience: int = 16,
        inline: bool = False,
    ) -> None:
        self.machine = machine = machine or Machine()
        self.engine = Engine(machine, tiles=tiles, patience=patience, inline=inline)
        self.modules = self.engine.modules
        self.memory = MetadataMemory(rows, 4)
        self.decoder = DescriptorDecoder(machine, rows)
        self.monitor, self.control = Monitor(machine.outputs), Control()
        self.reorganizer = Reorganizer(machine)
        address = ceil_log2(rows)
        engine = self.engine.signature.members
        same = ("act_ready", "pass_tile", "pass_done", "act_read", "act_tile", "act_rows", "activations", "counters")
        same += tuple(name for name in engine if name.startswith("out_"))
        super().__init__(
            {
                "clear": In(1),
                "write": In(1),
                "write_address": In(address),
                "write_data": In(ROW_BITS),
                "write_keep": In(ROW_BITS // 8),
                "reader": In(Reading(ROW_BITS)),
                "start": In(1),
                "descriptor": In(address),
                "matrix": In(range(MATRICES)),
                "busy": Out(1),
                "done": Out(1),
                "fault": Out(3),
                "code": Out(4),
                "weights": Out(20),
                "stream": In(stream.Signature(word_layout(machine))),
                "master": Out(Reading(master_layout(machine).size)),
                "observe": In(1),
                "observation": In(METRIC_BITS),
                "granularity": Out(2),
                "switched": Out(1),
                "metric": Out(METRIC_BITS),
                "counts": Out(data.ArrayLayout(14, 3)),
                "master_reads": Out(32),
                **{name: engine[name] for name in same},
            }
        )
        self.same = same

    def elaborate(self, platform: Any) -> Module:
        """The parts, wired, and the order of a run."""
        m = Module()
        for name in ("memory", "decoder", "engine", "monitor", "control", "reorganizer"):
            m.submodules[name] = getattr(self, name)
        self.fields = self.decoder.fields
        self.entries = Signal.like(self.fields.blocks)  # of the gather table
        self.row = Signal(range(self.memory.rows))  # that is asked for
        self.beyond = Signal()  # a row is asked for that there can't be
        self._share(m)
        self._feed(m)
        self._watch(m)
        self._adapt(m)
        self._run(m)
        self._fail(m)
        return m

    def _share(self, m: Module) -> None:
        """Ports that are the engine's own, and the metadata memory's readers."""
        inputs = {"act_ready", "activations"}
        for name in self.same:
            inner, outer = getattr(self.engine, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if name in inputs else outer.eq(inner)
        shared, word = self.memory, Signal(range(TAGS_A_ROW))
        for name in ("clear", "write", "write_address", "write_data", "write_keep"):
            m.d.comb += getattr(shared, name).eq(getattr(self, name))
        tags, table, others = self.reorganizer.tags, self.reorganizer.table, self.reader
        m.d.comb += shared.address[OWN].eq(self.row)
        for reader, port, address in (
            (TAGS, tags, tags.address >> ceil_log2(TAGS_A_ROW)),
            (TABLE, table, table.address),
            (OTHERS, others, others.address),
        ):
            # A descriptor is refused whose table doesn't end in the memory; of tags it doesn't say where they end.
            there = Const(1) if reader == TABLE else address < shared.rows
            m.d.comb += [
                shared.asked[reader].eq(port.read & there),
                shared.address[reader].eq(address),
                port.ready.eq(shared.granted[reader]),
                port.valid.eq(shared.answered[reader]),
            ]
            with m.If(port.read & ~there):
                m.d.comb += self.beyond.eq(1)
        with m.If(shared.granted[TAGS]):
            m.d.sync += word.eq(tags.address)
        m.d.comb += tags.data.eq(shared.data.word_select(word, TAG_BITS))
        m.d.comb += [table.data.eq(shared.data), others.data.eq(shared.data)]

    def _feed(self, m: Module) -> None:
        """Tiles come packed, or from the reorganizer."""
        engine, reorganizer, f = self.engine, self.reorganizer, self.fields
        connect(m, reorganizer.master, flipped(self.master))
        source = Mux(f.dynamic, reorganizer.output.payload.as_value(), self.stream.payload.as_value())
        m.d.comb += [
            engine.stream.payload.eq(source),
            engine.stream.valid.eq(Mux(f.dynamic, reorganizer.output.valid, self.stream.valid)),
            reorganizer.output.ready.eq(f.dynamic & engine.stream.ready),
            self.stream.ready.eq(~f.dynamic & engine.stream.ready),
            self.weights.eq(f.weights),
            self.master_reads.eq(reorganizer.master_reads),
        ]
        tiles = (f.outputs + (self.machine.outputs - 1)) // self.machine.outputs
        token_tiles = (f.tokens + (self.machine.rows - 1)) // self.machine.rows
        m.d.comb += [
            engine.job.tiles.eq(tiles),
            engine.job.token_tiles.eq(token_tiles),
            engine.job.last_rows.eq(f.tokens - (token_tiles - 1) * self.machine.rows),
            engine.job.blocks.eq(f.blocks),
            engine.job.gathered.eq(self.entries),
            engine.job.relu.eq(f.relu),
        ]

    def _watch(self, m: Module) -> None:
        """The monitor sees what is written back; a tile's first token is the first with its number."""
        engine, monitor, f = self.engine, self.monitor, self.fields
        odd, fresh = Signal(), Signal()  # one tile comes after the other
        left = Signal(range(engine.tiles * self.machine.outputs + 1))
        watching = engine.out_valid & (f.log2_samples != 0)
        m.d.comb += [
            left.eq(f.outputs - engine.out_tile * self.machine.outputs),
            monitor.valid.eq(watching),
            monitor.begin.eq(fresh | (odd != engine.out_tile[0])),
            monitor.values.eq(engine.out_values),
            monitor.present.eq(Cat(left > lane for lane in range(self.machine.outputs))),
            monitor.log2_samples.eq(f.log2_samples),
            monitor.log2_channels.eq(f.log2_channels),
            monitor.low.eq(f.down0),
            monitor.high.eq(f.up1),
            monitor.conclude.eq(engine.done & (f.log2_samples != 0)),
            self.metric.eq(monitor.metric),
            self.counts.eq(monitor.counts),
        ]
        with m.If(engine.start):
            m.d.sync += fresh.eq(1)
        with m.If(watching):
            m.d.sync += [fresh.eq(0), odd.eq(engine.out_tile[0])]

    def _adapt(self, m: Module) -> None:
        """Control, its settings out of the descriptor, and the granularity of each tile on its way to the array."""
        control, reorganizer, engine, f = self.control, self.reorganizer, self.engine, self.fields
        settings = control.settings
        tiles, sent = Signal(range(engine.tiles + 1)), Signal(range(engine.tiles + 1))  # of a job that the engine takes
        m.d.comb += [
            tiles.eq(engine.job.tiles),
            *(settings[name].eq(f[name]) for name in ("dynamic", "reverse", "dwell")),
            settings.predefined.eq(f.granularity),
            settings.priced.eq(1),
            settings.up.eq(Cat(f.up0, f.up1)),
            settings.down.eq(Cat(f.down0, f.down1)),
            settings.cost.eq(Cat(f.cost_fine, f.cost_medium, f.cost_coarse)),
            # A saved word is saved in each pass; the price of a switch is the whole master copy, read once more.
            settings.uses.eq(Mux(engine.job.token_tiles > 255, 255, engine.job.token_tiles)),
            settings.reorganization.eq((tiles * f.blocks * self.machine.block) >> 4),
        ]
        command = reorganizer.command
        front, room = self._queue(m, command.valid & command.ready, engine.swap)
        m.d.comb += [
            command.valid.eq(engine.busy & f.dynamic & room & (sent != tiles)),
            command.payload.tile.eq(sent),
            command.payload.granularity.eq(control.next),
            command.payload.blocks.eq(f.blocks),
            command.payload.entries.eq(self.entries),
            command.payload.master.eq(f.weights),
            command.payload.tags.eq((f.table + f.blocks) * TAGS_A_ROW),
            command.payload.table.eq(f.table),
        ]
        with m.If(engine.start):
            m.d.sync += sent.eq(0)
        with m.Elif(command.valid & command.ready):
            m.d.sync += sent.eq(sent + 1)
        m.d.comb += [
            control.boundary.eq(engine.swap),
            control.ready.eq(f.dynamic & (front == control.next)),
            self.switched.eq(control.switch),
            self.granularity.eq(control.state.granularity),
        ]

    def _queue(self, m: Module, push: Any, pop: Any) -> tuple[Signal, Any]:
        """Granularities of tiles that were asked for and aren't active yet: the oldest, and whether there is room."""
        codes = Signal(data.ArrayLayout(2, WAITING))
        count, place = Signal(range(WAITING + 1)), Signal(range(WAITING + 1))
        m.d.comb += place.eq(count - pop)
        with m.If(self.fields.dynamic):
            m.d.sync += count.eq(place + push)
            with m.If(pop):
                m.d.sync += codes.as_value().eq(codes.as_value() >> 2)
            with m.If(push):
                m.d.sync += codes[place].eq(self.control.next)
        return codes[0], count != WAITING

    def _run(self, m: Module) -> None:
        """One state after the other."""
        metadata, decoder, control, engine, f = self.memory, self.decoder, self.control, self.engine, self.fields
        states = memory.Memory(shape=data.StructLayout({"known": 1, "state": STATE}), depth=MATRICES, init=[])
        m.submodules.states = states
        saved, keep = states.read_port(), states.write_port()
        matrix, second = Signal.like(self.matrix), Signal()
        answered, observed = metadata.answered[OWN], Signal()
        half = Signal(ROW_BITS)
        m.d.comb += [
            decoder.words.eq(Cat(half, metadata.data)),
            saved.en.eq(1),
            saved.addr.eq(matrix),
            keep.addr.eq(matrix),
            keep.data.known.eq(1),
            keep.data.state.eq(control.state),
            control.saved.eq(Mux(saved.data.known, saved.data.state.as_value(), f.granularity)),
            control.metric.eq(Mux(self.observe, self.observation, self.monitor.metric)),
            control.tick.eq(self.observe & engine.busy),
        ]
        with m.If(self.monitor.updated):
            m.d.sync += observed.eq(1)
        self.asking = asking = Signal()
        m.d.comb += metadata.asked[OWN].eq(asking & ~answered)

        with m.FSM():
            with m.State("Rest"):
                with m.If(self.start & (self.fault == Part.NONE)):
                    m.d.sync += [self.busy.eq(1), self.row.eq(self.descriptor), matrix.eq(self.matrix), second.eq(0)]
                    m.next = "Descriptor"
            with m.State("Descriptor"):
                m.d.comb += [asking.eq(1), decoder.load.eq(answered & second)]
                with m.If(answered):
                    m.d.sync += [half.eq(metadata.data), second.eq(1), self.row.eq(self.row + 1)]
                    with m.If(second):
                        m.next = "Decode"
            with m.State("Decode"):
                with m.If(decoder.valid & ~decoder.error):
                    m.d.comb += control.load.eq(1)
                    m.d.sync += [self.row.eq(f.table), self.entries.eq(0)]
                    m.next = "Observe"
            with m.State("Observe"):
                m.d.comb += control.tick.eq(f.dynamic & observed)
                with m.If(f.dynamic):
                    m.d.sync += observed.eq(0)
                m.next = "Gather"
                with m.If(~(f.dynamic | f.gather)):
                    m.d.sync += self.row.eq(f.channels)
                    m.next = "Channels"
            self._gather(m)
            self._channels(m)
            with m.State("Start"):
                m.d.comb += engine.start.eq(1)
                m.next = "Run"
            with m.State("Run"):
                with m.If(engine.done):
                    m.d.comb += [self.done.eq(1), keep.en.eq(f.dynamic)]
                    m.d.sync += self.busy.eq(0)
                    m.next = "Rest"
        with m.If(self.fault != Part.NONE):
            m.d.sync += self.busy.eq(0)

    def _gather(self, m: Module) -> None:
        """Rows of the gather table, up to the first that is empty."""
        engine, metadata, f = self.engine, self.memory, self.fields
        entry = Signal(entry_layout(self.machine))
        m.d.comb += entry.eq(metadata.data)
        with m.State("Gather"):
            m.d.comb += [
                self.asking.eq(self.entries != f.blocks),
                engine.gather_row.eq(self.entries),
                engine.gather_entry.eq(entry.rows),
            ]
            through = Signal()
            with m.If(metadata.answered[OWN]):
                with m.If(entry.present == 0):
                    m.d.comb += through.eq(1)
                with m.Else():
                    m.d.comb += engine.gather_write.eq(1)
                    m.d.sync += [self.entries.eq(self.entries + 1), self.row.eq(self.row + 1)]
            with m.If(self.entries == f.blocks):
                m.d.comb += through.eq(1)
            with m.If(through):
                m.d.sync += self.row.eq(f.channels)
                m.next = "Channels"

    def _channels(self, m: Module) -> None:
        """Rows of the channel table, `CHANNELS_A_ROW` channels each, of whole tiles."""
        engine, metadata = self.engine, self.memory
        width, lanes = ROW_BITS // CHANNELS_A_ROW, self.machine.outputs
        held, place = Signal(data.ArrayLayout(CHANNEL, CHANNELS_A_ROW)), Signal(range(CHANNELS_A_ROW))
        writing = Signal()
        tile, lane = Signal.like(engine.job.tiles), Signal.like(engine.table_lane)  # more tiles than the table has, too
        m.d.comb += [
            engine.table_tile.eq(tile),
            engine.table_lane.eq(lane),
            engine.table_entry.eq(held[place]),
            engine.table_write.eq(writing),
        ]
        with m.State("Channels"):
            m.d.comb += self.asking.eq(~writing & (tile != engine.job.tiles))
            with m.If(metadata.answered[OWN]):
                entries = (metadata.data.word_select(one, width)[: CHANNEL.size] for one in range(CHANNELS_A_ROW))
                m.d.sync += [held.eq(Cat(entries)), self.row.eq(self.row + 1), place.eq(0), writing.eq(1)]
            with m.If(writing):
                m.d.sync += [place.eq(place + 1), lane.eq(lane + 1)]
                with m.If(place == CHANNELS_A_ROW - 1):
                    m.d.sync += writing.eq(0)
                with m.If(lane == lanes - 1):
                    m.d.sync += [lane.eq(0), tile.eq(tile + 1)]
            with m.If(~writing & (tile == engine.job.tiles)):
                m.d.sync += [tile.eq(0), lane.eq(0)]
                m.next = "Start"

    def _fail(self, m: Module) -> None:
        """The first refusal stays."""
        refusals = (
            (Part.DESCRIPTOR, self.decoder.valid & self.decoder.error, Const(0)),
            (Part.METADATA, self.memory.error | self.beyond, Const(0)),
            (Part.ENGINE, self.engine.fault != Fault.NONE, self.engine.fault),
            (Part.REORGANIZER, self.reorganizer.fault != 0, self.reorganizer.fault),
            (Part.CONTROL, self.control.fault, Const(0)),
            (Part.MONITOR, self.monitor.fault, Const(0)),
        )
        for part, refused, code in reversed(refusals):
            with m.If(refused & (self.fault == Part.NONE)):
                m.d.sync += [self.fault.eq(part), self.code.eq(code)]
