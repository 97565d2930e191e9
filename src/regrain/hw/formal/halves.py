"""The compactor's double buffer: what is being sent isn't written, what is offered stays, and tiles end once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal

from regrain.hw.formal.claim import Claim, Signals, before


class Halves(Claim):
    """Of a `Compactor` whose groups have at most `block` words, as those of the reader have.

    Weights are those of lane 0: lanes are alike, and know of one another only how long the longest is.
    """

    depth = 8

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """The halves apart, the two together, and the stream."""
        block = self.block
        ended = Signal()  # the last word of a step is taken
        at = inside["at"]
        sending = Mux(block.sending, block.halves[1].size, block.halves[0].size)
        m.d.comb += ended.eq(block.output.valid & block.output.ready & (at + 1 == sending))
        words = Signal(range(block.machine.block + 1))
        with m.If(block.taking):
            m.d.sync += words.eq(Mux(block.pending.payload.complete, 0, words + 1))
        m.d.comb += [
            Assume(~block.taking | block.pending.payload.complete | (words < block.machine.block - 1)),
            Assume(~(block.closing | block.voiding) | (words == 0)),
        ]
        m.d.comb += Assert(words < block.machine.block)  # what makes it inductive
        for which, half in enumerate(block.halves):
            self._half(m, half, ended & (block.sending == which), words, block.filling == which)
        self._both(m, at, sending)
        self._stream(m)
        self._ends(m)

    def _half(self, m: Module, half: Any, ended: Any, words: Any, filling: Any) -> None:
        """A full half stays as it is until its last word was taken."""
        content = Cat(half.size, half.block, half.gather, half.counts[0], half.weights[0])
        stays = before(m, half.full & ~ended)
        m.d.comb += [
            Assert(~stays | (half.full & (content == before(m, content)))),
            Assert(~half.full | ((half.size >= 1) & (half.size <= self.block.machine.block))),
            Assert(half.full | ~half.final),
            Assert(half.full | ~filling | (half.size <= words)),
            Assert(half.full | filling | (half.size == 0)),
            *(Assert(count <= half.size) for count in half.counts),
        ]

    def _both(self, m: Module, at: Any, sending: Any) -> None:
        """What is sent was complete, and isn't what is being filled."""
        block = self.block
        even, odd = block.halves
        filling = Mux(block.filling, odd.full, even.full)
        other = Mux(block.filling, even.full, odd.full)
        final = Mux(block.filling, even.final, odd.final)
        m.d.comb += [
            Assert(~block.taking | ~filling),
            Assert(~(block.taking & block.output.valid) | (block.filling != block.sending)),
            Assert(~block.output.valid | Mux(block.sending, odd.full, even.full)),
            # what makes it inductive
            Assert(~filling | other),
            Assert((block.filling == block.sending) == (filling == other)),
            Assert(~other | (block.open == ~final)),
            Assert(~block.open | other | (Mux(block.filling, odd.size, even.size) != 0)),
            Assert((at == 0) | (at < sending)),
        ]

    def _stream(self, m: Module) -> None:
        """What is offered is offered until it is taken, unchanged."""
        output = self.block.output
        waits = before(m, output.valid & ~output.ready)
        word = output.payload
        payload = Cat(word.weights[0], word.first, word.block, word.count, word.last, word.listed, word.gather)
        m.d.comb += Assert(~waits | (output.valid & (payload == before(m, payload))))

    def _ends(self, m: Module) -> None:
        """A last word for each end of a tile, and no other."""
        block = self.block
        owed = Signal(2)
        last = block.output.valid & block.output.ready & block.output.payload.last
        m.d.sync += owed.eq(owed + (block.closing | block.voiding) - last)
        self.witness = before(m, last) & block.output.valid
        m.d.comb += [
            Assert(~last | (owed + block.closing > 0)),
            Assert(owed == block.halves[0].final + block.halves[1].final),
        ]
