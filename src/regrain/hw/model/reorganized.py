"""A dynamic matrix in the cycle model: tiles out of its master copy, at the granularity that control wants of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from regrain.hw.model.codes import Code
from regrain.hw.model.decide import HEEDED, Decided, Deciding, boundary, tick
from regrain.hw.model.pace import Pace
from regrain.hw.model.program import Program, Tile
from regrain.hw.model.repack import Master, repacked

Observation = tuple[int, int]
"""A cycle, and the metric that is told to control in it."""


@dataclass(eq=False)
class Reorganized:
    """A `Supply` of tiles re-packed by the reorganizer while the array computes.

    `state`: of control when the run begins. `observations`: metrics that come while it runs, by rising cycles. Of each
    tile, `codes` has the granularity, `tiles` what was sent, and `swaps` when it became the active one.
    """

    master: Master
    shape: tuple[int, int]
    deciding: Deciding
    state: Decided
    observations: Sequence[Observation] = ()
    pace: Pace = field(default_factory=Pace)
    codes: list[Code] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    swaps: list[int] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """See `Supply`."""
        return self.shape[1]

    def __len__(self) -> int:
        return len(self.master.weights)

    def take(self, place: int, free: int) -> tuple[Tile, int]:
        """See `Supply`. The granularity is that of the cycle in which the reorganizer takes the tile's command."""
        code = self.at(self.pace.command(1)).next
        tile = repacked(self.master, place, code)
        sent = self.pace.tile(self.master, place, code, asked=1, ready=lambda cycle: max(cycle, free))
        self.codes.append(code)
        self.tiles.append(tile)
        return tile, sent.words[-1]

    def swapped(self, place: int, cycle: int) -> None:
        """See `Supply`."""
        self.swaps.append(cycle)

    def at(self, cycle: int) -> Decided:
        """Control's state in a cycle: after all that happened before it. A metric that meets a switch doesn't count."""
        swaps = [(when, 0, place) for place, when in enumerate(self.swaps)]
        metrics = [(when + HEEDED, 1, metric) for when, metric in self.observations]
        state, switched = self.state, -1
        for when, kind, value in sorted(swaps + metrics):
            if when >= cycle:
                break
            if kind == 0:
                after = boundary(self.deciding, state, ready=self.codes[value] == state.next)
                switched, state = (when if after != state else switched), after
            elif when != switched:
                state = tick(self.deciding, state, value)
        return state

    def program(self) -> Program:
        """What was run, once all tiles are."""
        return Program(self.shape, tuple(self.tiles), tuple(range(len(self.tiles))), self.master.gather)
