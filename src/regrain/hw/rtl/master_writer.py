"""The master copy's writer: weights in C order, one a cycle, to where the reorganizer reads them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out, Signature

from regrain.hw.machine import Machine
from regrain.hw.rtl.layouts import BLOCK_BITS
from regrain.hw.rtl.master import ADDRESS_BITS, master_layout


class Misfit(IntEnum):
    """Why no weight is written any more."""

    NONE = 0
    OUTPUTS = 1  # more or fewer rows of weights than outputs
    BLOCKS = 2  # a row doesn't end in the last block
    ORDER = 3  # a weight isn't the one that follows in C order
    WATCHDOG = 4  # the memory took nothing for too long


class Writing(Signature):
    """A memory of words of `master_layout`, seen by its writer.

    In a cycle with `valid` and `ready` those `lanes` of the word are written, value and fine tag; others stay.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "ready": In(1),
                "address": Out(ADDRESS_BITS),
                "data": Out(master_layout(machine)),
                "lanes": Out(machine.outputs),
            }
        )


class MasterWriter(Component):
    """Writes a matrix as `Reconstruct` gives it.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while not `busy`, with the next three, which then must hold |
    | `base` | in | 24 | where the copy begins |
    | `outputs`, `blocks` | in | 14, 11 | the descriptor's shape |
    | `weight` | in | signed 8 | in C order |
    | `weight_row`, `weight_column`, `weight_valid`, `weight_ready` | | 16, 16, 1, 1 | as of `Reconstruct` |
    | `end` | in | 1 | no weight comes any more |
    | `write` | out | `Writing` | the memory of the master copy |
    | `busy` | out | 1 | from the cycle after `start` to that of `done`, or to a fault |
    | `done` | out | 1 | for one cycle, after `end`: the copy is whole |
    | `fault` | out | 3 | `Misfit`; sticky until reset. Nothing is taken or written any more |

    A weight is written in the cycle in which it is taken, whenever the memory is ready. It becomes its lane of the word
    base + 8 (tile * blocks + block) + position, with a fine tag if it isn't 0. The first row of a tile writes whole
    words, zeros in the other lanes, and goes on to the end of its last block: so lanes without an output and channels
    without an input are zeros, whatever was there before, at the price of blocks * 8 - columns cycles a tile.

    **Width:** base is below 2^20 in a descriptor, and 2^14 outputs by 2^13 channels are 2^23 words of 16 lanes; so no
    address wraps. On machines with fewer lanes matrices must be smaller.
    """

    def __init__(self, machine: Machine | None = None, *, patience: int = 16) -> None:
        """Patience: cycles, as a power of two, that the memory may not be ready."""
        self.machine, self.patience = machine or Machine(), patience
        super().__init__(
            {
                "start": In(1),
                "base": In(ADDRESS_BITS),
                "outputs": In(14),
                "blocks": In(BLOCK_BITS + 1),
                "weight": In(signed(8)),
                "weight_row": In(16),
                "weight_column": In(16),
                "weight_valid": In(1),
                "weight_ready": Out(1),
                "end": In(1),
                "write": Out(Writing(self.machine)),
                "busy": Out(1),
                "done": Out(1),
                "fault": Out(3),
            }
        )
        self.row, self.column = Signal(16), Signal(16)  # that follow in C order
        self.lane, self.first, self.address = (
            Signal(range(self.machine.outputs)),
            Signal(ADDRESS_BITS),
            Signal(ADDRESS_BITS),
        )
        self.width, self.ended, self.fits = Signal(16), Signal(), Signal()
        self.follows, self.turns, self.row_end, self.fills = (
            Signal(name=n) for n in "follows turns row_end fills".split()
        )

    def elaborate(self, platform: Any) -> Module:
        """What comes, what is wrong with it, what is written, and what follows."""
        m = Module()
        row, column, width = self.row, self.column, self.width
        m.d.comb += [
            width.eq(self.blocks * self.machine.block),  # channels of whole blocks
            self.follows.eq(self.weight_valid & (self.weight_row == row) & (self.weight_column == column)),
            self.turns.eq(self.weight_valid & (self.weight_row == row + 1) & (self.weight_column == 0)),
            self.row_end.eq(self.turns | (self.ended & ~self.weight_valid)),
            self.fills.eq(self.row_end & (self.lane == 0) & (column != width)),
        ]
        misfit = Signal(Misfit)
        with m.If(self.weight_valid & ~self.follows & ~self.turns):
            m.d.comb += misfit.eq(Misfit.ORDER)
        with m.Elif(Mux(self.row_end, column + self.machine.block <= width, self.follows & (column == width))):
            m.d.comb += misfit.eq(Misfit.BLOCKS)
        with m.Elif(self.row_end & (self.turns == (row + 1 == self.outputs))):
            m.d.comb += misfit.eq(Misfit.OUTPUTS)
        m.d.comb += self.fits.eq(self.busy & (misfit == Misfit.NONE))
        self._advance(m)
        with m.If(self.start & ~self.busy & (self.fault == Misfit.NONE)):
            m.d.sync += [self.busy.eq(1), self.ended.eq(0), row.eq(0), column.eq(0), self.lane.eq(0)]
            m.d.sync += [self.first.eq(self.base), self.address.eq(self.base)]
        with m.If(self.end):
            m.d.sync += self.ended.eq(1)
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)
        self._stop(m, misfit)
        return m

    def _advance(self, m: Module) -> None:
        """Where a weight stands, and what follows it."""
        turned, wraps = Signal(), Signal()  # to the next row; which is the first of a tile
        lane, first, address = (Signal.like(each) for each in (self.lane, self.first, self.address))
        m.d.comb += [
            turned.eq(self.turns & ~self.fills),
            wraps.eq(self.lane == self.machine.outputs - 1),
            lane.eq(Mux(turned, Mux(wraps, 0, self.lane + 1), self.lane)),
            first.eq(Mux(turned & wraps, self.first + self.width, self.first)),
            address.eq(Mux(turned, first, self.address)),
            self.write.valid.eq(self.fits & (self.follows | self.turns | self.fills)),
            self.weight_ready.eq(self.fits & (self.follows | turned) & self.write.ready),
            self.done.eq(self.fits & self.row_end & ~self.turns & ~self.fills),
        ]
        self._write(m, lane, address, Mux(self.fills, 0, self.weight))
        with m.If(self.write.valid & self.write.ready):
            m.d.sync += [self.row.eq(self.row + turned), self.column.eq(Mux(turned, 0, self.column) + 1)]
            m.d.sync += [self.lane.eq(lane), self.first.eq(first), self.address.eq(address + 1)]

    def _write(self, m: Module, lane: Any, address: Any, weight: Any) -> None:
        """A lane; or, of lane 0, the whole word."""
        word, whole = self.write.data, lane == 0
        m.d.comb += [self.write.address.eq(address), self.write.lanes.eq(Mux(whole, ~0, 1 << lane))]
        for at in range(self.machine.outputs):
            value = weight if at == 0 else Mux(whole, 0, weight)
            m.d.comb += [word.values[at].eq(value), word.fine[at].eq(value != 0)]

    def _stop(self, m: Module, misfit: Any) -> None:
        """The first fault stays."""
        waited = Signal(self.patience)
        m.d.sync += waited.eq(Mux(self.write.valid & ~self.write.ready, waited + 1, 0))
        with m.If(self.busy & (misfit != Misfit.NONE)):
            m.d.sync += [self.fault.eq(misfit), self.busy.eq(0)]
        with m.Elif(waited.all()):
            m.d.sync += [self.fault.eq(Misfit.WATCHDOG), self.busy.eq(0)]
