"""The reorganizer's queues: no word comes that there is no room for."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Module, Signal

from regrain.hw.formal.claim import Claim, Signals
from regrain.hw.rtl.reorganizer import Reorganizer


class InFlight(Claim):
    """Of a `Reorganizer`: words that were asked for and words that wait are as many as entries of `pending` that are no
    ends, and those have room.
    """

    depth = 8  # the first word is asked for in cycle 3

    def __init__(self, block: Reorganizer) -> None:
        super().__init__(block)
        self.entries = [block.pending.storage.read_port(domain="comb") for _ in range(block.pending.depth)]

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """Count the entries that are no ends."""
        block = self.block
        pending, words = block.pending, block.words
        waiting: Any = 0
        self.witness = words.level != 0
        for place, entry in enumerate(self.entries):
            at = Signal(range(2 * pending.depth))
            m.d.comb += [at.eq(pending.head + place), entry.addr.eq(at)]
            with m.If(at >= pending.depth):
                m.d.comb += entry.addr.eq(at - pending.depth)
            waiting = waiting + ((place < pending.level) & ~entry.data.end)
        m.d.comb += [
            Assert(~words.input.valid | words.input.ready),
            # what makes it inductive
            Assert(words.level + inside["asked"] == waiting),
            Assert((pending.level <= pending.depth) & (words.level <= words.depth)),
            Assert((pending.head < pending.depth) & (pending.tail < pending.depth)),
            Assert(pending.tail == (pending.head + pending.level) % pending.depth),
        ]
