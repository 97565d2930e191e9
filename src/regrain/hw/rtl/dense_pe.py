"""A yardstick for the processing element: the same lanes, one activation a cycle, and nothing to pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.pe import ADDING, PE, TOKEN, follow

if TYPE_CHECKING:
    from regrain.hw.machine import Machine


class DensePE(PE):
    """`lanes` multipliers that all take the same activation, another one each cycle. No part of the machine.

    Ports, accumulators, copies and latency are those of `PE`, but `activations` is one signed 8, there is no `index`,
    and `load` is left alone. `gated`: lanes with a weight of 0 keep what they have and add nothing, as in `PE`; if not,
    there is no `live`.
    """

    def __init__(self, machine: Machine, *, gated: bool = True) -> None:
        self.machine = machine
        self.gated = gated
        lane = {"value": signed(8)} | ({"live": 1} if gated else {})
        passed = {
            "activations": signed(8),
            "token": TOKEN,
            "weights": data.ArrayLayout(data.StructLayout(lane), machine.lanes),
            "sums": data.ArrayLayout(signed(machine.accumulator), machine.lanes),
        }
        ports = {name: In(shape) for name, shape in passed.items()}
        Component.__init__(self, ports | {f"{name}_out": Out(shape) for name, shape in passed.items()})

    def elaborate(self, platform: Any) -> Module:
        """Take, multiply, accumulate."""
        m = Module()
        with m.If(self.token.active):
            m.d.sync += self.activations_out.eq(self.activations)
        adding = Signal(ADDING)
        m.d.sync += [self.token_out.eq(self.token), *follow(adding, self.token_out)]
        for lane in range(self.machine.lanes):
            self._take(m, lane)
            lives = self.weights_out[lane].live if self.gated else 1
            product, live = self._multiply(m, lane, self.activations_out, lives)
            self._accumulate(m, lane, product, live, adding)
        return m

    def _take(self, m: Module, lane: int) -> None:
        given, held = self.weights[lane], self.weights_out[lane]
        if self.gated:
            m.d.sync += held.live.eq(given.live)
        with m.If(given.live if self.gated else 1):
            m.d.sync += held.value.eq(given.value)
