"""The processing element: accumulators don't wrap if the loader's bound holds."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Assert, Assume, Module, Mux, Signal, signed

from regrain.hw.formal.claim import Claim, Signals, before


class Width(Claim):
    """Of a `PE`: if the |w| of a pass sum to at most `Machine.most_weight`, |acc| <= 128 * sum |w| < 2^(width - 1), and
    what the adder gives is the sum, not its lower bits.

    Of lane 0: lanes are alike, and know nothing of one another.
    """

    depth = 10

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """A word picks its activation as it is given, is multiplied in the next cycle, and added in the one after."""
        machine, token, given = self.block.machine, self.block.token, self.block.weights[0]
        weight = Signal(8)
        spent = Signal(range(machine.most_weight + 256))  # |w| of the pass, with the word that is given
        weights, clears, sums = _history(m, weight), _history(m, token.clear), _history(m, spent)
        m.d.comb += [
            weight.eq(Mux(given.live, Mux(given.value < 0, -given.value, given.value), 0)),
            spent.eq(Mux(token.clear, 0, sums[1]) + weight),
            Assume(spent <= machine.most_weight),
        ]
        total, following, held = inside["accumulator_0"], inside["sum_0"], self.block.weights_out[0]
        product = Mux(inside["live_0"], inside["product_0"], 0)
        picked, met = inside["picked_0"], self.block.activations_out[held.index]
        self.witness = total > 16384
        exact = Signal(signed(machine.accumulator + 2))  # the sum, of the products that there should be
        before_it = Signal.like(exact)
        multiplied = before(m, picked * held.value)
        m.d.sync += before_it.eq(exact)
        m.d.comb += [
            exact.eq(Mux(clears[2], 0, before_it) + product),
            Assert(~(held.live & self.block.token_out.active) | (picked == met)),
            Assert(~inside["live_0"] | (product == multiplied)),
            Assert(following == exact),
            Assert(total == before_it),
            _within(following, sums[2]),
            _within(total, sums[3]),
            # what makes it inductive
            _within(product, weights[2]),
            Assert(weights[1] == Mux(held.live, Mux(held.value < 0, -held.value, held.value), 0)),
            *(Assert(sums[age] == Mux(clears[age], 0, sums[age + 1]) + weights[age]) for age in (1, 2)),
            *(Assert(sums[age] <= machine.most_weight) for age in (1, 2, 3)),
        ]


def _history(m: Module, value: Any) -> list[Any]:
    """What it is, and what it was 1, 2 and 3 cycles ago."""
    values = [value]
    for _ in range(3):
        values.append(before(m, values[-1]))
    return values


def _within(value: Any, weights: Any) -> Any:
    return Assert((value <= 128 * weights) & (value >= -128 * weights))
