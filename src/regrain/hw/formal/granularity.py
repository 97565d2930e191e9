"""Granularity control: what never happens, whatever the metric does."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Assert, Module, Mux, Signal, signed

from regrain.hw.formal.claim import Claim, Signals, before
from regrain.hw.model.codes import Code
from regrain.hw.rtl.control import COST_BITS, DWELL_BITS, USES_BITS, Control


class Granularity(Claim):
    """No change without a switch, one step at a time, after a dwell, where it pays, at a boundary and if ready; and
    none at all of what isn't dynamic. Settings hold from one `load` to the next.

    A saving is any number here, not a product: that needs no proof, and would take a solver long.
    """

    def __init__(self, block: Control) -> None:
        super().__init__(block)
        saving = Signal(signed(COST_BITS + 1 + USES_BITS))
        self.free.append(saving)
        block.__dict__["saving"] = lambda _wish: saving

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """Each property by itself."""
        block = self.block
        state, settings = block.state, block.settings
        self.holds(m, settings.as_value(), unless=block.load)
        begun, switched, loaded = Signal(), before(m, block.switch), before(m, block.load)
        m.d.sync += begun.eq(1)
        granularity, requested = before(m, state.granularity), before(m, state.request)
        m.d.comb += [
            Assert(state.granularity != 3),
            Assert(~begun | (state.granularity == granularity) | switched | loaded),
            Assert(~switched | _adjacent(state.granularity, granularity)),
            Assert(~state.request | ((state.target != 3) & _adjacent(state.granularity, state.target))),
            Assert(~block.switch | (state.request & block.ready & block.boundary & settings.dynamic)),
        ]
        why = before(m, block.tick), self._worth(m, inside), self._asked_for(m)
        with m.If(begun & state.request & ~requested & ~loaded):
            m.d.comb += [Assert(each) for each in why]
        self.witness = switched & (before(m, settings.dwell) != 0)
        self._dwells(m)
        self._stays(m)

    def _worth(self, m: Module, inside: Signals) -> Any:
        """The switch that is requested saved more than it costs, or wouldn't have saved, or has no price."""
        settings, cost = self.block.settings, Array(self.block.settings.cost[code] for code in Code)
        dearer = cost[inside["wish"]] >= cost[self.block.state.granularity]
        return before(m, ~settings.priced | dearer | (inside["saved"] > settings.reorganization))

    def _asked_for(self, m: Module) -> Any:
        """The metric was beyond the threshold toward the granularity that is requested."""
        settings, state, metric = self.block.settings, self.block.state, self.block.metric
        reverse = before(m, settings.reverse)
        now, then = (Mux(reverse, each, 2 - each)[:2] for each in (state.granularity, state.target))
        above = Array(before(m, metric >= settings.up[rank]) for rank in range(2))[now[0]]
        below = Array(before(m, metric < settings.down[rank]) for rank in range(2))[then[0]]
        return Mux(then > now, above, below) & (then != now)

    def _dwells(self, m: Module) -> None:
        """`since`: ticks since the last switch. A state that was saved brings along those it counted."""
        block, state = self.block, self.block.state
        most = (4 << DWELL_BITS) - 1
        since = Signal(range(most + 1))
        with m.If(block.load):
            m.d.sync += since.eq(Mux(block.saved.request, most, block.saved.agreed))
        with m.Elif(block.switch):
            m.d.sync += since.eq(0)
        with m.Elif(block.tick & (since != most)):
            m.d.sync += since.eq(since + 1)
        m.d.comb += [
            Assert(~block.switch | (since > block.settings.dwell)),
            # what makes it inductive
            Assert(Mux(state.request, (since > block.settings.dwell) | block.load, state.agreed <= since)),
        ]

    def _stays(self, m: Module) -> None:
        """What was loaded as not dynamic has the predefined granularity."""
        block, state = self.block, self.block.state
        fixed = Signal()
        predefined = Signal(2)
        with m.If(block.load):
            m.d.sync += [fixed.eq(~block.settings.dynamic), predefined.eq(block.settings.predefined)]
        expected = Mux(predefined == 3, Code.FINE, predefined)
        m.d.comb += [
            Assert(~fixed | ((state.granularity == expected) & ~state.request & (block.next == expected))),
            # what makes it inductive
            Assert(~fixed | block.load | ~block.settings.dynamic),
        ]


def _adjacent(one: Any, other: Any) -> Any:
    return (one - other == 1) | (other - one == 1)
