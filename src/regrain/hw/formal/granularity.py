"""Granularity control: what never happens, whatever the metric does."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal, Value

from regrain.hw.formal.claim import Claim, Signals, before
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import HEEDED
from regrain.hw.rtl.control import COST_BITS, DWELL_BITS, USES_BITS, Control


class Granularity(Claim):
    """No change without a switch, one step at a time, after a dwell, where it pays, at a boundary and if ready; and
    none at all of what isn't dynamic. Settings hold from one `load` to the next.

    Savings, one for each two neighbors, are any numbers here, not products: that needs no proof, and would take a
    solver long. They hold as settings do.
    """

    depth = 8

    def __init__(self, block: Control) -> None:
        super().__init__(block)
        self.savings = [Signal(COST_BITS + USES_BITS, name=f"saving_{code}") for code in range(2)]
        self.free += self.savings
        block.__dict__["saving"] = lambda _gap: Mux(block.turn, *self.savings)  # of those whose turn was before

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """Each property by itself."""
        block = self.block
        state, settings = block.state, block.settings
        self.holds(m, Cat(settings.as_value(), *self.savings), unless=block.load)
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
        why = self._worth(m, inside), self._asked_for(m, inside)
        with m.If(begun & state.request & ~requested & ~loaded):
            m.d.comb += [Assert(each) for each in why]
        self.witness = switched & (before(m, settings.dwell) != 0)
        self._dwells(m)
        self._stays(m)

    def _worth(self, m: Module, inside: Signals) -> Any:
        """The switch that is requested saves more than it costs, or wouldn't save, or has no price; from the first
        `load` on.
        """
        block, settings, cost = self.block, self.block.settings, self.block.settings.cost
        age = Signal(range(HEEDED + 2))  # cycles since the load, up to the one in which a tick may be heeded
        with m.If(block.load):
            m.d.sync += age.eq(1)
        with m.Elif((age != 0) & (age != HEEDED + 1)):
            m.d.sync += age.eq(age + 1)
        rises = [Cat(cost[code + 1] >= cost[code], cost[code] >= cost[code + 1]) for code in range(2)]
        saves = [~settings.priced | (saving > settings.reorganization) for saving in self.savings]
        pays = [rise | save.replicate(2) for rise, save in zip(rises, saves, strict=True)]
        saving, rise, pay = (Array(each) for each in (self.savings, rises, pays))
        turn, paid = block.turn, Array(Value.cast(inside["pays"])[2 * code :][:2] for code in range(2))
        stages = [
            (inside["rises_0"] == rise[~turn]) & (inside["price"] == settings.reorganization),
            (inside["rises_1"] == rise[turn]) & (inside["product"] == saving[turn]),
            paid[~turn] == pay[~turn],
            paid[turn] == pay[turn],
        ]
        m.d.comb += [  # what makes it inductive
            *(Assert(block.load | (age < since) | holds) for since, holds in enumerate(stages, 1)),
            *(Assert(~inside[f"came_{since}"] | (age == 0) | (age > since)) for since in range(1, HEEDED + 1)),
        ]
        now, then = block.state.granularity, block.state.target
        paid_off = Mux(then > now, *(before(m, Cat(each[way] for each in pays)) for way in range(2)))
        return (age == 0) | paid_off.bit_select(then[1] | now[1], 1)

    def _asked_for(self, m: Module, inside: Signals) -> Any:
        """The metric of a tick was beyond the threshold toward the granularity that is requested."""
        block, settings, state = self.block, self.block.settings, self.block.state
        came: Any = block.tick
        asked: Any = Cat(*(block.metric >= up for up in settings.up), *(block.metric < down for down in settings.down))
        for age in range(1, HEEDED + 1):
            came, asked = before(m, came & ~block.load), before(m, asked)
            # what makes it inductive
            m.d.comb += [Assert(inside[f"came_{age}"] == came), Assert(inside[f"asked_{age}"] == asked)]
        came, asked, reverse = before(m, came), before(m, asked), before(m, settings.reverse)
        now, then = (Mux(reverse, each, 2 - each)[:2] for each in (state.granularity, state.target))
        return came & Mux(then > now, asked[:2].bit_select(now[0], 1), asked[2:].bit_select(then[0], 1)) & (then != now)

    def _dwells(self, m: Module) -> None:
        """`since`: ticks heeded since the last switch. A state that was saved brings along those it counted."""
        block, state = self.block, self.block.state
        most = (4 << DWELL_BITS) - 1
        since = Signal(range(most + 1))
        with m.If(block.load):
            m.d.sync += since.eq(Mux(block.saved.request, most, block.saved.agreed))
        with m.Elif(block.switch):
            m.d.sync += since.eq(0)
        with m.Elif(block.heeds & (since != most)):
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
