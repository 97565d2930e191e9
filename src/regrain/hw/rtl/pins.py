"""A component between registers, with two pins: for placing a block that has more ports than a chip has pins."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import Component, Flow, In, Out


class Pins(Component):
    """`serial_in` is shifted through registers at all inputs of a component; registers at its outputs are folded into
    `serial_out`, each with the one before, so that none can be left out. All paths begin and end at registers.
    """

    def __init__(self, component: Any) -> None:
        self.component = component
        super().__init__({"serial_in": In(1), "serial_out": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """A chain on either side."""
        m = Module()
        m.submodules.component = self.component
        inputs: list[Any] = []
        outputs: list[Any] = []
        for _, member, value in self.component.signature.flatten(self.component):
            (inputs if member.flow is Flow.In else outputs).append(Value.cast(value))
        taken = Signal(max(1, sum(len(value) for value in inputs)), name="taken")
        given = Signal(max(1, sum(len(value) for value in outputs)), name="given")
        m.d.sync += taken.eq((taken << 1) | self.serial_in)
        place = 0
        for value in inputs:
            m.d.comb += value.eq(taken[place : place + len(value)])
            place += len(value)
        place = 0
        for value in outputs:
            before = (given << 1)[place : place + len(value)]
            m.d.sync += given[place : place + len(value)].eq(value ^ before)
            place += len(value)
        m.d.comb += self.serial_out.eq(given[-1])
        return m
