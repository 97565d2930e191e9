"""From the steps of cells to the step of their row: int8 times 2^(-d/8), rounded."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.scales import MOST_HALVINGS, OCTAVE, OCTAVE_BITS, STEPS

DELTA_BITS = 11
_STAGES = 3


class Rescaler(Component):
    """Multiplies each value by 2^(-delta/8), rounded to nearest, halves up.

    `regrain.hw.reconstruction.scales.rescale` is its model. With a product p of a value and a factor:
    floor((p + 2^(s-1)) / 2^s) = floor((floor(p / 2^(s-1)) + 1) / 2), so that p's low bits need no adder; and p / 2^s is
    an integer only if p is 0, or the factor is 2^15 and the value a multiple of 2^(s-15): no other factor has more than
    seven twos, nor a value other than 0.

    | port | direction | width | |
    |---|---|---|---|
    | `value` | in | signed 8 | |
    | `delta` | in | 11 | its row's code less that of its cell; 0 leaves the value as it is |
    | `row`, `column` | in | 16 | where the value stands |
    | `value_valid` | in | 1 | |
    | `value_ready` | out | 1 | no weight waits for `weight_ready` |
    | `weight` | out | signed 8 | |
    | `rounded` | out | 1 | it isn't exactly value * factor / 2^shift |
    | `weight_row`, `weight_column` | out | 16 | |
    | `weight_valid` | out | 1 | |
    | `weight_ready` | in | 1 | |
    | `idle` | out | 1 | nothing is inside |

    A value a cycle; three cycles.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "value": In(signed(8)),
                "delta": In(DELTA_BITS),
                "row": In(16),
                "column": In(16),
                "value_valid": In(1),
                "value_ready": Out(1),
                "weight": Out(signed(8)),
                "rounded": Out(1),
                "weight_row": Out(16),
                "weight_column": Out(16),
                "weight_valid": Out(1),
                "weight_ready": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: factor and shift; the product; the shift. All of it moves, or nothing does."""
        m = Module()
        move = Signal()
        valid = [self.value_valid, Signal(name="valid1"), Signal(name="valid2"), self.weight_valid]
        rows = [self.row, Signal(16, name="row1"), Signal(16, name="row2"), self.weight_row]
        columns = [self.column, Signal(16, name="column1"), Signal(16, name="column2"), self.weight_column]
        m.d.comb += [
            move.eq(~self.weight_valid | self.weight_ready),
            self.value_ready.eq(move),
            self.idle.eq(~(valid[1] | valid[2] | valid[3])),
        ]
        value1, factor1, halvings1 = Signal(signed(8)), Signal(16), Signal(range(MOST_HALVINGS + 1))
        between1, uneven2 = Signal(), Signal()  # a factor other than 2^15; a product that is rounded
        product2, halvings2 = Signal(signed(10)), Signal.like(halvings1)  # of 24 bits, without the lowest
        halvings = (self.delta + (STEPS - 1)) >> 3
        rest, below = (-self.delta)[:3], Signal(8)  # bits of a value that its product is rounded by
        m.d.comb += below.eq(Mux(between1, 0xFF, (1 << halvings1) - 1))
        with m.If(move):
            m.d.sync += [
                value1.eq(self.value),
                factor1.eq(Array(OCTAVE)[rest]),
                between1.eq(rest != 0),
                halvings1.eq(Mux(halvings > MOST_HALVINGS, MOST_HALVINGS, halvings)),
                product2.eq((value1 * factor1) >> OCTAVE_BITS - 1),
                uneven2.eq((value1.as_unsigned() & below) != 0),
                halvings2.eq(halvings1),
                self.weight.eq(((product2 >> halvings2) + 1) >> 1),
                self.rounded.eq(uneven2),
            ]
            for parts in (valid, rows, columns):
                m.d.sync += [parts[i + 1].eq(parts[i]) for i in range(_STAGES)]
        return m
