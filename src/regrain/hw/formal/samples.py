"""The monitor: tiles don't overtake one another, and sums keep to their widths."""

from __future__ import annotations

from amaranth.hdl import Assert, Module

from regrain.hw.formal.claim import Claim, Signals
from regrain.hw.rtl.monitor import LEAST_LOG2, MOST_LOG2


class Samples(Claim):
    """Of a `Monitor` while k, in its range, doesn't change: a tile is never complete before the channels of the one
    before were evaluated; |sum(x)| <= 2^(k+7), sum(x^2) <= 2^(k+14), whatever x.
    """

    depth = 20  # a tile takes 16 samples or more

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """By the samples taken so far; sums of lane 0: lanes are alike, and know nothing of one another."""
        block = self.block
        k = self.block.log2_samples
        self.holds(m, k)
        in_range = (k >= LEAST_LOG2) & (k <= MOST_LOG2)
        m.d.comb += [
            Assert(~in_range | ~block.complete | ~block.busy | (block.lane == block.lanes - 1)),
            # what makes it inductive
            Assert(block.taken <= 1 << k),
            Assert(~block.busy | (block.lane < block.lanes)),
        ]
        taken = block.taken
        self.witness = block.busy & (taken == 1)
        with m.If(in_range & block.busy & (taken < (1 << k))):
            m.d.comb += Assert(taken <= block.lane)
        total, squares = inside["sum_0"], inside["squares_0"]
        m.d.comb += [
            Assert((total <= 128 * taken) & (total >= -128 * taken)),
            Assert(squares <= taken << 14),
            Assert((block.sums[0] <= 1 << (k + 7)) & (block.sums[0] >= -(1 << (k + 7)))),
            Assert(block.squares[0] <= 1 << (k + 14)),
        ]
