"""From the weights that are kept to the whole matrix: blocks, rows, columns and single weights (docs/format.md 9)."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from regrain.hw.rtl.rescaler import DELTA_BITS

GRID = {"down": 16, "across": 16, "grid": 16, "count": 24}
"""Operands of a grid: rows and columns of a unit; units across the matrix, and all of them."""


class GridWalker(Component):
    """The unit of a grid that each place of a matrix is in, as the places go by in C order.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | the first place is next |
    | `down`, `across`, `grid` | in | 16 | |
    | `count` | in | 24 | |
    | `step` | in | 1 | the next place |
    | `row_end` | in | 1 | this place is the last of its row |
    | `unit` | out | 24 | of this place, rows of the grid one after the other |
    | `grid_row` | out | 16 | |
    | `last` | in | 1 | and the last of the matrix |
    | `wrong` | out | 1 | the grid has more units, or fewer, than the matrix asks for |
    """

    def __init__(self) -> None:
        inputs = {"start": In(1), "step": In(1), "row_end": In(1), "last": In(1)}
        inputs |= {name: In(bits) for name, bits in GRID.items()}
        super().__init__(inputs | {"unit": Out(24), "grid_row": Out(16), "wrong": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """The circuit: counters within the unit, and where its row of the grid begins."""
        m = Module()
        x, y, column, base = Signal(16), Signal(16), Signal(16), Signal(24)
        last_column, last_row = column == self.grid - 1, base + self.grid == self.count
        right_end, lower_end = x == self.across - 1, y == self.down - 1
        m.d.comb += self.wrong.eq(
            Mux(
                self.row_end,
                ~last_column | Mux(self.last, ~last_row, lower_end & last_row),
                right_end & last_column,
            )
        )
        with m.If(self.start):
            m.d.sync += [x.eq(0), y.eq(0), column.eq(0), base.eq(0), self.unit.eq(0), self.grid_row.eq(0)]
        with m.Elif(self.step & self.row_end):
            m.d.sync += [x.eq(0), column.eq(0), y.eq(y + 1), self.unit.eq(base)]
            with m.If(lower_end):
                m.d.sync += [y.eq(0), base.eq(base + self.grid), self.unit.eq(base + self.grid)]
                m.d.sync += self.grid_row.eq(self.grid_row + 1)
        with m.Elif(self.step):
            m.d.sync += x.eq(x + 1)
            with m.If(right_end):
                m.d.sync += [x.eq(0), column.eq(column + 1), self.unit.eq(self.unit + 1)]
        return m


class Expander(Component):
    """Puts kept values to their places, and 0 to all others; beside each, how much finer its cell is than its row.

    | port | direction | width | |
    |---|---|---|---|
    | `mask_write` | in | 1 | four units of the mask are set |
    | `mask_address` | in | mask | |
    | `mask_units` | in | 4 | the first one lowest; 1 is kept |
    | `code_write` | in | 1 | a cell's scale code is set |
    | `code_address` | in | codes | |
    | `code` | in | signed 11 | |
    | `row_code_write` | in | 1 | the largest code of a row of cells is set |
    | `row_code_address` | in | rows | |
    | `row_code` | in | signed 11 | |
    | `row_code_at` | in | rows | asks for a row's code, while `idle` |
    | `row_code_is` | out | signed 11 | a cycle later |
    | `start` | in | 1 | a matrix begins, while `idle`; what follows must then hold |
    | `rows`, `columns` | in | 16 | |
    | `masked`, `rescaled` | in | 1 | without, everything is kept, and all of one scale |
    | `unit_down`, … `unit_count` | in | | `GRID` of the units |
    | `cell_down`, … `cell_count` | in | | `GRID` of the cells |
    | `kept` | in | signed 8 | values of what is kept, in order |
    | `kept_valid` | in | 1 | |
    | `kept_ready` | out | 1 | |
    | `value` | out | signed 8 | all values in C order |
    | `delta` | out | 11 | the row's code less the cell's |
    | `row`, `column` | out | 16 | |
    | `value_valid` | out | 1 | |
    | `value_ready` | in | 1 | |
    | `idle` | out | 1 | all have been taken |
    | `wrong` | out | 1 | units or cells are not as many as the matrix has; sticky until `start` |

    A place a cycle, four cycles from its turn to the output.
    """

    def __init__(self, mask: int = 1 << 18, codes: int = 1 << 14, rows: int = 1 << 12) -> None:
        """`mask`: numbers of four units that fit; `codes`: cells; `rows`: rows of cells."""
        self.sizes = mask, codes, rows
        grids = {f"{kind}_{name}": In(bits) for kind in ("unit", "cell") for name, bits in GRID.items()}
        super().__init__(
            {
                "mask_write": In(1),
                "mask_address": In(ceil_log2(mask)),
                "mask_units": In(4),
                "code_write": In(1),
                "code_address": In(ceil_log2(codes)),
                "code": In(signed(DELTA_BITS)),
                "row_code_write": In(1),
                "row_code_address": In(ceil_log2(rows)),
                "row_code": In(signed(DELTA_BITS)),
                "row_code_at": In(ceil_log2(rows)),
                "row_code_is": Out(signed(DELTA_BITS)),
                "start": In(1),
                "rows": In(16),
                "columns": In(16),
                "masked": In(1),
                "rescaled": In(1),
                **grids,
                "kept": In(signed(8)),
                "kept_valid": In(1),
                "kept_ready": Out(1),
                "value": Out(signed(8)),
                "delta": Out(DELTA_BITS),
                "row": Out(16),
                "column": Out(16),
                "value_valid": Out(1),
                "value_ready": In(1),
                "idle": Out(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The circuit: a place's turn, its mask and codes, what they say, its value."""
        m = Module()
        walkers = self._walkers(m)
        running, turned, picked, out_free = Signal(), Signal(), Signal(), Signal()
        move, pick, go = Signal(), Signal(), Signal()  # of a turn; of what its memories say; of its value
        row, column, row_end, last = Signal(16), Signal(16), Signal(), Signal()
        m.d.comb += [row_end.eq(column == self.columns - 1), last.eq(row_end & (row == self.rows - 1))]
        for walker in walkers.values():
            m.d.comb += [walker.start.eq(self.start), walker.step.eq(running & move), walker.row_end.eq(row_end)]
            m.d.comb += walker.last.eq(last)

        units, codes = walkers["unit"], walkers["cell"]
        mask, cell, reference = self._memories(m, units.unit, codes, move)
        rows, columns = [row, Signal(16), Signal(16), self.row], [column, Signal(16), Signal(16), self.column]
        place, kept, delta = Signal(2), Signal(), Signal(DELTA_BITS)
        m.d.comb += [
            out_free.eq(~self.value_valid | self.value_ready),
            go.eq(out_free & (~kept | self.kept_valid)),
            pick.eq(~picked | go),
            move.eq(~turned | pick),
            self.kept_ready.eq(picked & kept & out_free),
            self.idle.eq(~running & ~turned & ~picked & ~self.value_valid),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), row.eq(0), column.eq(0), self.wrong.eq(0)]
        with m.Elif(running & move):
            m.d.sync += [column.eq(Mux(row_end, 0, column + 1)), row.eq(row + row_end), running.eq(~last)]
            for walker, used in ((units, self.masked), (codes, self.rescaled)):
                with m.If(used & walker.wrong):
                    m.d.sync += self.wrong.eq(1)
        with m.If(move):
            m.d.sync += [turned.eq(running), place.eq(units.unit[:2]), rows[1].eq(row), columns[1].eq(column)]
        with m.If(pick):
            m.d.sync += [picked.eq(turned), kept.eq(~self.masked | mask.bit_select(place, 1))]
            m.d.sync += [
                delta.eq(Mux(self.rescaled, reference - cell, 0)),
                rows[2].eq(rows[1]),
                columns[2].eq(columns[1]),
            ]
        with m.If(out_free):
            m.d.sync += [
                self.value_valid.eq(picked & go),
                self.value.eq(Mux(kept, self.kept, 0)),
                self.delta.eq(delta),
                rows[3].eq(rows[2]),
                columns[3].eq(columns[2]),
            ]
        return m

    def _walkers(self, m: Module) -> dict[str, GridWalker]:
        walkers = {kind: GridWalker() for kind in ("unit", "cell")}
        for kind, walker in walkers.items():
            m.submodules[kind] = walker
            m.d.comb += [getattr(walker, name).eq(getattr(self, f"{kind}_{name}")) for name in GRID]
        return walkers

    def _memories(self, m: Module, unit: Any, cell: GridWalker, move: Signal) -> tuple[Any, Any, Any]:
        """What stands there of a place, in the cycle after its turn: four units of the mask, its code, its row's."""
        kinds = ("mask", 4), ("code", signed(DELTA_BITS)), ("row_code", signed(DELTA_BITS))
        found = []
        idle = Signal()
        m.d.comb += idle.eq(self.idle)
        places = unit[2:], cell.unit, Mux(idle, self.row_code_at, cell.grid_row)
        data = self.mask_units, self.code, self.row_code
        for (kind, shape), depth, place, given in zip(kinds, self.sizes, places, data, strict=True):
            m.submodules[f"{kind}s"] = memory = Memory(shape=shape, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [write.en.eq(getattr(self, f"{kind}_write")), write.addr.eq(getattr(self, f"{kind}_address"))]
            m.d.comb += write.data.eq(given)
            m.d.comb += [read.addr.eq(place), read.en.eq(move)]
            found.append(read.data)
        m.d.comb += self.row_code_is.eq(found[2])
        return found[0], found[1], found[2]
