"""The engine: bank, sequencer, array and write-back, which run one matrix over many tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.machine import MOST_BLOCKS
from regrain.hw.rtl.array import Array
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.layouts import (
    BLOCK_BITS,
    TOKEN_BITS,
    Fault,
    accumulators_layout,
    tokens_layout,
    word_layout,
)
from regrain.hw.rtl.sequencer import Sequencer
from regrain.hw.rtl.writeback import CHANNEL, Writeback

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

MOST_TILES = 256
"""Tiles of outputs that the channel table holds by default: 4,096 channels of the default machine."""

COUNTERS = (
    "cycles",
    "words",
    "macs",
    "steps",
    "list_reads",
    "gather_reads",
    "bank_writes",
    "list_writes",
    "tokens",
    "load_stalls",
    "act_stalls",
    "drain_stalls",
)
COUNTER_BITS = 48


def job_layout(machine: Machine) -> Any:
    """A job: `tiles` of outputs by `token_tiles`, the last of which has `last_rows` tokens; how many `blocks` of
    activations there are, and how many rows of the gather table are `gathered`; whether outputs below 0 become 0.
    """
    return data.StructLayout(
        {
            "tiles": TOKEN_BITS,
            "token_tiles": TOKEN_BITS,
            "last_rows": range(machine.rows + 1),
            "blocks": BLOCK_BITS + 1,
            "gathered": BLOCK_BITS + 1,
            "relu": 1,
        }
    )


class Engine(Component):
    """One matrix over many tokens: for each tile of outputs, for each tile of tokens, for each step, for each word.

    | port | direction | width | |
    |---|---|---|---|
    | `start`, `job` | in | 1, `job_layout` | begin; ignored while `busy` or after a fault |
    | `busy`, `done` | out | 1, 1 | from the cycle after `start` to that of `done`, in which the last token leaves |
    | `fault` | out | `Fault` | sticky until reset; the engine stops with it |
    | `stream` | in | stream of `word_layout` | weights; taken only while `busy`, and no more than the job's tiles |
    | `swap` | out | 1 | the next tile becomes the active one at the end of the cycle |
    | `act_ready`, `pass_tile`, `pass_done`, `act_read`, `act_tile`, `act_rows` | | | as `Sequencer` has them |
    | `activations` | in | rows x block x signed 8 | what `act_read` asked for in the cycle before |
    | `gather_write`, `gather_row`, `gather_entry` | in | 1, 10, block x 10 | set-up, while not `busy` |
    | `table_write`, `table_tile`, `table_lane`, `table_entry` | in | | set-up, while not `busy`; see `Writeback` |
    | `out_valid`, `out_tile`, `out_token_tile`, `out_row`, `out_sums`, `out_values` | out | | as `Writeback` has them |
    | `counters` | out | 12 x 48 | `COUNTERS`, since `start`; they stand still while not `busy` |

    **Time.** `start` in cycle 0; the first word of the stream can be taken in cycle 1. Each cycle from 1 on issues a
    word or counts as one stall, to the last word; issued in cycle t, it is followed by `done` in t + 2 rows + pes +
    6: 2 to the array, rows + pes + 1 to the first row's leaving it, rows - 1 to the last's, 4 for write-back. So
    **cycles = words + load_stalls + act_stalls + drain_stalls + 2 rows + pes + 6.**

    **Events.** `macs`: weights that aren't 0 times rows with tokens; what remains of words x rows x outputs is gated.
    `steps`: blocks of activations read. `words`: also words read from the bank. `tokens`: that left, with all outputs
    of a tile each.

    **Faults.** The first stays. Nothing is issued or taken from the next cycle on, `busy` falls, `done` doesn't come.
    Passes whose last word was issued still leave, so what leaves is right and no token leaves in part. WATCHDOG:
    2^`patience` cycles in which no word was taken or issued and no token left the array.
    """

    def __init__(self, machine: Machine, *, tiles: int = MOST_TILES, patience: int = 16, inline: bool = False) -> None:
        self.machine = machine
        self.tiles = tiles
        self.patience = patience
        self.array = Array(machine, inline=inline)
        self.modules = self.array.modules
        rows = data.ArrayLayout(unsigned(BLOCK_BITS), machine.block)
        super().__init__(
            {
                "start": In(1),
                "job": In(job_layout(machine)),
                "busy": Out(1),
                "done": Out(1),
                "fault": Out(Fault),
                "stream": In(stream.Signature(word_layout(machine))),
                "swap": Out(1),
                "act_ready": In(1),
                "pass_tile": Out(TOKEN_BITS),
                "pass_done": Out(1),
                "act_read": Out(1),
                "act_tile": Out(TOKEN_BITS),
                "act_rows": Out(rows),
                "activations": In(tokens_layout(machine)),
                "gather_write": In(1),
                "gather_row": In(BLOCK_BITS),
                "gather_entry": In(rows),
                "table_write": In(1),
                "table_tile": In(range(tiles)),
                "table_lane": In(range(machine.outputs)),
                "table_entry": In(CHANNEL),
                "out_valid": Out(1),
                "out_tile": Out(TOKEN_BITS),
                "out_token_tile": Out(TOKEN_BITS),
                "out_row": Out(range(machine.rows)),
                "out_sums": Out(accumulators_layout(machine)),
                "out_values": Out(data.ArrayLayout(8, machine.outputs)),
                "counters": Out(data.ArrayLayout(COUNTER_BITS, len(COUNTERS))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The parts, wired."""
        m = Module()
        m.submodules.bank = bank = Bank(self.machine)
        m.submodules.sequencer = sequencer = Sequencer(self.machine)
        m.submodules.array = self.array
        m.submodules.writeback = writeback = Writeback(self.machine, tiles=self.tiles)
        job = Signal(job_layout(self.machine))
        self._control(m, job, bank, sequencer, writeback)
        self._weights(m, job, bank, sequencer)
        self._activations(m, sequencer)
        self._outputs(m, job, writeback)
        self._count(m, bank, sequencer)
        return m

    def _control(self, m: Module, job: Any, bank: Any, sequencer: Any, writeback: Any) -> None:
        """Begin, end, or stop at a fault."""
        begin, progress = Signal(), Signal()
        idle = Signal(self.patience)
        sound = (
            (self.job.tiles != 0)
            & (self.job.tiles <= self.tiles)
            & (self.job.token_tiles != 0)
            & (self.job.last_rows != 0)
            & (self.job.last_rows <= self.machine.rows)
            & (self.job.blocks <= MOST_BLOCKS)
            & (self.job.gathered <= self.machine.list_entries)
        )
        asked = self.start & ~self.busy & (self.fault == Fault.NONE)
        m.d.comb += [
            begin.eq(asked & sound),
            self.done.eq(self.busy & writeback.finished),
            progress.eq(bank.written | sequencer.issued | self.array.valid),
            sequencer.start.eq(begin),
            self.swap.eq(sequencer.swap),
            sequencer.halt.eq(self.fault != Fault.NONE),
            writeback.start.eq(begin),
        ]
        m.d.sync += idle.eq(Mux(self.busy & ~progress, idle + 1, 0))
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        with m.If(begin):
            m.d.sync += [job.eq(self.job), self.busy.eq(1)]
        with m.If(asked & ~sound):
            m.d.sync += self.fault.eq(Fault.JOB)
        with m.If(self.busy & (self.fault == Fault.NONE)):
            with m.If(bank.fault != Fault.NONE):
                m.d.sync += [self.fault.eq(bank.fault), self.busy.eq(0)]
            with m.Elif(idle.all()):
                m.d.sync += [self.fault.eq(Fault.WATCHDOG), self.busy.eq(0)]

    def _weights(self, m: Module, job: Any, bank: Any, sequencer: Any) -> None:
        """The stream fills the bank, and the sequencer reads it for the array."""
        remaining, taking = Signal(TOKEN_BITS), Signal()
        m.d.comb += [
            taking.eq(self.busy & (remaining != 0)),
            bank.stream.payload.eq(self.stream.payload),
            bank.stream.valid.eq(self.stream.valid & taking),
            self.stream.ready.eq(bank.stream.ready & taking),
        ]
        with m.If(bank.written & self.stream.payload.last):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(sequencer.start):
            m.d.sync += remaining.eq(self.job.tiles)
        for name in ("swap", "read_step", "step", "read_word", "word"):
            m.d.comb += getattr(bank, name).eq(getattr(sequencer, name))
        for name in ("full", "shadow", "active", "entry"):
            m.d.comb += getattr(sequencer, name).eq(getattr(bank, name))
        m.d.comb += [
            bank.blocks.eq(job.blocks),
            bank.gathered.eq(job.gathered),
            *(getattr(sequencer, name).eq(job[name]) for name in ("tiles", "token_tiles", "last_rows")),
            self.array.weights.eq(bank.weights),
            self.array.control.eq(sequencer.control),
            self.array.rows.eq(sequencer.rows),
        ]

    def _activations(self, m: Module, sequencer: Any) -> None:
        """Which rows of the activation memory are read."""
        table = memory.Memory(shape=self.gather_entry.shape(), depth=self.machine.list_entries, init=[])
        m.submodules.gather = table
        write, read = table.write_port(), table.read_port()
        m.d.comb += [
            write.en.eq(self.gather_write & (self.gather_row < self.machine.list_entries)),
            write.addr.eq(self.gather_row),
            write.data.eq(self.gather_entry),
            read.en.eq(sequencer.gather_read),
            read.addr.eq(sequencer.gather_address),
            sequencer.gather_rows.eq(read.data),
            sequencer.act_ready.eq(self.act_ready),
            self.array.activations.eq(self.activations),
        ]
        for name in ("pass_tile", "pass_done", "act_read", "act_tile", "act_rows"):
            m.d.comb += getattr(self, name).eq(getattr(sequencer, name))

    def _outputs(self, m: Module, job: Any, writeback: Any) -> None:
        """What leaves the array is written back."""
        for name in ("valid", "row", "sums"):
            m.d.comb += getattr(writeback, name).eq(getattr(self.array, name))
        for name in ("tiles", "token_tiles", "last_rows", "relu"):
            m.d.comb += getattr(writeback, name).eq(job[name])
        for name in ("write", "tile", "lane", "entry"):
            m.d.comb += getattr(writeback, f"table_{name}").eq(getattr(self, f"table_{name}"))
        for name in ("valid", "tile", "token_tile", "row", "sums", "values"):
            m.d.comb += getattr(self, f"out_{name}").eq(getattr(writeback, f"out_{name}"))

    def _count(self, m: Module, bank: Any, sequencer: Any) -> None:
        """Add up what happens in each cycle."""
        live = Signal(range(self.machine.outputs + 1))
        m.d.comb += live.eq(sum(self.array.live))
        happens = {
            "cycles": 1,
            "words": sequencer.issued,
            "macs": live * sequencer.rows,
            "steps": sequencer.stepped,
            "list_reads": sequencer.read_step,
            "gather_reads": sequencer.gather_read,
            "bank_writes": bank.written,
            "list_writes": bank.listing,
            "tokens": self.out_valid,
            "load_stalls": sequencer.load_stall,
            "act_stalls": sequencer.act_stall,
            "drain_stalls": sequencer.drain_stall,
        }
        for counter, name in zip(self.counters, COUNTERS, strict=True):
            with m.If(sequencer.start):
                m.d.sync += counter.eq(0)
            with m.Elif(self.busy):
                m.d.sync += counter.eq(counter + happens[name])
