"""A factor and a shift for each row of a matrix, out of the scale codes of its rows of cells."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.reconstruction.scales import LEAST_SHIFT, MOST_SHIFT, OCTAVE, OCTAVE_BITS
from regrain.hw.rtl.rescaler import DELTA_BITS


class ChannelScales(Component):
    """Gives 2^((code + offset) / 8) of each row, as `regrain.hw.reconstruction.scales.requantizer` does.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | begin, while `idle`; what follows must then hold |
    | `rows` | in | 16 | of the matrix |
    | `down` | in | 16 | rows of a cell |
    | `offset` | in | signed 12 | added to every code |
    | `cell_row` | out | 16 | the row of cells whose code is asked for |
    | `code` | in | signed 11 | it, in the next cycle |
    | `row` | out | 16 | the row that has `factor` and `shift` |
    | `factor`, `shift` | out | 16, 6 | |
    | `valid` | out | 1 | |
    | `ready` | in | 1 | |
    | `idle` | out | 1 | all rows have been taken |
    | `bad` | out | 1 | a shift would not be 1 to 40; it is not given |

    Four cycles a row.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "rows": In(16),
                "down": In(16),
                "offset": In(signed(12)),
                "cell_row": Out(16),
                "code": In(signed(DELTA_BITS)),
                "row": Out(16),
                "factor": Out(16),
                "shift": Out(6),
                "valid": Out(1),
                "ready": In(1),
                "idle": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit."""
        m = Module()
        y, total, shift = Signal(16), Signal(signed(13)), Signal(signed(12))
        m.d.comb += shift.eq(OCTAVE_BITS - (total >> 3))
        m.d.sync += total.eq(self.code + self.offset)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [self.row.eq(0), y.eq(0), self.cell_row.eq(0)]
                with m.If(self.start):
                    m.next = "read"
            with m.State("read"):
                m.next = "add"
            with m.State("add"):
                m.next = "split"
            with m.State("split"):
                m.d.comb += self.bad.eq((shift < LEAST_SHIFT) | (shift > MOST_SHIFT))
                m.d.sync += [self.factor.eq(Array(OCTAVE)[total.as_unsigned()[:3]]), self.shift.eq(shift.as_unsigned())]
                with m.If(~self.bad):
                    m.next = "give"
            with m.State("give"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.ready):
                    cell_end = y == self.down - 1
                    m.d.sync += [y.eq(Mux(cell_end, 0, y + 1)), self.cell_row.eq(self.cell_row + cell_end)]
                    m.d.sync += self.row.eq(self.row + 1)
                    m.next = "read"
                    with m.If(self.row == self.rows - 1):
                        m.next = "idle"
        return m
