"""The array: rows of tokens by columns of processing elements, a wavefront through both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, ResetSignal, Shape, Signal, Value, unsigned
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.layouts import CONTROL, accumulators_layout, lanes_layout, tokens_layout
from regrain.hw.rtl.pe import PE, TOKEN, pe_ports

if TYPE_CHECKING:
    from regrain.hw.machine import Machine


class Array(Component):
    """rows x pes processing elements; every pass gives a token's sums of all lanes a cycle, for `rows` cycles.

    | port | direction | width | |
    |---|---|---|---|
    | `control` | in | `CONTROL` | of the word in this cycle |
    | `rows` | in | bits of rows | tokens of this pass, 1 to rows: rows beyond stand still, and their sums are 0 |
    | `weights` | in | outputs x (value, index) | `lanes_layout` |
    | `activations` | in | rows x block x signed 8 | read with `load` |
    | `live` | out | outputs | lanes that multiply in this cycle: valid, and the value isn't 0 |
    | `valid` | out | 1 | sums leave |
    | `row` | out | bits of rows - 1 | whose they are |
    | `sums` | out | outputs x accumulator | |

    **Wavefront.** Row r sees a word r cycles later, column g another g: registers at the edges delay activations by
    their row, weights by their column, and elements pass them on. Sums of column g leave g cycles later than those of
    column 0, and are brought together at the edge.

    **Draining.** The word with `drain`, given in cycle t, makes element (r, g) copy its sums into its shift register,
    which shows them from t + r + g + 3 on. All copies of column 0 stand in t + rows + 2; from then on they go down by
    a row a cycle, and out at the bottom: the last row first. Row r takes part in the first r shifts and then holds,
    so that its next copy may come rows cycles after this one. So **words with drain must be rows cycles apart, or
    more.** Row `rows - 1 - k` leaves in cycle t + rows + pes + 1 + k.

    Built of one Verilog module for all elements, `modules` (see `regrain.hw.cosim.emit`); `inline` makes each
    element a submodule instead, for Amaranth's simulator and for proofs.
    """

    def __init__(self, machine: Machine, *, inline: bool = False) -> None:
        self.machine = machine
        self.inline = inline
        self.modules = {} if inline else {"pe": PE(machine)}
        super().__init__(
            {
                "control": In(CONTROL),
                "rows": In(range(machine.rows + 1)),
                "weights": In(lanes_layout(machine)),
                "activations": In(tokens_layout(machine)),
                "live": Out(machine.outputs),
                "valid": Out(1),
                "row": Out(range(machine.rows)),
                "sums": Out(accumulators_layout(machine)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Skewed edges around a grid."""
        m = Module()
        m.d.comb += self.live.eq(
            Cat(self.control.valid & (self.weights[lane].value != 0) for lane in range(self.machine.outputs))
        )
        tokens, activations = self._left(m)
        self._grid(m, tokens, activations, self._top(m))
        return m

    def _left(self, m: Module) -> tuple[list[Any], list[Any]]:
        """Tokens and activations of each row, where they enter it."""
        shift = self._shifting(m)
        delayed, tokens, activations = self.control, [], []
        rows = self.rows
        entering = [self.activations[row] for row in range(self.machine.rows)]
        for row in range(self.machine.rows):
            if row:
                control, count = Signal(CONTROL, name=f"control_{row}"), Signal.like(rows, name=f"rows_{row}")
                m.d.sync += control.eq(delayed)
                with m.If(delayed.clear):
                    m.d.sync += count.eq(rows)
                entering = [self._held(m, each, delayed.load, f"skew_{row}") for each in entering]
                delayed, rows = control, count
            token = Signal(TOKEN, name=f"token_{row}")
            m.d.comb += [
                token.load.eq(delayed.load),
                token.active.eq(delayed.valid & (rows > row)),
                token.clear.eq(delayed.clear),
                token.drain.eq(delayed.drain),
                token.shift.eq(shift[row]),
            ]
            tokens.append(token)
            activations.append(entering.pop(0))
        return tokens, activations

    def _shifting(self, m: Module) -> Any:
        """For each row, whether it shifts; and `valid` and `row` at the bottom.

        A word with drain in cycle t: row r shifts in the cycles from t + rows on, r of them.
        """
        rows = self.machine.rows
        waiting, shifting, left = Signal(range(rows)), Signal(rows), Signal(range(rows + 1))
        m.d.sync += [shifting.eq(shifting & (shifting << 1)), waiting.eq(waiting - (waiting != 0))]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(waiting == 1):
            m.d.sync += [shifting.eq((1 << rows) - 2), left.eq(rows)]
        with m.If(self.control.drain):
            m.d.sync += waiting.eq(rows - 1)
        late = self.machine.pes + 1
        m.d.comb += self.valid.eq(self._delayed(m, left != 0, late, "valid"))
        m.d.comb += self.row.eq(self._delayed(m, (left - 1)[: len(self.row)], late, "row"))
        return shifting

    def _top(self, m: Module) -> list[Any]:
        """What each column's elements take, where it enters."""
        lanes, columns = self.machine.lanes, []
        for column in range(self.machine.pes):
            parts = []
            for lane in range(column * lanes, (column + 1) * lanes):
                live, weight = self.live[lane], Value.cast(self.weights[lane])
                for stage in range(column):
                    name = f"skew_{lane}_{stage}"
                    weight = self._held(m, weight, live, name)
                    live = self._delayed(m, live, 1, f"{name}_live")
                parts += [weight, live]
            columns.append(Cat(parts))
        return columns

    def _grid(self, m: Module, tokens: list[Any], activations: list[Any], weights: list[Any]) -> None:
        machine = self.machine
        widths = {port: Shape.cast(member.shape).width for port, member in pe_ports(machine).items()}
        sums: list[Any] = [Const(0, machine.lanes * machine.accumulator)] * machine.pes
        for row in range(machine.rows):
            token, block = Value.cast(tokens[row]), Value.cast(activations[row])
            for column in range(machine.pes):
                name = f"pe_{row}_{column}"
                given = {"token": token, "activations": block, "weights": weights[column], "sums": sums[column]}
                made = {f"{port}_out": Signal(widths[port], name=f"{name}_{port}") for port in given}
                self._place(m, name, given, made)
                token, block = made["token_out"], made["activations_out"]
                weights[column], sums[column] = made["weights_out"], made["sums_out"]
        together = [
            self._delayed(m, each, machine.pes - 1 - column, f"sums_{column}") for column, each in enumerate(sums)
        ]
        m.d.comb += self.sums.eq(Cat(together))

    def _place(self, m: Module, name: str, given: dict[str, Any], made: dict[str, Any]) -> None:
        """One element of the grid."""
        if not self.inline:
            inputs = {f"i_{port}": value for port, value in given.items()}
            outputs = {f"o_{port}": value for port, value in made.items()}
            clock = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
            m.submodules[name] = Instance("pe", **clock, **inputs, **outputs)
            return
        element = m.submodules[name] = PE(self.machine)
        m.d.comb += [Value.cast(getattr(element, port)).eq(value) for port, value in given.items()]
        m.d.comb += [value.eq(Value.cast(getattr(element, port))) for port, value in made.items()]

    def _held(self, m: Module, value: Any, enable: Any, name: str) -> Any:
        """A register that changes only if enabled."""
        register = Signal(unsigned(len(Value.cast(value))), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        return register

    def _delayed(self, m: Module, value: Any, cycles: int, name: str) -> Any:
        """A value some cycles later."""
        for stage in range(cycles):
            register = Signal(unsigned(len(Value.cast(value))), name=f"{name}_{stage}")
            m.d.sync += register.eq(value)
            value = register
        return value
