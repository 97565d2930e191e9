"""Pruning of one matrix: which units are dropped at each density, and what the others become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.core.pattern import Compensation, Score
from regrain.transforms.compensate import compensate
from regrain.transforms.damage import Damage, Floats
from regrain.transforms.saliency import Energy, Unit, brain_surgeon, plain, spread

STEP = 0.1
"""Densities at which scores are found anew: 1 - STEP, 1 - 2 STEP, ... Between two of them weights make up for the
units that are dropped by then, so that the next scores know of them."""

ITERATIONS, LAST = 10, 32
"""Conjugate gradient's iterations at such a density, and at the one that is wanted."""

PARTS = 64
"""Whole channels are dropped a PARTS-th of them at a time, exactly compensated."""


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """A matrix with `density` of its units kept: `units` (units down, units across) True where kept, `weights` (R, C)
    with 0 in the others, `cost` the damage done to the original matrix.
    """

    density: float
    units: NDArray[np.bool_]
    weights: Floats
    cost: float


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Of the inputs (C,): E[x^2] and the variance about the mean; None where they are not known."""

    power: Energy | None = None
    variance: Energy | None = None


def prune(
    weights: Floats,
    damage: Damage,
    unit: Unit,
    densities: Sequence[float],
    *,
    among: tuple[int, int] | None = None,
    score: Score = Score.OBS,
    compensation: Compensation = Compensation.LEAST_SQUARES,
    statistics: Statistics = Statistics(),
) -> Iterator[Pruned]:
    """The matrix (R, C) at each of `densities`, which must fall. What is dropped at one stays dropped at the next ones,
    and the result at a density does not depend on the other densities that are asked for.

    At least one unit is kept. With `among` (N, M) exactly N are kept of each M in a row, fewer of a run at its end.
    Sequential compensation begins as that by least squares.
    """
    solved = compensation in (Compensation.LEAST_SQUARES, Compensation.SEQUENTIAL)
    exact = score is Score.OBS and solved
    if exact and among is None and unit[0] >= len(weights) and weights.shape[1] % unit[1] == 0:
        yield from _channels(weights, damage, unit[1], densities)
    elif exact and among is None and unit[1] >= weights.shape[1] and unit[0] == 1:
        for turned in _channels(np.ascontiguousarray(weights.T), damage.transposed, 1, densities):
            back, units = np.ascontiguousarray(turned.weights.T), np.ascontiguousarray(turned.units.T)
            yield Pruned(turned.density, units, back, turned.cost)
    elif exact:
        yield from _rounds(weights, damage, unit, densities, among)
    else:
        if score is Score.OBS:
            scores = brain_surgeon(weights, damage, unit)
        else:
            scores = plain(weights, unit, score, statistics.power, statistics.variance)
        for density in densities:
            units = _best(scores, np.ones(scores.shape, bool), density, among)
            mask = spread(units, unit, weights.shape)
            kept: Floats = np.where(mask, weights, np.float32(0.0))
            if solved:
                kept = compensate(weights, mask, damage, iterations=LAST)
            yield Pruned(density, units, kept, damage.of(kept - weights))


def _rounds(
    weights: Floats, damage: Damage, unit: Unit, densities: Sequence[float], among: tuple[int, int] | None
) -> Iterator[Pruned]:
    """Drop units in rounds, with all others making up for them after each (brain surgery does so one by one)."""
    found, units = weights, np.ones((-(-weights.shape[0] // unit[0]), -(-weights.shape[1] // unit[1])), bool)
    at = 1.0
    for density in densities:
        while at - STEP > density + 1e-9:
            at = round(at - STEP, 9)
            units = _best(brain_surgeon(found, damage, unit), units, at, None if among is None else _eased(among, at))
            found = compensate(weights, spread(units, unit, weights.shape), damage, start=found, iterations=ITERATIONS)
        wanted = _best(brain_surgeon(found, damage, unit), units, density, among)
        mask = spread(wanted, unit, weights.shape)
        best = compensate(weights, mask, damage, start=found, iterations=LAST)
        yield Pruned(density, wanted, best, damage.of(best - weights))


def _eased(among: tuple[int, int], density: float) -> tuple[int, int]:
    """Of an N:M pattern on its way: as many as that density has room for, at least N."""
    return max(among[0], math.ceil(among[1] * density - 1e-9)), among[1]


def _best(
    scores: NDArray[np.float64], units: NDArray[np.bool_], density: float, among: tuple[int, int] | None
) -> NDArray[np.bool_]:
    """The units with the highest scores among those that are left; of equal ones the first."""
    alive = np.where(units, scores, -1.0)
    if among is None:
        count = max(1, round(density * units.size))
        order = np.argsort(-alive.reshape(-1), kind="stable")[:count]
        kept = np.zeros(units.size, bool)
        kept[order] = True
        return kept.reshape(units.shape) & units
    most, run = among
    rows, columns = alive.shape
    padded = np.full((rows, -(-columns // run) * run), -2.0)
    padded[:, :columns] = alive
    ranks = np.argsort(np.argsort(-padded.reshape(rows, -1, run), axis=2, kind="stable"), axis=2, kind="stable")
    return np.ascontiguousarray((ranks < most).reshape(rows, -1)[:, :columns]) & units


class _Left(NamedTuple):
    """What is left of a matrix whose columns are dropped: their numbers (S,), the weights (R, S) and A_S^-1 (S, S)."""

    columns: NDArray[np.int64]
    weights: NDArray[np.float64]
    free: NDArray[np.float64]


def _channels(weights: Floats, damage: Damage, span: int, densities: Sequence[float]) -> Iterator[Pruned]:
    """Drop input channels, `span` columns each, least cost first. All rows lose the same columns, and then the best
    that is left is known exactly.
    """
    outputs = damage.outputs.astype(np.float64)
    count = weights.shape[1] // span
    part = max(1, count // PARTS)
    left = _Left(np.arange(weights.shape[1]), weights.astype(np.float64), damage.free_inputs.astype(np.float64))
    alive = count
    for density in densities:
        wanted = max(1, round(density * count))
        # Always down to the next whole multiple of a part, so that other densities don't change the way.
        while (after := (alive - 1) // part * part) >= wanted:
            left, alive = _without(left, alive - after, outputs, span), after
        found = left if alive == wanted else _without(left, alive - wanted, outputs, span)
        whole = np.zeros_like(weights)
        whole[:, found.columns] = found.weights
        units = np.zeros((1, count), bool)
        units[0, found.columns[::span] // span] = True
        yield Pruned(density, units, whole, damage.of(whole - weights))


def _without(left: _Left, number: int, outputs: NDArray[np.float64], span: int) -> _Left:
    """Without the channels that cost least (Hassibi and Stork's update, for several columns B at once; S is what was
    left):

        W' = W - W[:, B] (A_S^-1[B, B])^-1 A_S^-1[B, :]
        A_S'^-1 = A_S^-1 - A_S^-1[:, B] (A_S^-1[B, B])^-1 A_S^-1[B, :]
    """
    columns, weights, free = left
    worst = np.argsort(_channel_costs(weights, free, outputs, span), kind="stable")[:number]
    drop = (worst[:, None] * span + np.arange(span)).reshape(-1)
    keep = np.setdiff1d(np.arange(columns.size), drop)
    toward = np.linalg.solve(free[np.ix_(drop, drop)], free[np.ix_(drop, keep)])
    return _Left(
        columns[keep],
        weights[:, keep] - weights[:, drop] @ toward,
        free[np.ix_(keep, keep)] - free[np.ix_(keep, drop)] @ toward,
    )


def _channel_costs(
    weights: NDArray[np.float64], free: NDArray[np.float64], outputs: NDArray[np.float64], span: int
) -> NDArray[np.float64]:
    """tr(G w [A_S^-1]_BB^-1 w^T) of each channel B."""
    count = weights.shape[1] // span
    gram = outputs @ weights
    if span == 1:
        return np.asarray(np.einsum("ij,ij->j", weights, gram) / free.diagonal())
    at = np.arange(count * span).reshape(count, span)
    blocks = np.linalg.inv(free[at[:, :, None], at[:, None, :]])
    energy = np.einsum("rbs,rbt->bst", weights.reshape(-1, count, span), gram.reshape(-1, count, span))
    return np.asarray(np.einsum("bst,bst->b", energy, blocks))
