"""The sequencer: one word a cycle, through steps, passes and tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.layouts import BLOCK_BITS, CONTROL, TOKEN_BITS, step_layout, tile_layout

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

LATENCY = 2
"""Cycles from a word's issue until it is at the array."""


class Sequencer(Component):
    """Runs `tiles` tiles of weights, each over `token_tiles` tiles of tokens: a *pass* is one over the other.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin a job; only while not `running` |
    | `halt` | in | 1 | issue nothing, for ever |
    | `tiles`, `token_tiles` | in | 16, 16 | passes of the job, 1 or more each; held while `running` |
    | `last_rows` | in | bits of rows | tokens of the last tile of tokens |
    | `full`, `shadow`, `active`, `swap`, `read_step`, `step`, `entry`, `read_word`, `word` | | | as `Bank` has them |
    | `act_ready` | in | 1 | the activations of tile `pass_tile` are there; looked at before the first word of a pass |
    | `pass_tile` | out | 16 | the tile of tokens of the pass that is, or is to be, run |
    | `pass_done` | out | 1 | its last word is issued |
    | `act_read`, `act_tile`, `act_rows` | out | 1, 16, block x 10 | read row act_rows[j] of bank j: data a cycle on |
    | `gather_read`, `gather_address` | out | 1, 10 | read a row of the gather table |
    | `gather_rows` | in | block x 10 | a cycle later |
    | `control`, `rows` | out | `CONTROL`, bits of rows | for the array, with weights and activations |
    | `running` | out | 1 | from the cycle after `start` to the one that issues the last word |
    | `issued`, `stepped` | out | 1 | events: a word is issued, and it is the first of its step |
    | `load_stall`, `act_stall`, `drain_stall` | out | 1 | nothing is issued, and why |

    **Time.** In each cycle that is `running` and not halted exactly one of `issued` and the three stalls is 1. Issued
    in cycle t: the word is read, and the gather table in t if need be; activations are read in t + 1; in t + 2
    weights and activations are at the array with their `control`.

    **Stalls.** Load: no tile yet. `swap` comes in the first cycle that needs one and finds the shadow `full`: the one
    that issues the last word of the tile before (no cycle is lost then), or a load stall; its first word may be
    issued in the next cycle. A job begins with one load stall at least. Activations: the word is the first of a pass,
    and `act_ready` is 0. Drain: the word is the last of a pass, and that of the pass before was issued less than
    `rows` cycles ago. Where two causes meet, the first in this order counts.

    **Steps.** A tile that is listed reads an entry of the list a step, one that isn't none: its blocks are 0, 1, 2
    ...
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ready = Signal()  # a tile is active
        self.position = Signal(range(machine.block))  # of the word in its step
        self.number = Signal(BLOCK_BITS)  # of the step in its tile
        self.tile = Signal(TOKEN_BITS)
        self.cooling = Signal(range(machine.rows))  # cycles until a last word may be issued
        super().__init__(
            {
                "start": In(1),
                "halt": In(1),
                "tiles": In(TOKEN_BITS),
                "token_tiles": In(TOKEN_BITS),
                "last_rows": In(range(machine.rows + 1)),
                "full": In(1),
                "shadow": In(tile_layout(machine)),
                "active": In(tile_layout(machine)),
                "swap": Out(1),
                "read_step": Out(1),
                "step": Out(range(machine.list_entries)),
                "entry": In(step_layout(machine)),
                "read_word": Out(1),
                "word": Out(range(machine.bank_words)),
                "act_ready": In(1),
                "pass_tile": Out(TOKEN_BITS),
                "pass_done": Out(1),
                "act_read": Out(1),
                "act_tile": Out(TOKEN_BITS),
                "act_rows": Out(data.ArrayLayout(unsigned(BLOCK_BITS), machine.block)),
                "gather_read": Out(1),
                "gather_address": Out(BLOCK_BITS),
                "gather_rows": In(data.ArrayLayout(unsigned(BLOCK_BITS), machine.block)),
                "control": Out(CONTROL),
                "rows": Out(range(machine.rows + 1)),
                "running": Out(1),
                "issued": Out(1),
                "stepped": Out(1),
                "load_stall": Out(1),
                "act_stall": Out(1),
                "drain_stall": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Decide, go on, and send what was decided to where the data come."""
        m = Module()
        first, last = Signal(), Signal()  # word of a pass
        block, count = Signal(BLOCK_BITS), Signal.like(self.position)
        m.d.comb += [
            first.eq(self.word == 0),
            last.eq(self.word == self.active.end),
            block.eq(Mux(self.active.listed, self.entry.block, self.number)),
            count.eq(Mux(self.active.listed, self.entry.count, self.active.count)),
            self.stepped.eq(self.issued & (self.position == 0)),
            self.read_word.eq(self.issued),
            self.pass_done.eq(self.issued & last),
        ]
        self._decide(m, first, last)
        self._advance(m, last, count)
        self._fetch(m, first, last, block)
        return m

    def _decide(self, m: Module, first: Any, last: Any) -> None:
        """Issue, or why not."""
        with m.If(self.running & ~self.halt):
            with m.If(~self.ready):
                m.d.comb += self.load_stall.eq(1)
            with m.Elif(first & ~self.act_ready):
                m.d.comb += self.act_stall.eq(1)
            with m.Elif(last & (self.cooling != 0)):
                m.d.comb += self.drain_stall.eq(1)
            with m.Else():
                m.d.comb += self.issued.eq(1)
        with m.If(self.issued & last):
            m.d.sync += self.cooling.eq(self.machine.rows - 1)
        with m.Elif(self.cooling != 0):
            m.d.sync += self.cooling.eq(self.cooling - 1)

    def _advance(self, m: Module, last: Any, count: Any) -> None:
        """To the next word, step, pass and tile."""
        wanting = Signal()  # a new tile is needed in the next cycle
        ends = Signal()  # of a step
        m.d.comb += [ends.eq(self.position == count), self.swap.eq(wanting & self.full)]
        with m.If(self.issued):
            m.d.sync += [self.word.eq(self.word + 1), self.position.eq(self.position + 1)]
            with m.If(last):
                m.d.sync += [self.word.eq(0), self.position.eq(0), self.number.eq(0)]
                self._next_pass(m, wanting)
            with m.Elif(ends):
                m.d.sync += [self.position.eq(0), self.number.eq(self.number + 1)]
                m.d.comb += [self.read_step.eq(self.active.listed), self.step.eq(self.number + 1)]
        with m.If(self.load_stall):
            m.d.comb += wanting.eq(1)
        with m.If(wanting):
            m.d.sync += self.ready.eq(self.full)
        with m.If(self.swap):
            m.d.comb += self.read_step.eq(self.shadow.listed)
        with m.If(self.start):
            m.d.sync += [self.running.eq(1), self.ready.eq(0), self.tile.eq(0), self.pass_tile.eq(0)]

    def _next_pass(self, m: Module, wanting: Any) -> None:
        with m.If(self.pass_tile + 1 != self.token_tiles):
            m.d.sync += self.pass_tile.eq(self.pass_tile + 1)
            m.d.comb += self.read_step.eq(self.active.listed)
        with m.Else():
            m.d.sync += [self.pass_tile.eq(0), self.tile.eq(self.tile + 1)]
            with m.If(self.tile + 1 == self.tiles):
                m.d.sync += [self.running.eq(0), self.ready.eq(0)]
            with m.Else():
                m.d.comb += wanting.eq(1)

    def _fetch(self, m: Module, first: Any, last: Any, block: Any) -> None:
        """The word's control, a cycle after its issue and one after that."""
        control, rows = Signal(CONTROL), Signal.like(self.rows)
        gathers, held = Signal(), Signal(BLOCK_BITS)
        final = self.pass_tile + 1 == self.token_tiles
        m.d.comb += [
            self.gather_read.eq(self.stepped & self.active.gather),
            self.gather_address.eq(block),
            self.act_read.eq(control.load),
        ]
        m.d.sync += [
            control.valid.eq(self.issued),
            control.load.eq(self.stepped),
            control.clear.eq(self.issued & first),
            control.drain.eq(self.issued & last),
            self.control.eq(control),
            self.rows.eq(rows),
        ]
        with m.If(self.stepped):
            m.d.sync += [
                gathers.eq(self.active.gather),
                held.eq(block),
                self.act_tile.eq(self.pass_tile),
                rows.eq(Mux(final, self.last_rows, self.machine.rows)),
            ]
        m.d.comb += [
            row.eq(Mux(gathers, gathered, held)) for row, gathered in zip(self.act_rows, self.gather_rows, strict=True)
        ]
