"""The output-stationary mesh that STONNE calls a TPU (Munoz-Martinez et al., IISWC 2021).

A controller configures the mesh for a fold, sends it one vector of each operand a cycle, and waits until it has all
results. A result passes an accumulator and a bus, a cycle each, and a queue into memory, of which the controller takes
half in a cycle (rounded up: the loop that empties it compares its counter with a length that shrinks).
"""

from __future__ import annotations

from collections.abc import Iterator

from regrain.hw.dataflows.events import Events
from regrain.hw.dataflows.matmul import Grid, Matmul, Run

ACCUMULATE, BUS, MEMORY = 1, 1, 1
"""Cycles from a product to its accumulator, on to the bus, and on to the queue in front of memory."""


def output_stationary_mesh(work: Matmul, grid: Grid) -> Run:
    """Tokens down the rows, outputs along the columns; rows and columns that a fold doesn't need are left out.

    Cycles are how many there were, the one of the last result in memory included.
    """
    mesh = _Mesh(work.inputs, grid.folds(work.tokens, work.outputs))
    mesh.events.after(0, mesh.configure)
    last = mesh.events.run()
    return Run(last + 1, mesh.count, work.macs, grid.rows * grid.columns)


class _Mesh:
    """A fold after the other; `inputs` products to a result."""

    def __init__(self, inputs: int, folds: Iterator[tuple[int, int]]) -> None:
        self.events = Events()
        self.inputs = inputs
        self.folds = folds
        self.fold = next(folds, None)
        self.count = 0
        self.queued = 0
        """Results in front of memory."""
        self.missing = 0
        """Results of this fold that aren't in memory."""

    def configure(self) -> None:
        """A cycle in which nothing else happens. The first operands are sent in the next, and meet in it."""
        assert self.fold is not None
        self.count += 1
        self.missing = self.fold[0] * self.fold[1]
        self.events.after(1, self.meet, 0)

    def meet(self, diagonal: int) -> None:
        """The first operands meet in the elements whose row and column add up to this.

        An element hands them on in the next cycle; all operands have passed it, one pair a cycle, when its sum is full.
        """
        assert self.fold is not None
        rows, columns = self.fold
        first, last = max(0, diagonal - columns + 1), min(rows - 1, diagonal)
        self.events.after(self.inputs - 1 + ACCUMULATE + BUS + MEMORY, self.arrive, last - first + 1)
        if diagonal + 1 < rows + columns - 1:
            self.events.after(1, self.meet, diagonal + 1)

    def arrive(self, results: int) -> None:
        """Results of a diagonal reach the queue; if it was empty, the controller begins to take."""
        if not self.queued:
            self.events.after(0, self.take)
        self.queued += results

    def take(self) -> None:
        """Half of what is there goes into memory."""
        taken = (self.queued + 1) // 2
        self.queued -= taken
        self.missing -= taken
        if self.queued:
            self.events.after(1, self.take)
        elif not self.missing:
            self.fold = next(self.folds, None)
            if self.fold is not None:
                self.events.after(1, self.configure)
