"""regrain beside each peer at the peer's own D: bytes between two measured points, never beyond them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COARSE = 0.02  # D from which on a peer counts as coarse
LIMIT_COARSE, LIMIT_FINE, LIMIT_NNCODEC = 0.65, 0.78, 0.97


@dataclass(frozen=True, slots=True)
class Point:
    """A file of regrain's that was measured on the same inputs as the peers: its bytes and its D > 0."""

    bytes: int
    D: float


@dataclass(frozen=True, slots=True)
class Match:
    """A peer and what regrain needs at the same D; None where that D lies outside of what was measured.

    ratio = regrain_bytes / bytes, to be at most `limit`.
    """

    tool: str
    config: str
    bytes: int
    D: float
    regrain_bytes: float | None
    limit: float

    @property
    def ratio(self) -> float | None:
        return None if self.regrain_bytes is None else self.regrain_bytes / self.bytes

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.limit


def regrain_points(points: Iterable[tuple[int, float]]) -> list[Point]:
    """Measured (bytes, D), with D descending and bytes ascending, without those that another one beats in both.

    Raises ValueError for what can't be a measurement of a lossy file.
    """
    frontier: list[Point] = []
    for size, damage in sorted(points):
        if size <= 0 or not (math.isfinite(damage) and damage > 0.0):
            raise ValueError(f"points must have bytes > 0 and a finite D > 0, not {(size, damage)!r}")
        if not frontier or damage < frontier[-1].D:
            frontier.append(Point(size, damage))
    return frontier


def bytes_at(frontier: Sequence[Point], damage: float) -> float | None:
    """Bytes at D = `damage`, linear in log D between the neighbors of `frontier`.

    That is how rate depends on distortion: a bit more for each weight makes D four times smaller, so bytes are
    a - b log D. None beyond the ends.
    """
    place = bisect_left([-point.D for point in frontier], -damage)  # the first point that is at least as good
    if place == len(frontier):
        return None
    good = frontier[place]
    if good.D == damage:
        return float(good.bytes)
    if place == 0:
        return None
    coarse = frontier[place - 1]
    share = math.log(coarse.D / damage) / math.log(coarse.D / good.D)
    return coarse.bytes + share * (good.bytes - coarse.bytes)


def frontier_match(rows: Iterable[Mapping[str, Any]], frontier: Sequence[Point]) -> list[Match]:
    """Each row of lossy peers beside regrain's frontier (of `regrain_points`)."""
    return [
        Match(row["tool"], row["config"], row["bytes"], row["D"], bytes_at(frontier, row["D"]), limit(row))
        for row in rows
    ]


def limit(row: Mapping[str, Any]) -> float:
    """The share of a peer's bytes that regrain aims at: nncodec codes entropy, too, the others do not."""
    if row["tool"] == "nncodec":
        return LIMIT_NNCODEC
    return LIMIT_COARSE if row["D"] >= COARSE else LIMIT_FINE
