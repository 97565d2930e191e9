"""A queue: nothing overflows, gets lost, comes twice or overtakes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Module, Mux, Signal

from regrain.hw.formal.claim import Claim, Signals
from regrain.hw.rtl.fifo import Fifo


class Queue(Claim):
    """One item, whichever it is, is followed from the cycle in which it comes to the one in which it leaves: after as
    many items as were before it, and as it came.
    """

    def __init__(self, block: Fifo) -> None:
        super().__init__(block)
        self.place = block.storage.read_port(domain="comb")

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """`ahead` items are before the one that is followed."""
        block, depth = self.block, self.block.depth
        follow = Signal()
        self.free.append(follow)
        item = Signal.like(self.place.data)
        following = Signal()
        ahead = Signal(range(depth))
        push, pop = block.input.valid & block.input.ready, block.output.valid & block.output.ready
        m.d.comb += self.place.addr.eq(self._place(block.head + ahead))
        self.witness = following & pop & (ahead == 1)
        with m.If(push & follow & ~following):
            m.d.sync += [following.eq(1), item.eq(block.input.payload), ahead.eq(block.level - pop)]
        with m.Elif(following & pop):
            m.d.sync += [following.eq(ahead != 0), ahead.eq(ahead - 1)]
        m.d.comb += [
            Assert(~push | (block.level < depth)),
            Assert(~pop | (block.level > 0)),
            Assert(~(following & (ahead == 0)) | (block.output.valid & (block.output.payload == item))),
            # what makes it inductive
            Assert(
                (block.level <= depth) & (block.head < depth) & (block.tail == self._place(block.head + block.level))
            ),
            Assert(~following | ((ahead < block.level) & (self.place.data == item))),
        ]

    def _place(self, pointer: Any) -> Any:
        return Mux(pointer >= self.block.depth, pointer - self.block.depth, pointer)
