"""Granularity control: when the metric makes a weight matrix change its granularity."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.model.codes import Code
from regrain.hw.model.decide import HEEDED

METRIC_BITS, DWELL_BITS, COST_BITS, USES_BITS, REORGANIZATION_BITS = 16, 8, 16, 8, 24


SETTINGS = data.StructLayout(
    {
        "dynamic": 1,  # 0: the predefined granularity always
        "predefined": 2,
        "reverse": 1,
        "priced": 1,  # 1: a switch that saves must save more than it costs
        "up": data.ArrayLayout(METRIC_BITS, 2),
        "down": data.ArrayLayout(METRIC_BITS, 2),
        "dwell": DWELL_BITS,
        "cost": data.ArrayLayout(COST_BITS, 3),  # of one use at each granularity
        "uses": USES_BITS,  # expected until the next change
        "reorganization": REORGANIZATION_BITS,
    }
)
"""Of a matrix, from its descriptor; constant from `load` on. Costs are in one unit, of any number of cycles.

Ranks 0 to 2 are what the metric asks for: fine is 2 and coarse 0, as variance asks for detail; with `reverse` fine is
0. `up[r]` is the metric from which rank r is too low, `down[r]` the one below which rank r + 1 is too high.
"""

STATE = data.StructLayout({"granularity": 2, "target": 2, "request": 1, "agreed": DWELL_BITS})
"""What is kept of a matrix between its runs. `agreed` ticks in a row have wished for `target`; with `request` it is
settled, and waits for a boundary with the shadow ready.
"""

ASKED = data.StructLayout({"above": 2, "below": 2})
"""Of a metric and both thresholds of either kind: whether it is at least `up[r]`, and below `down[r]`."""

STEPS = data.StructLayout({"coarser": 1, "finer": 1})
"""Something of a step between two granularities, either way."""


class Control(Component):
    """Three granularities with a band between the thresholds up and down, and dwell; one matrix at a time.

    | port | direction | width | |
    |---|---|---|---|
    | `settings` | in | `SETTINGS`, 157 | of the matrix |
    | `load` | in | 1 | take `saved` for the state; ticks and boundaries of this cycle are ignored |
    | `saved` | in | `STATE`, 13 | from the metadata memory |
    | `state` | out | `STATE`, 13 | to the metadata memory, when the matrix is through |
    | `tick`, `metric` | in | 1, 16 | a new metric of the matrix |
    | `boundary` | in | 1 | between two tiles, or two layers |
    | `ready` | in | 1 | the shadow bank is full, of a tile in granularity `next` |
    | `next` | out | 2 | what the shadow is to be filled with: the target if there is a request, else the granularity |
    | `switch` | out | 1 | in this cycle the granularity becomes the target: request, ready and boundary |
    | `fault` | out | 1 | sticky: `saved` or `predefined` is none of the three, or no single step was requested |

    **A tick** wishes for one rank more if the metric is at least `up` of the rank that holds, one less if it is below
    `down` of the rank under it. A wish counts if it pays; `dwell` + 1 of the same in a row become a request, which
    stays until the switch. While there is a request, ticks are ignored, so between two switches there are `dwell` + 1
    ticks at least. With dwell 0, up[0] = down[0] = 0.2, up[1] = down[1] = the next above 0.5 and priced 0, that is the
    rule "above 0.5 fine, 0.2 to 0.5 medium, below coarse", a step at a time.

    **It pays** if (cost of the granularity that holds - cost of the wish) * uses > reorganization; and always if the
    wish is for one that costs more: the metric asks for it for the outputs' sake, which cycles can't express. The
    product of 16 by 8 bits has 24, as `reorganization` has.

    **Time.** A tick is heeded `HEEDED` cycles after it came, as if it had come then: in the state that it finds there,
    and only if no switch takes place in that cycle. Ticks may come in every cycle. A `load` drops those that weren't
    heeded before it. What pays is found anew in the four cycles from a `load` on, before the first tick is heeded.
    `next` and `state` follow a load, a switch or a heeded tick in the next cycle; `switch` is a function of the inputs
    in its own. State that makes no sense begins anew from `predefined` (fine if that is none either).
    """

    def __init__(self) -> None:
        self.turn = Signal()  # whose steps are priced: between this granularity, fine or medium, and the next coarser
        self.heeds = Signal()
        super().__init__(
            {
                "settings": In(SETTINGS),
                "load": In(1),
                "saved": In(STATE),
                "state": Out(STATE),
                "tick": In(1),
                "metric": In(METRIC_BITS),
                "boundary": In(1),
                "ready": In(1),
                "next": Out(2),
                "switch": Out(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Load, switch or heed, in this order."""
        m = Module()
        state = self.state
        m.d.comb += [
            self.next.eq(Mux(state.request, state.target, state.granularity)),
            self.switch.eq(state.request & self.settings.dynamic & self.ready & self.boundary & ~self.load),
        ]
        asked, pays = self._asked(m), self._pays(m)
        with m.If(self.load):
            self._load(m)
        with m.Elif(self.switch):
            m.d.sync += [state.granularity.eq(state.target), state.request.eq(0), state.agreed.eq(0)]
        with m.Elif(self.heeds & self.settings.dynamic & ~state.request):
            self._heed(m, asked, pays)
        return m

    def _load(self, m: Module) -> None:
        """The saved state, or the predefined granularity."""
        saved, predefined = self.saved, self.settings.predefined
        adjacent = (saved.target - saved.granularity == 1) | (saved.granularity - saved.target == 1)
        sound = (saved.granularity != 3) & (~saved.request | ((saved.target != 3) & adjacent))
        with m.If((predefined == 3) | (self.settings.dynamic & ~sound)):
            m.d.sync += self.fault.eq(1)
        with m.If(self.settings.dynamic & sound):
            m.d.sync += self.state.eq(saved)
        with m.Else():
            m.d.sync += [
                self.state.granularity.eq(Mux(predefined == 3, Code.FINE, predefined)),
                self.state.target.eq(0),
                self.state.request.eq(0),
                self.state.agreed.eq(0),
            ]

    def _asked(self, m: Module) -> Any:
        """What the metric asks for at any rank, when its tick is heeded."""
        came: Any = self.tick
        asked: Any = Signal(ASKED, name="asked")
        m.d.comb += [
            asked.above.eq(Cat(self.metric >= self.settings.up[rank] for rank in range(2))),
            asked.below.eq(Cat(self.metric < self.settings.down[rank] for rank in range(2))),
        ]
        for age in range(1, HEEDED + 1):
            earlier = came & ~self.load, asked
            came, asked = Signal(name=f"came_{age}"), Signal(ASKED, name=f"asked_{age}")
            m.d.sync += [came.eq(earlier[0]), asked.eq(earlier[1])]
        m.d.comb += self.heeds.eq(came)
        return asked

    def _pays(self, m: Module) -> Any:
        """Whether the steps between fine and medium, and medium and coarse, pay: in turn, each in three cycles."""
        settings = self.settings
        now, coarser = (Mux(self.turn, settings.cost[code + 1], settings.cost[code]) for code in range(2))
        gap = Signal(COST_BITS)
        product = Signal(COST_BITS + USES_BITS)
        price = Signal(REORGANIZATION_BITS)
        rises = [Signal(STEPS, name=f"rises_{age}") for age in range(2)]  # or stays: what the steps lead to costs more
        pays = Signal(data.ArrayLayout(STEPS, 2))
        m.d.sync += [
            self.turn.eq(~self.turn),
            gap.eq(Mux(now > coarser, now - coarser, coarser - now)),
            rises[0].coarser.eq(coarser >= now),
            rises[0].finer.eq(now >= coarser),
            product.eq(self.saving(gap)),
            price.eq(settings.reorganization),
            rises[1].eq(rises[0]),
            pays[self.turn].eq(rises[1].as_value() | (~settings.priced | (product > price)).replicate(2)),
        ]
        return pays

    def saving(self, gap: Any) -> Any:
        """What a step saves until the next one, in the unit of costs."""
        return gap * self.settings.uses

    def _heed(self, m: Module, asked: Any, pays: Any) -> None:
        """Count wishes that agree, up to a request."""
        state = self.state
        wish, steps = Signal(2), Signal(STEPS)
        agreed = Signal(DWELL_BITS)
        m.d.comb += [
            wish.eq(self._wish(m, asked)),
            agreed.eq(Mux(wish == state.target, state.agreed, 0)),
            steps.eq(pays[state.granularity[1] | wish[1]]),  # coarse is 2: one of the two is it
        ]
        m.d.sync += [state.target.eq(wish), state.agreed.eq(0)]
        with m.If((wish != state.granularity) & Mux(wish > state.granularity, steps.coarser, steps.finer)):
            with m.If(agreed >= self.settings.dwell):
                m.d.sync += state.request.eq(1)
            with m.Else():
                m.d.sync += state.agreed.eq(agreed + 1)

    def _wish(self, m: Module, asked: Any) -> Any:
        """The granularity of the rank that the metric asks for, at most a step away."""
        rank = Signal(2)
        wished = Signal(2)
        m.d.comb += [rank.eq(self._reversed(self.state.granularity)), wished.eq(rank)]
        with m.If((rank != 2) & asked.above.bit_select(rank[0], 1)):
            m.d.comb += wished.eq(rank + 1)
        with m.Elif((rank != 0) & asked.below.bit_select(rank[1], 1)):
            m.d.comb += wished.eq(rank - 1)
        return self._reversed(wished)

    def _reversed(self, number: Any) -> Any:
        """Rank to granularity, and back."""
        return Mux(self.settings.reverse, number, 2 - number)
