"""The weight banks: what is read is what was written for the tile, whole, and never while it is written."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Assert, Assume, Module, Mux, Signal

from regrain.hw.formal.claim import Claim, Signals, before
from regrain.hw.machine import MOST_BLOCKS
from regrain.hw.rtl.layouts import Fault


class Banks(Claim):
    """Of a `Bank` that is swapped only if full, and read only within the tile that is active (`Bounds` has both of the
    sequencer). One word and one entry of a list, whichever they are, are followed from writing to reading; of one step
    and the next, whichever they are, it is shown that a tile's words are theirs, as `Bounds` assumes.
    """

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """The swap, the words, the lists, the steps."""
        block = self.block
        self.loaded = Signal()  # a tile is active
        with m.If(block.swap):
            m.d.sync += self.loaded.eq(1)
        m.d.comb += [
            Assume(~block.swap | block.full),
            Assume(~block.read_word | (self.loaded & (block.word <= block.active.end))),
        ]
        self._swap(m)
        self._words(m, inner)
        self._lists(m, inner)
        self._steps(m)

    def _swap(self, m: Module) -> None:
        """The other tile, all at once, and in no other way."""
        block = self.block
        begun = Signal()
        m.d.sync += begun.eq(1)
        swapped, active = before(m, block.swap), before(m, block.active.as_value())
        filling, shadow = before(m, block.filling), before(m, block.shadow.as_value())
        whole = before(m, block.full)
        ended = before(m, block.written & block.stream.payload.last)
        m.d.comb += [
            Assert(~begun | (block.active.as_value() == Mux(swapped, shadow, active))),
            Assert(~begun | (block.filling == filling ^ swapped)),
            Assert(~swapped | (whole & ~block.full)),
            Assert(~block.full | whole | ended),
            Assert(~block.written | (~block.full & (block.fault == Fault.NONE))),
            Assert(~before(m, block.full & ~block.swap) | (block.full & (block.shadow.as_value() == shadow))),
        ]

    def _words(self, m: Module, inner: Module) -> None:
        """The word at one address."""
        block = self.block
        place = self.constant(m, range(block.machine.bank_words), "place")
        m.d.comb += Assume(place < block.machine.bank_words)
        written = block.written & (block.address == place)
        there, record, content = self._followed(
            m, inner, "words", place, written, block.stream.payload.weights.as_value()
        )
        read = block.read_word & (block.word == place)
        asked, given = before(m, read), Signal()
        from_bank, value = before(m, ~block.filling), Signal(block.weights.as_value().shape())
        self.witness = given & (place != 0) & (value != 0)
        m.d.sync += [given.eq(asked), value.eq(record[from_bank])]
        m.d.comb += [
            Assert(~given | (block.weights.as_value() == value)),
            Assert(~(before(m, block.read_word) & block.written & (from_bank == block.filling))),
            # what makes it inductive
            Assert(~asked | there[from_bank] | (block.filling == from_bank)),
            Assert(~asked | (content[from_bank] == record[from_bank])),
            Assert(there[block.filling] == (block.address > place)),
            Assert(~(self.loaded & (place <= block.active.end)) | there[~block.filling]),
            Assert(~block.full | (block.address == block.shadow.end + 1)),
            Assert(block.address <= block.machine.bank_words),
        ]

    def _lists(self, m: Module, inner: Module) -> None:
        """The entry of one step, of tiles that are listed."""
        block = self.block
        place = self.constant(m, range(block.machine.list_entries), "entry_place")
        m.d.comb += Assume(place < block.machine.list_entries)
        steps = Signal.like(block.steps)  # of the active tile
        with m.If(block.swap):
            m.d.sync += steps.eq(block.steps)
        listed = Mux(block.swap, block.shadow.listed, block.active.listed)
        within = block.step < Mux(block.swap, block.steps, steps)
        m.d.comb += Assume(~block.read_step | (listed & within & (block.swap | self.loaded)))
        offered = block.stream.payload
        written = block.listing & (block.steps == place)
        value = Signal(block.entry.as_value().shape())
        m.d.comb += value.eq(offered.block | offered.count << offered.block.shape().width)
        there, record, _ = self._followed(m, inner, "steps", place, written, value)
        source = block.filling ^ ~block.swap
        read = block.read_step & (block.step == place)
        m.d.comb += [
            Assert(~before(m, read) | (block.entry.as_value() == before(m, record[source]))),
            Assert(~(block.read_step & block.listing & (source == block.filling))),
            # what makes it inductive
            Assert((block.address == 0) | (there[block.filling] == (block.shadow.listed & (block.steps > place)))),
            Assert((block.address != 0) | (~there[block.filling] & (block.steps == 0))),
            Assert(~(self.loaded & block.active.listed & (place < steps)) | there[~block.filling]),
            Assert(~block.full | (block.address != 0)),
        ]

    def _steps(self, m: Module) -> None:
        """The first word of a step and where the step ends, by what its first word said."""
        block, offered = self.block, self.block.stream.payload
        step = self.constant(m, range(MOST_BLOCKS), "step_place")
        begins, ends = Signal.like(block.address), Signal(range(block.machine.bank_words + block.machine.block))
        with m.If(block.written & offered.first & (block.steps == step)):
            m.d.sync += [begins.eq(block.address), ends.eq(block.address + offered.count)]
        known, current, end = block.steps > step, block.steps == step + 1, block.shadow.end
        begun = block.written & offered.first
        most = Mux(block.shadow.listed, block.machine.list_entries, MOST_BLOCKS)
        m.d.comb += [
            Assert(~(begun & (block.steps == 0)) | (block.address == 0)),
            Assert(~(begun & current) | (block.address == ends + 1)),
            Assert(~block.full | ((block.steps > 0) & (block.steps <= most))),
            Assert(~(block.full & known) | ((begins <= ends) & (ends <= end) & ((ends == end) == current))),
            Assert(~(known & ~block.shadow.listed) | (ends == begins + block.shadow.count)),
            # what makes it inductive
            Assert((block.address == 0) == (block.steps == 0)),
            Assert(~block.full & (block.address != 0) | (block.left == 0)),
            Assert((block.address == 0) | (block.steps <= most)),
            Assert(~known | (begins <= ends)),
            Assert(~known | Mux(current, block.address + block.left == ends + 1, ends + 1 < block.address)),
        ]

    def _followed(self, m: Module, inner: Module, name: str, place: Any, written: Any, value: Any) -> list[Any]:
        """Of both banks: whether the place was written since the bank was freed, what with, and what it holds."""
        block = self.block
        there, record, content = [], [], []
        for number in range(2):
            memory = inner._named_submodules[f"{name}_{number}"][0]  # noqa: SLF001 - as in `signals_of`
            port = memory.read_port(domain="comb")
            there.append(Signal(name=f"there_{number}"))
            record.append(Signal.like(value, name=f"record_{number}"))
            content.append(Signal.like(value, name=f"content_{number}"))
            with m.If(written & (block.filling == number)):
                m.d.sync += [there[-1].eq(1), record[-1].eq(value)]
            with m.If(block.swap & (block.filling != number)):
                m.d.sync += there[-1].eq(0)
            m.d.comb += [port.addr.eq(place), content[-1].eq(port.data)]
            m.d.comb += Assert(~there[-1] | (content[-1] == record[-1]))
        return [Array(there), Array(record), Array(content)]
