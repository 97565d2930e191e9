"""What is claimed of a block of hardware, as hardware that watches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Assert, Assume, Elaboratable, Module, Signal
from amaranth.lib import wiring

Signals = Mapping[str, Any]


class Claim(Elaboratable):
    """A block whose inputs are free, and assertions about it.

    A claim says in `state` what is assumed of the inputs and what follows for all times; some of that is there only to
    make the rest inductive. Reset is free, too: it may come at any time.
    """

    depth = 6
    """Cycles, from reset on, in which a bug shows."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.free: list[Any] = []
        self.witness: Any = 0
        """What the claim is about, which assumptions must not rule out: set by `state`."""
        self.deny = False
        """Claim that there is no witness; to be refuted."""

    @property
    def ports(self) -> list[Any]:
        """All that is free, once the claim was elaborated."""
        inputs = (
            wiring.Value.cast(value)
            for _, member, value in self.block.signature.flatten(self.block)
            if member.flow == wiring.In
        )
        return [*inputs, *self.free]

    def elaborate(self, platform: Any) -> Module:
        """The block with what is claimed of it."""
        m = Module()
        inner = self.block.elaborate(platform)
        self.block._MustUse__used = True  # noqa: SLF001 - Amaranth only sees what it elaborates itself
        m.submodules.block = inner
        self.state(m, inner, signals_of(inner))
        if self.deny:
            m.d.comb += Assert(~self.witness)
        return m

    def state(self, m: Module, inner: Module, inside: Signals) -> None:
        """Assumptions and assertions; `inner` is the block's module, `inside` the signals it drives, by name."""
        raise NotImplementedError

    def constant(self, m: Module, shape: Any, name: str) -> Any:
        """A number, anything, that doesn't change."""
        chosen = Signal(shape, name=name)
        self.free.append(chosen)
        self.holds(m, chosen)
        return chosen

    def holds(self, m: Module, value: Any, unless: Any = 0) -> None:
        """Assume that an input doesn't change, `unless` something is so in this cycle."""
        before, begun = Signal.like(value, reset_less=True), Signal(reset_less=True)
        m.d.sync += [before.eq(value), begun.eq(1)]
        m.d.comb += Assume(~begun | (value == before) | unless)


def signals_of(module: Module) -> dict[str, Any]:
    """The signals that a module itself drives, by name; of equal names one. Amaranth 0.5 keeps them like this."""
    return {signal.name: signal for signal in module._driving}  # noqa: SLF001


def before(m: Module, value: Any, init: int = 0) -> Any:
    """What it was a cycle ago; not to be asked for below a condition, where it would be what it was when that held."""
    past = Signal.like(value, init=init) if isinstance(value, Signal) else Signal(value.shape(), init=init)
    m.d.sync += past.eq(value)
    return past
