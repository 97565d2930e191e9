"""The sequencer: addresses stay within what was loaded, and passes end with a step."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Assert, Assume, Module, Mux, Signal

from regrain.hw.formal.claim import Claim, Signals, before


class Bounds(Claim):
    """Of a `Sequencer` beside a bank that keeps to its promises: a full shadow stays as it is until the swap, which
    makes it the active tile; its steps' words are all its words, up to `end`; an entry that was read stays until the
    next is.
    """

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """The bank, and where the sequencer stands in its tile."""
        block = self.block
        counts, steps, entry_count = self._bank(m)
        start: Any = 0
        total: Any = 0
        for step, count in enumerate(counts):
            start = start + Mux(step < block.number, count + 1, 0)
            total = total + Mux(step < steps, count + 1, 0)
            m.d.comb += Assert(~block.ready | block.active.listed | (count == block.active.count))
        ends = block.word == block.active.end
        count = Array(counts)[block.number]
        self.witness = block.issued & (block.number == 1) & block.active.listed
        here = block.ready & block.running
        m.d.comb += [
            Assert(~block.swap | block.full),
            Assert(~block.issued | (block.ready & (block.word <= block.active.end))),
            Assert(~block.stepped | (block.number < steps)),
            Assert(~(block.issued & ends) | ((block.position == count) & (block.number + 1 == steps))),
            Assert(~block.issued | (block.position != 0) | block.stepped),
            # what makes it inductive
            Assert(
                ~here | ((block.number < steps) & (block.position <= count) & (block.word == start + block.position))
            ),
            Assert(here | ((block.word == 0) & (block.position == 0) & (block.number == 0))),
            Assert(~here | ~block.active.listed | (entry_count == count)),
            Assert(block.running | ~block.ready),
            Assert(~block.ready | ((total == block.active.end + 1) & (steps > 0) & (steps < len(counts) + 1))),
        ]

    def _bank(self, m: Module) -> tuple[list[Any], Any, Any]:
        """The words, less one, of the active tile's steps; how many there are; and the entry that was read."""
        block, machine = self.block, self.block.machine
        entries = range(machine.list_entries)
        new = [Signal(machine.index_bits, name=f"shadow_count_{each}") for each in entries]
        now = [Signal(machine.index_bits, name=f"active_count_{each}") for each in entries]
        new_steps, steps = Signal(range(machine.list_entries + 1)), Signal(range(machine.list_entries + 1))
        self.free += [*new, new_steps]
        total: Any = 0
        for step, count in enumerate(new):
            total = total + Mux(step < new_steps, count + 1, 0)
            m.d.comb += Assume(~block.full | block.shadow.listed | (count == block.shadow.count))
        shadow = [block.full, block.shadow.as_value(), *new, new_steps]
        swapped, active = before(m, block.swap), before(m, block.active.as_value())
        waits = before(m, block.full & ~block.swap)
        m.d.comb += [
            Assume(~block.full | ((total == block.shadow.end + 1) & (new_steps > 0) & (new_steps < len(new) + 1))),
            *(Assume(~waits | (each == before(m, each))) for each in shadow),
            Assume(block.active.as_value() == Mux(swapped, before(m, block.shadow.as_value()), active)),
            Assume(~(block.start & block.running) & (block.tiles != 0) & (block.token_tiles != 0)),
        ]
        with m.If(block.swap):
            m.d.sync += [each.eq(other) for each, other in zip(now, new, strict=True)]
            m.d.sync += steps.eq(new_steps)
        return now, steps, self._entry(m, new, now)

    def _entry(self, m: Module, new: list[Any], now: list[Any]) -> Any:
        """The count of the entry: of the step that was asked for last, in the tile that was active a cycle later."""
        block = self.block
        read = Signal.like(now[0], name="entry_count")
        with m.If(block.read_step):
            m.d.sync += read.eq(Mux(block.swap, Array(new)[block.step], Array(now)[block.step]))
        m.d.comb += Assume(block.entry.count == read)
        return read
