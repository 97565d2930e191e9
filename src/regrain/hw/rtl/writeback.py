"""Write-back: accumulators of a token at a time become int8 again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.rtl.layouts import TOKEN_BITS, accumulators_layout

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

LATENCY = 4
"""Cycles from a token's sums to its outputs."""


CHANNEL = data.StructLayout({"bias": signed(24), "factor": 16, "shift": 6})
"""How one output is scaled: clamp(((sum + bias) * factor + 2^(shift - 1)) >> shift). Shift is 1 to 40."""


class Writeback(Component):
    """One token, all outputs of a tile, a cycle.

    | port | direction | width | |
    |---|---|---|---|
    | `start` | in | 1 | a job begins: the next token is of its first pass |
    | `token_tiles`, `last_rows` | in | 16, bits of rows | tiles of tokens; rows of the last that are tokens |
    | `tiles` | in | 16 | tiles of the job; no more than the table has |
    | `relu` | in | 1 | outputs below 0 become 0 |
    | `table_write`, `table_tile`, `table_lane`, `table_entry` | in | 1, tile, lane, `CHANNEL` | set-up, between jobs |
    | `valid`, `row`, `sums` | in | | as `Array` gives them: each pass its rows, the last row first |
    | `out_valid` | out | 1 | a token leaves; rows beyond `last_rows` of the last tile don't |
    | `out_tile`, `out_token_tile`, `out_row` | out | tile, 16, bits of rows - 1 | which |
    | `out_sums` | out | outputs x accumulator | as they came |
    | `out_values` | out | outputs x signed 8 | |
    | `finished` | out | 1 | the last row of the job is through, in the cycle in which its token leaves |

    Tiles are numbered as they are run, in outputs and table. **Latency:** four cycles: sums are kept; bias is added;
    factor is applied; shifted by shift - 1, then (x + 1) >> 1, which is what (x + 2^(shift-1)) >> shift is, and
    clamped. A tile's row of the table is read once, when the tile before has passed. **Width:** sum + bias has a bit
    more than the wider, the product 16 more; nothing wraps.
    """

    def __init__(self, machine: Machine, *, tiles: int) -> None:
        self.machine = machine
        self.depth = tiles
        super().__init__(
            {
                "start": In(1),
                "tiles": In(TOKEN_BITS),
                "token_tiles": In(TOKEN_BITS),
                "last_rows": In(range(machine.rows + 1)),
                "relu": In(1),
                "table_write": In(1),
                "table_tile": In(range(tiles)),
                "table_lane": In(range(machine.outputs)),
                "table_entry": In(CHANNEL),
                "valid": In(1),
                "row": In(range(machine.rows)),
                "sums": In(accumulators_layout(machine)),
                "out_valid": Out(1),
                "out_tile": Out(range(tiles)),
                "out_token_tile": Out(TOKEN_BITS),
                "out_row": Out(range(machine.rows)),
                "out_sums": Out(accumulators_layout(machine)),
                "out_values": Out(data.ArrayLayout(signed(8), machine.outputs)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Which token it is, and its numbers; four registers in a row."""
        m = Module()
        tile, token_tile, keep, advance, final = self._count(m)
        channels = self._table(m, tile, advance)
        enables, valid, finished = [self.valid], keep, final
        passed = {"tile": tile, "token_tile": token_tile, "row": self.row, "sums": self.sums}
        kept = Signal.like(self.sums)
        for stage in range(LATENCY):
            for name, value in passed.items():
                last = stage == LATENCY - 1
                target = getattr(self, f"out_{name}")
                register = target if last else Signal.like(target, name=f"{name}_{stage}")
                with m.If(enables[-1]):
                    m.d.sync += register.eq(value)
                passed[name] = register
            if stage == 0:
                m.d.comb += kept.eq(passed["sums"])
            enables.append(_next(m, enables[-1], f"enable_{stage}"))
            valid, finished = _next(m, valid, f"valid_{stage}"), _next(m, finished, f"finished_{stage}")
        m.d.comb += [self.out_valid.eq(valid), self.finished.eq(finished)]
        self._scale(m, enables[1:LATENCY], channels, kept)
        return m

    def _count(self, m: Module) -> tuple[Any, Any, Any, Any, Any]:
        """Tile and tile of tokens of what comes; whether it is to leave, is its tile's last, is the job's last."""
        tile, token_tile = Signal(range(self.depth)), Signal(TOKEN_BITS)
        last_token_tile, keep, advance, final = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            last_token_tile.eq(token_tile + 1 == self.token_tiles),
            keep.eq(self.valid & (~last_token_tile | (self.row < self.last_rows))),
            advance.eq(self.valid & (self.row == 0) & last_token_tile),
            final.eq(advance & (tile + 1 == self.tiles)),
        ]
        with m.If(self.valid & (self.row == 0)):
            m.d.sync += token_tile.eq(token_tile + 1)
            with m.If(last_token_tile):
                m.d.sync += [token_tile.eq(0), tile.eq(tile + 1)]
        with m.If(self.start):
            m.d.sync += [tile.eq(0), token_tile.eq(0)]
        return tile, token_tile, keep, advance, final

    def _table(self, m: Module, tile: Any, advance: Any) -> list[Any]:
        """The channels of the tile whose sums were kept in the cycle before."""
        machine, width = self.machine, CHANNEL.size
        row = data.ArrayLayout(CHANNEL, machine.outputs)
        m.submodules.table = table = memory.Memory(shape=width * machine.outputs, depth=self.depth, init=[])
        write, read = table.write_port(granularity=width), table.read_port()
        moved = Signal()
        m.d.sync += moved.eq(advance | self.start)
        m.d.comb += [
            write.en.eq(self.table_write << self.table_lane),
            write.addr.eq(self.table_tile),
            write.data.eq(self.table_entry.as_value().replicate(machine.outputs)),
            read.en.eq(moved),
            read.addr.eq(tile),
        ]
        channels = data.View(row, read.data)
        return [channels[lane] for lane in range(machine.outputs)]

    def _scale(self, m: Module, enables: list[Any], channels: list[Any], sums: Any) -> None:
        """One stage for each of the three `enables`."""
        width = max(self.machine.accumulator, 24) + 1
        low = Mux(self.relu, 0, -128)
        for lane, channel in enumerate(channels):
            biased = Signal(signed(width), name=f"biased_{lane}")
            product = Signal(signed(width + 16), name=f"product_{lane}")
            factor, shift, shift_late = (
                Signal(width, name=f"{name}_{lane}")
                for name, width in (("factor", 16), ("shift", 6), ("shift_late", 6))
            )
            rounded = Signal(signed(width + 16), name=f"rounded_{lane}")
            with m.If(enables[0]):
                m.d.sync += [
                    biased.eq(sums[lane] + channel.bias),
                    factor.eq(channel.factor),
                    shift.eq(channel.shift - 1),
                ]
            with m.If(enables[1]):
                m.d.sync += [product.eq(biased * factor), shift_late.eq(shift)]
            m.d.comb += rounded.eq(((product >> shift_late) + 1) >> 1)
            with m.If(enables[2]):
                m.d.sync += self.out_values[lane].eq(Mux(rounded > 127, 127, Mux(rounded < low, low, rounded)))


def _next(m: Module, bit: Any, name: str) -> Any:
    """A bit a cycle later."""
    register = Signal(name=name)
    m.d.sync += register.eq(bit)
    return register
