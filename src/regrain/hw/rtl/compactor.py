"""Words of the master copy, compacted lane by lane into the steps of a tile."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.machine import Machine
from regrain.hw.rtl.layouts import BLOCK_BITS, word_layout
from regrain.hw.rtl.master import master_layout, pending_layout


class Half:
    """One of the two buffers: up to `block` weights for each lane, and what is known of their step."""

    def __init__(self, machine: Machine, name: str) -> None:
        weight = machine.word_bits // machine.outputs
        size = machine.block.bit_length()
        self.full = Signal(name=f"{name}_full")  # the step is complete, and nothing is written until it was sent
        self.final = Signal(name=f"{name}_final")  # no other step follows in the tile
        self.gather = Signal(name=f"{name}_gather")
        self.block = Signal(BLOCK_BITS, name=f"{name}_block")
        self.size = Signal(size, name=f"{name}_size")  # words: weights of the lane that has most
        self.counts = [Signal(size, name=f"{name}_count_{lane}") for lane in range(machine.outputs)]
        self.weights = [
            Signal(weight * machine.block, name=f"{name}_weights_{lane}") for lane in range(machine.outputs)
        ]


class Compactor(Component):
    """Takes a word a cycle into one half of a double buffer while the step in the other half is sent.

    | port | direction | |
    |---|---|---|
    | `pending` | in, stream | for each word its slot and step; between tiles an `end` |
    | `word` | in, stream | the words, in the same order |
    | `output` | out, stream | `word_layout`; all steps are listed |

    In each lane, kept weights take the places 0, 1, 2 ... of a step, and the fullest lane makes its length, which
    grows by at most 1 a word: it does if a lane that is as long as the step keeps another weight. A step that keeps
    nothing isn't sent; a tile that keeps nothing is one word of zeros.

    A word can be sent from the cycle after the one in which its step was completed. The last word of a step has to say
    whether the tile goes on, and waits until that is known: until a later step has a weight, or `end` comes; a cycle in
    which either is taken is early enough. With words that always come and are always taken, so many words pass as
    cycles, and an `end` takes a cycle.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.halves = [Half(machine, "even"), Half(machine, "odd")]
        self.filling = Signal()
        self.sending = Signal()  # which half
        self.open = Signal()  # the tile has a complete step, and no end yet
        self.taking = Signal()
        self.closing = Signal()
        self.voiding = Signal()
        super().__init__(
            {
                "pending": In(stream.Signature(pending_layout(machine))),
                "word": In(stream.Signature(master_layout(machine))),
                "output": Out(stream.Signature(word_layout(machine))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Both sides; what frees a half comes after what fills the other."""
        m = Module()
        keeps = self._take(m)
        self._send(m, keeps)
        return m

    def _of(self, which: Any, name: str) -> Any:
        return Array(getattr(half, name) for half in self.halves)[which]

    def _take(self, m: Module) -> Any:
        """A word, or the end of a tile. Gives whether a weight is kept."""
        pending, word = self.pending.payload, self.word.payload
        free = ~self._of(self.filling, "full")
        m.d.comb += [
            self.taking.eq(self.pending.valid & ~pending.end & self.word.valid & free),
            self.closing.eq(self.pending.valid & pending.end & self.open),
            self.voiding.eq(self.pending.valid & pending.end & ~self.open & free),
            self.pending.ready.eq(self.taking | self.closing | self.voiding),
            self.word.ready.eq(self.taking),
        ]
        kept = Signal(self.machine.outputs)
        for lane, value in enumerate(word.values):
            m.d.comb += kept[lane].eq(pending.whole | (word.fine[lane] & (value != 0)))
        for which, half in enumerate(self.halves):
            with m.If(self.taking & (self.filling == which)):
                self._keep(m, half, kept)
            with m.If(self.voiding & (self.filling == which)):
                m.d.sync += [half.full.eq(1), half.final.eq(1), half.size.eq(1), half.block.eq(0), half.gather.eq(0)]
            with m.If(self.closing & (self.filling != which)):
                m.d.sync += half.final.eq(1)
        with m.If(self.voiding):
            m.d.sync += self.filling.eq(~self.filling)
        with m.If(self.closing):
            m.d.sync += self.open.eq(0)
        return self.taking & kept.any()

    def _keep(self, m: Module, half: Half, kept: Any) -> None:
        pending, word = self.pending.payload, self.word.payload
        size, bits = Signal.like(half.size), self.machine.word_bits // self.machine.outputs
        longer = Cat(kept[lane] & (count == half.size) for lane, count in enumerate(half.counts)).any()
        m.d.comb += size.eq(half.size + longer)
        m.d.sync += [half.size.eq(size), half.block.eq(pending.block), half.gather.eq(pending.gather)]
        for lane, (count, weights) in enumerate(zip(half.counts, half.weights, strict=True)):
            value = word.values[lane]
            weight = Cat(value, Mux(value != 0, pending.slot, 0))
            with m.If(kept[lane]):
                m.d.sync += [
                    count.eq(count + 1),
                    weights.word_select(count[: self.machine.index_bits], bits).eq(weight),
                ]
        with m.If(pending.complete & (size != 0)):
            m.d.sync += [half.full.eq(1), self.filling.eq(~self.filling), self.open.eq(1)]

    def _send(self, m: Module, keeps: Any) -> None:
        """The words of a complete step."""
        output, machine = self.output.payload, self.machine
        at = Signal(machine.index_bits)
        size = self._of(self.sending, "size")
        end_of_step = Signal()
        ends = Signal()
        goes_on = (self._of(~self.sending, "size") != 0) | keeps
        m.d.comb += [
            end_of_step.eq(at + 1 == size),
            ends.eq(self._of(self.sending, "final") | (self.closing & (self.filling != self.sending))),
            self.output.valid.eq(self._of(self.sending, "full") & (~end_of_step | ends | goes_on)),
            output.first.eq(at == 0),
            output.block.eq(self._of(self.sending, "block")),
            output.count.eq(size - 1),
            output.last.eq(end_of_step & ends),
            output.listed.eq(1),
            output.gather.eq(self._of(self.sending, "gather")),
        ]
        bits = machine.word_bits // machine.outputs
        for lane in range(machine.outputs):
            there = at < Array(half.counts[lane] for half in self.halves)[self.sending]
            weights = Array(half.weights[lane].word_select(at, bits) for half in self.halves)[self.sending]
            m.d.comb += output.weights[lane].as_value().eq(Mux(there, weights, 0))
        with m.If(self.output.valid & self.output.ready):
            m.d.sync += at.eq(Mux(end_of_step, 0, at + 1))
            with m.If(end_of_step):
                m.d.sync += self.sending.eq(~self.sending)
                for which, half in enumerate(self.halves):
                    with m.If(self.sending == which):
                        m.d.sync += [half.full.eq(0), half.final.eq(0), half.size.eq(0)]
                        m.d.sync += [count.eq(0) for count in half.counts]
