"""Systolic arrays as SCALE-Sim v3 describes them (Samajdar et al., ISPASS 2020; Raj et al., ISPASS 2025).

One fold of the product is on the array at a time; the next begins in the cycle after the last result of this one has
left. A fold takes the whole array, also where the matrix is smaller: all passes through every row and column.
Every element hands on what it has in the next cycle, and a result leaves in the cycle in which it is complete.

Memory always has the operands ready. Cycles are the number of the last one, counted from 0: so does that simulator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from regrain.hw.dataflows.events import Events
from regrain.hw.dataflows.matmul import Grid, Matmul, Run


def weight_stationary(work: Matmul, grid: Grid) -> Run:
    """A part of the weights stays, inputs down the rows and outputs along the columns; tokens stream through."""
    return _Holding(grid, grid.folds(work.inputs, work.outputs), work.tokens).run(work)


def input_stationary(work: Matmul, grid: Grid) -> Run:
    """A part of the activations stays, inputs down the rows and tokens along the columns; outputs stream through."""
    return _Holding(grid, grid.folds(work.inputs, work.tokens), work.outputs).run(work)


def output_stationary(work: Matmul, grid: Grid) -> Run:
    """A part of the results stays, tokens down the rows and outputs along the columns; inputs stream from two sides."""
    return _Summing(grid, grid.folds(work.tokens, work.outputs), work.inputs).run(work)


DATAFLOWS: dict[str, Callable[[Matmul, Grid], Run]] = {
    "ws": weight_stationary,
    "is": input_stationary,
    "os": output_stationary,
}


class _Array(ABC):
    """One fold after the other; `length` vectors stream through in each."""

    def __init__(self, grid: Grid, folds: Iterator[tuple[int, int]], length: int) -> None:
        self.events = Events()
        self.grid = grid
        self.length = length
        self._folds = folds
        self._count = 0

    def run(self, work: Matmul) -> Run:
        """All folds."""
        self._next(after=0)
        return Run(self.events.run(), self._count, work.macs, self.grid.rows * self.grid.columns)

    @abstractmethod
    def begin(self) -> None:
        """The first cycle of a fold. What follows calls `done` in the last one."""

    def done(self) -> None:
        """The last result of a fold leaves."""
        self._next(after=1)

    def _next(self, after: int) -> None:
        if next(self._folds, None) is not None:
            self._count += 1
            self.events.after(after, self.begin)


class _Holding(_Array):
    """One operand is held by the elements, the other streams from the left; sums go down and leave at the foot."""

    def begin(self) -> None:
        """The first row of held values enters at the top."""
        self.fill(rows=1)

    def fill(self, rows: int) -> None:
        """So many rows are in; the next makes them move down by one."""
        if rows < self.grid.rows:
            self.events.after(1, self.fill, rows + 1)
        else:
            self.events.after(1, self.enter, 0)

    def enter(self, row: int) -> None:
        """The first vector reaches a row: a cycle later than the row above, so that it meets that row's sums."""
        if row + 1 < self.grid.rows:
            self.events.after(1, self.enter, row + 1)
        else:
            self.leave(0)

    def leave(self, column: int) -> None:
        """The first sum of a column is complete; there is one more in each cycle from now on."""
        if column + 1 < self.grid.columns:
            self.events.after(1, self.leave, column + 1)
        else:
            self.events.after(self.length - 1, self.done)


class _Summing(_Array):
    """Elements keep sums; operands stream from the left and from above, each row and column a cycle after the last."""

    def begin(self) -> None:
        """The first operands enter at a corner."""
        self.meet(0, 0)

    def meet(self, row: int, column: int) -> None:
        """An element's first two operands meet. Those further on do so one cycle later for each step.

        A column's sums are complete one a cycle, from the top to the foot, where they leave; so the wave is followed
        down the first column and then along the foot.
        """
        if row + 1 < self.grid.rows:
            self.events.after(1, self.meet, row + 1, column)
        elif column + 1 < self.grid.columns:
            self.events.after(1, self.meet, row, column + 1)
        else:
            self.events.after(self.length - 1, self.done)
