"""The sparsity profile monitor: how much the outputs of a layer vary, channel by channel, exactly."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.model.codes import Code

LEAST_LOG2, MOST_LOG2 = 4, 12
"""Of the number of samples. 16 of them take as long as the 16 channels of the tile before take to evaluate."""

METRIC_BITS, FRACTION_BITS = 16, 2
"""Variances, metric and thresholds are in quarters of a squared step: at most 127.5^2 * 4 = 65,025."""

COUNT_BITS = 14
SPREAD_BITS = 2 * MOST_LOG2 + 14
"""Of n^2 * variance: see `Monitor`."""


def result_layout(lanes: int) -> data.StructLayout:
    """A channel: its `lane` of the tile, `spread` = n^2 * variance, `granularity` 0 fine, 1 medium, 2 coarse."""
    return data.StructLayout({"valid": 1, "lane": range(lanes), "spread": SPREAD_BITS, "granularity": 2})


class Monitor(Component):
    """Sums of x and of x^2 over the first n = 2^k tokens of every output channel, and what follows from them.

    | port | direction | width | |
    |---|---|---|---|
    | `valid` | in | 1 | a token's outputs, one a cycle, as they are written back |
    | `values` | in | lanes x signed 8 | x |
    | `present` | in | lanes | which lanes are channels; read with the last sample. The others are left out |
    | `begin` | in | 1 | with `valid`: the first token of an output tile |
    | `log2_samples` | in | 4 | k, 4 to 12; constant while a layer runs |
    | `low`, `high` | in | 16 | a variance below `low` is coarse, above `high` fine, else medium; in quarters |
    | `log2_channels` | in | 4 | the metric's divisor: the sum over channels is shifted by so much |
    | `conclude` | in | 1 | the matrix is through: give its metric and begin anew. Not before its last sample |
    | `result` | out | `result_layout` | one channel a cycle, in order, when `result.valid` |
    | `updated` | out | 1 | `metric` and `counts` are those of the matrix that was concluded; for one cycle |
    | `metric` | out | 16 | floor(4 * sum of variances / 2^log2_channels), at most 65,535; holds its value |
    | `counts` | out | 3 x 14 | channels that are fine, medium, coarse; hold their values |
    | `fault` | out | 1 | sticky: samples came with k out of range |

    **Exactness.** n^2 * variance = n * sum(x^2) - sum(x)^2 in integers, and variance < t / 4 exactly if that is below
    t * 2^(2k-2): thresholds are shifted, nothing is divided. |x| <= 128 gives |sum(x)| <= 2^(k+7) and
    sum(x^2) <= 2^(k+14), and by Popoviciu's inequality n^2 * variance <= n^2 * (255/2)^2 < 2^(2k+14).

    **Time.** Last sample in cycle t: the sums are copied, and channel i is evaluated by one multiplier, a square of
    signed k + 8 bits, and a subtraction, in two steps: its `result` stands in cycle t + 3 + i. Meanwhile the next tile
    is summed; it can't be complete before, since it has 16 samples or more. A tile of fewer than n tokens gives no
    result. `conclude` in cycle c: `updated` in c + 2, or in the cycle after the last channel's result if that is later.
    """

    def __init__(self, lanes: int = 16) -> None:
        if not 2 <= lanes <= 1 << LEAST_LOG2:
            raise ValueError(f"lanes must be 2 to {1 << LEAST_LOG2}, the fewest samples of a tile, not {lanes}")
        self.lanes = lanes
        self.taken = Signal(MOST_LOG2 + 1)
        self.complete = Signal()
        self.busy = Signal()
        self.lane = Signal(range(lanes))
        self.sums = [Signal(signed(MOST_LOG2 + 8), name=f"held_sum_{lane}") for lane in range(lanes)]
        self.squares = [Signal(MOST_LOG2 + 15, name=f"held_squares_{lane}") for lane in range(lanes)]
        super().__init__(
            {
                "valid": In(1),
                "values": In(data.ArrayLayout(signed(8), lanes)),
                "present": In(lanes),
                "begin": In(1),
                "log2_samples": In(4),
                "low": In(METRIC_BITS),
                "high": In(METRIC_BITS),
                "log2_channels": In(4),
                "conclude": In(1),
                "result": Out(result_layout(lanes)),
                "updated": Out(1),
                "metric": Out(METRIC_BITS),
                "counts": Out(data.ArrayLayout(unsigned(COUNT_BITS), 3)),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Sums; their copies, one after the other; sums over the channels."""
        m = Module()
        self._sum(m)
        self._evaluate(m)
        return m

    def _sum(self, m: Module) -> None:
        """Add up samples; copy the sums when a tile is complete."""
        count = Signal(MOST_LOG2 + 1)
        samples = Signal(MOST_LOG2 + 1)
        taking = Signal()
        in_range = Signal()
        m.d.comb += [
            in_range.eq((self.log2_samples >= LEAST_LOG2) & (self.log2_samples <= MOST_LOG2)),
            samples.eq(1 << self.log2_samples),
            taking.eq(self.valid & in_range & (self.begin | ((self.taken != 0) & (self.taken < samples)))),
            count.eq(Mux(self.begin, 1, self.taken + 1)),
            self.complete.eq(taking & (count == samples)),
        ]
        with m.If(taking):
            m.d.sync += self.taken.eq(count)
        with m.If(self.valid & ~in_range):
            m.d.sync += self.fault.eq(1)
        for lane, (held_sum, held_squares) in enumerate(zip(self.sums, self.squares, strict=True)):
            x = self.values[lane]
            total, squares = (
                Signal.like(held_sum, name=f"sum_{lane}"),
                Signal.like(held_squares, name=f"squares_{lane}"),
            )
            new_sum = Signal.like(total)
            new_squares = Signal.like(squares)
            m.d.comb += [
                new_sum.eq(Mux(self.begin, 0, total) + x),
                new_squares.eq(Mux(self.begin, 0, squares) + x * x),
            ]
            with m.If(taking):
                m.d.sync += [total.eq(new_sum), squares.eq(new_squares)]
            with m.If(self.complete):
                m.d.sync += [held_sum.eq(new_sum), held_squares.eq(new_squares)]

    def _evaluate(self, m: Module) -> None:
        """Channel by channel: n^2 * variance and its class."""
        last = self.lane == self.lanes - 1
        present = Signal(self.lanes)
        with m.If(self.complete):
            m.d.sync += [self.busy.eq(1), self.lane.eq(0), present.eq(self.present)]
        with m.Elif(self.busy):
            m.d.sync += [self.lane.eq(self.lane + 1), self.busy.eq(~last)]

        running = Signal()
        live = Signal()
        lane = Signal.like(self.lane)
        scaled = Signal(SPREAD_BITS + 1)
        square = Signal(SPREAD_BITS + 1)
        total = Signal.like(self.sums[0])
        m.d.comb += total.eq(Array(self.sums)[self.lane])
        m.d.sync += [
            running.eq(self.busy),
            lane.eq(self.lane),
            live.eq(self.busy & present.bit_select(self.lane, 1)),
            scaled.eq(Array(self.squares)[self.lane] << (self.log2_samples - LEAST_LOG2)[:4] << LEAST_LOG2),
            square.eq(total * total),
        ]

        spread = Signal(SPREAD_BITS)
        shift = Signal(5)
        grain = Signal(2)
        fine, coarse = spread > (self.high << shift), spread < (self.low << shift)
        m.d.comb += [
            spread.eq(scaled - square),
            shift.eq((self.log2_samples << 1) - FRACTION_BITS),
            grain.eq(Mux(fine, Code.FINE, Mux(coarse, Code.COARSE, Code.MEDIUM))),
        ]
        m.d.sync += [
            self.result.valid.eq(live),
            self.result.lane.eq(lane),
            self.result.spread.eq(spread),
            self.result.granularity.eq(grain),
        ]
        self._total(m, live, spread, grain, shift, self._concluding(m, running, last))

    def _concluding(self, m: Module, running: Any, last: Any) -> Any:
        """In the cycle in which all channels of a matrix that is to be concluded are in the sums."""
        final = Signal()
        closing = Signal()
        concluding = Signal()
        with m.If(self.complete):
            m.d.sync += final.eq(self.conclude)
        with m.Elif(self.busy):
            m.d.sync += final.eq((final | self.conclude) & ~last)
        m.d.sync += [
            closing.eq(self.busy & last & (final | (self.conclude & ~self.complete))),
            concluding.eq((running & closing) | (self.conclude & ~self.complete & ~self.busy)),
        ]
        return concluding

    def _total(self, m: Module, live: Any, spread: Any, grain: Any, shift: Any, concluding: Any) -> None:
        """Sums over the channels of a matrix. The next one may begin in the cycle in which they are given."""
        total = Signal(SPREAD_BITS + COUNT_BITS)
        mean = Signal(METRIC_BITS + COUNT_BITS)
        most = (1 << METRIC_BITS) - 1
        m.d.comb += mean.eq((total >> shift)[: len(mean)] >> self.log2_channels)
        m.d.sync += [
            self.updated.eq(concluding),
            total.eq(Mux(concluding, 0, total) + Mux(live, spread, 0)),
        ]
        with m.If(concluding):
            m.d.sync += self.metric.eq(Mux(mean > most, most, mean))
        for code in Code:
            count = Signal(COUNT_BITS, name=f"count_{code.name.lower()}")
            m.d.sync += count.eq(Mux(concluding, 0, count) + (live & (grain == code)))
            with m.If(concluding):
                m.d.sync += self.counts[code].eq(count)
