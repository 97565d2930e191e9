"""From the steps of cells to the step of their row: int8 times 2^(-d/8), rounded."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.scales import MOST_HALVINGS, OCTAVE, OCTAVE_BITS, STEPS

DELTA_BITS = 11
_STAGES = 3


class Rescaler(Component):
    """Multiplies each value by 2^(-delta/8), rounded to nearest, halves up.

    `regrain.hw.reconstruction.scales.rescale` is its model.

    | port | direction | width | |
    |---|---|---|---|
    | `value` | in | signed 8 | |
    | `delta` | in | 11 | its row's code less that of its cell; 0 leaves the value as it is |
    | `row`, `column` | in | 16 | where the value stands |
    | `value_valid` | in | 1 | |
    | `value_ready` | out | 1 | |
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
        product2, halvings2 = Signal(signed(25)), Signal.like(halvings1)
        halvings = (self.delta + (STEPS - 1)) >> 3
        rest = (-self.delta)[:3]
        moved, rounded = Signal(signed(25)), Signal(25)
        half = Signal(25)
        shift = Signal(5)
        m.d.comb += [
            shift.eq(OCTAVE_BITS + halvings2),
            half.eq(1 << (shift - 1)[:5]),
            moved.eq((product2 + Cat(half, Const(0)).as_signed()) >> shift),
            rounded.eq(product2.as_unsigned() & ((half << 1) - 1)),
        ]
        with m.If(move):
            m.d.sync += [
                value1.eq(self.value),
                factor1.eq(Array(OCTAVE)[rest]),
                halvings1.eq(Mux(halvings > MOST_HALVINGS, MOST_HALVINGS, halvings)),
                product2.eq(value1 * factor1),
                halvings2.eq(halvings1),
                self.weight.eq(moved),
                self.rounded.eq(rounded != 0),
            ]
            for parts in (valid, rows, columns):
                m.d.sync += [parts[i + 1].eq(parts[i]) for i in range(_STAGES)]
        return m
