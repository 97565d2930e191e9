"""The sequencer: addresses stay within what was loaded, and passes end with a step."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Assume, Module, Mux, Signal

from regrain.hw.formal.claim import Claim, Signals, before
from regrain.hw.machine import MOST_BLOCKS
from regrain.hw.rtl.sequencer import Sequencer


class Bounds(Claim):
    """Of a `Sequencer` beside a bank that keeps to what `Banks` shows of it, for lists and banks of any size.

    A full shadow stays as it is until the swap, which makes it the active tile; an entry that was read stays until the
    next is. Steps of a tile have a word at least, and all words together: what is known of a step is that it ends
    before the tile does, unless it is the last, which ends with it. No list is kept: entries are any numbers of which
    that holds, and other ones in the next pass.
    """

    def __init__(self, block: Sequencer) -> None:
        super().__init__(block)
        self.here = Signal()  # a tile is being run
        self.number = Signal(range(MOST_BLOCKS + 1))  # of the step
        self.begins = Signal(range(block.machine.bank_words + 1))  # its first word
        self.at = Signal(range(block.machine.block))  # words of it that were issued

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """The sequencer is where the words that it issued have led to."""
        block = self.block
        m.d.comb += self.here.eq(block.ready & block.running)
        steps, new_steps = self._tiles(m)
        count, entry = self._entries(m)
        final, ends = self.number + 1 == steps, self.begins + count
        m.d.comb += Assume(~self.here | ((ends <= block.active.end) & ((ends == block.active.end) == final)))
        self._follow(m, count, final)
        self.witness = block.issued & (block.number == 1) & block.active.listed
        m.d.comb += [
            Assert(~block.swap | block.full),
            Assert(~block.read_word | (block.issued & block.ready & (block.word <= block.active.end))),
            Assert(~block.read_step | Mux(block.swap, block.shadow.listed, block.ready & block.active.listed)),
            Assert(~block.read_step | (block.step < Mux(block.swap, new_steps, steps))),
            Assert(~self.here | ~block.active.listed | (entry == self.number)),
            Assert(~block.stepped | (block.number < steps)),
            Assert(~block.pass_done | ((block.position == count) & (block.number + 1 == steps))),
            Assert((block.issued & (block.word == block.active.end)) == block.pass_done),
            Assert(~block.issued | (block.position != 0) | block.stepped),
            # what makes it inductive
            Assert(block.word == self.begins + self.at),
            Assert((block.position == self.at) & (block.number == self.number)),
            Assert(Mux(self.here, (self.number < steps) & (self.at <= count), self.begins + self.at == 0)),
            Assert(self.here | (self.number == 0)),
            Assert(block.running | ~block.ready),
            Assert(~self.here | (steps <= self._most(block.active))),
        ]

    def _tiles(self, m: Module) -> tuple[Any, Any]:
        """Steps of the active tile, and of the one in the shadow."""
        block = self.block
        steps, new_steps = (Signal(range(MOST_BLOCKS + 1), name=name) for name in ("steps", "new_steps"))
        self.free.append(new_steps)
        with m.If(block.swap):
            m.d.sync += steps.eq(new_steps)
        shadow, waits = block.shadow.as_value(), before(m, block.full & ~block.swap)
        active = Mux(before(m, block.swap), before(m, shadow), before(m, block.active.as_value()))
        m.d.comb += [
            Assume((new_steps > 0) & (new_steps <= self._most(block.shadow))),
            Assume(~waits | (block.full & (shadow == before(m, shadow)) & (new_steps == before(m, new_steps)))),
            Assume(block.active.as_value() == active),
            Assume(~(block.start & block.running) & (block.tiles != 0) & (block.token_tiles != 0)),
        ]
        return steps, new_steps

    def _most(self, tile: Any) -> Any:
        """Steps that a tile may have."""
        return Mux(tile.listed, self.block.machine.list_entries, MOST_BLOCKS)

    def _entries(self, m: Module) -> tuple[Any, Any]:
        """The count of the step, and which entry was read last; `MOST_BLOCKS` if none was since the swap."""
        block = self.block
        entry = Signal.like(self.number)
        with m.If(block.read_step):
            m.d.sync += entry.eq(block.step)
        with m.Elif(block.swap):
            m.d.sync += entry.eq(MOST_BLOCKS)
        self.holds(m, block.entry.count, unless=before(m, block.read_step))
        return Mux(block.active.listed, block.entry.count, block.active.count), entry

    def _follow(self, m: Module, count: Any, final: Any) -> None:
        """A word further with each that is issued, to the next step, and from the last step to the first."""
        block = self.block
        with m.If(block.issued):
            m.d.sync += self.at.eq(self.at + 1)
            with m.If(self.at == count):
                m.d.sync += [self.at.eq(0), self.number.eq(self.number + 1), self.begins.eq(self.begins + count + 1)]
                with m.If(final):
                    m.d.sync += [self.number.eq(0), self.begins.eq(0)]
