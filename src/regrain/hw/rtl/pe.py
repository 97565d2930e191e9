"""The processing element: a held block of activations, and lanes that each pick one of them a cycle."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

LATENCY = 3
"""Cycles from a word at the inputs until it is in the accumulators."""


TOKEN = data.StructLayout({"load": 1, "active": 1, "clear": 1, "drain": 1, "shift": 1})
"""What rides along a row with the activations. `load` the block; `active`: this row has a token, its lanes work;
`clear` before the word is added; `drain`: copy the sum with this word for shifting out; `shift`: take the copy of the
row above.
"""
ADDING = data.StructLayout({"clear": 1, "drain": 1, "shift": 1})
"""What of it is left when a product is added."""


def follow(adding: Any, token: Any) -> list[Any]:
    """Statements that take what `ADDING` has from a `TOKEN`."""
    return [getattr(adding, name).eq(getattr(token, name)) for name in ("clear", "drain", "shift")]


def pe_ports(machine: Machine) -> dict[str, Any]:
    """Members of the signature of `PE`."""
    lane = data.StructLayout({"value": signed(8), "index": machine.index_bits, "live": 1})
    passed = {
        "activations": data.ArrayLayout(signed(8), machine.block),
        "token": TOKEN,
        "weights": data.ArrayLayout(lane, machine.lanes),
        "sums": data.ArrayLayout(signed(machine.accumulator), machine.lanes),
    }
    return {name: In(shape) for name, shape in passed.items()} | {
        f"{name}_out": Out(shape) for name, shape in passed.items()
    }


class PE(Component):
    """`lanes` multipliers over one block of `block` activations.

    | port | direction | width | |
    |---|---|---|---|
    | `activations`, `activations_out` | in, out | block x signed 8 | from the left; to the right, held |
    | `token`, `token_out` | in, out | `TOKEN` | from the left; to the right, a cycle later |
    | `weights`, `weights_out` | in, out | lanes x (`value`, `index`, `live`) | from above; below, a cycle later |
    | `sums`, `sums_out` | in, out | lanes x accumulator | copies that are shifted out: from above; below |

    **Latency.** A word given in cycle t picks its activations in t, of the block that comes with it if one does;
    multiplies in t + 1; and is in the accumulator in t + 3. So is, with `drain`, the copy at `sums_out`; `shift` given
    in t puts what `sums` shows in t + 2 to `sums_out` in t + 3.

    A register stands between multiplexer and multiplier, beside that of the value, so that a multiplexer that settles
    doesn't make the multiplier work twice. That picking is a cycle ahead of multiplying takes no cycle.

    **Idle lanes.** A lane that isn't `live` changes no register but that one bit: value and index stay, and so do the
    activation picked, the product and the accumulator. In a row that isn't `active` neither the block nor what is
    picked changes, and nothing is added. Between words, all of `token` and `live` is 0.

    **Width.** A product has 16 bits, |product| <= 2^14; sums wrap at the accumulator's width, which
    `Machine.most_weight` rules out.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__(pe_ports(machine))

    def elaborate(self, platform: Any) -> Module:
        """Take and pick, multiply, accumulate."""
        m = Module()
        block, adding = Signal.like(self.activations_out), Signal(ADDING)
        loaded = self.token.load & self.token.active
        m.d.comb += block.eq(Mux(loaded, self.activations, self.activations_out))
        m.d.sync += [self.activations_out.eq(block), self.token_out.eq(self.token), *follow(adding, self.token_out)]
        for lane in range(self.machine.lanes):
            self._take(m, lane)
            picked = self._pick(m, lane, block)
            product, live = self._multiply(m, lane, picked, self.weights_out[lane].live)
            self._accumulate(m, lane, product, live, adding)
        return m

    def _take(self, m: Module, lane: int) -> None:
        given, held = self.weights[lane], self.weights_out[lane]
        m.d.sync += held.live.eq(given.live)
        with m.If(given.live):
            m.d.sync += [held.value.eq(given.value), held.index.eq(given.index)]

    def _pick(self, m: Module, lane: int, block: Any) -> Any:
        """The activation of the word that was given, by one AND for each place and an OR of all: few glitches."""
        given, picked = self.weights[lane], Signal(signed(8), name=f"picked_{lane}")
        places = (Mux(given.index == place, Value.cast(block[place]), 0) for place in range(self.machine.block))
        with m.If(given.live & self.token.active):
            m.d.sync += picked.eq(reduce(or_, places))
        return picked

    def _multiply(self, m: Module, lane: int, activation: Any, lives: Any) -> tuple[Any, Any]:
        """The product, and whether it is one to be added. It needs no enable: it stays if its factors do."""
        product = Signal(signed(16), name=f"product_{lane}")
        live = Signal(name=f"live_{lane}")
        m.d.sync += [
            live.eq(lives & self.token_out.active),
            product.eq(activation * self.weights_out[lane].value),
        ]
        return product, live

    def _accumulate(self, m: Module, lane: int, product: Any, live: Any, token: Any) -> None:
        width = self.machine.accumulator
        total = Signal(signed(width), name=f"accumulator_{lane}")
        following = Signal(signed(width), name=f"sum_{lane}")
        m.d.comb += following.eq(Mux(token.clear, 0, total) + Mux(live, product, 0))
        with m.If(live | token.clear):
            m.d.sync += total.eq(following)
        with m.If(token.drain):
            m.d.sync += self.sums_out[lane].eq(following)
        with m.Elif(token.shift):
            m.d.sync += self.sums_out[lane].eq(self.sums[lane])
