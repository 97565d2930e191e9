"""What each unit of a matrix is worth: the loss of dropping it, or a stand-in for that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.core.pattern import Score
from regrain.transforms.damage import Damage, Floats

Unit = tuple[int, int]
Energy = NDArray[np.floating]


def unit_sums(values: NDArray[np.floating], unit: Unit) -> NDArray[np.float64]:
    """Sums of (R, C) values over units, (units down, units across); those at the edges may be smaller."""
    down = np.add.reduceat(values, np.arange(0, values.shape[0], unit[0]), axis=0, dtype=np.float64)
    sums: NDArray[np.float64] = np.add.reduceat(down, np.arange(0, values.shape[1], unit[1]), axis=1)
    return sums


def spread(units: NDArray[np.bool_], unit: Unit, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (R, C) of weights from one of units."""
    rows = np.repeat(units, unit[0], axis=0)[: shape[0]]
    return np.repeat(rows, unit[1], axis=1)[:, : shape[1]]


def plain(
    weights: Floats, unit: Unit, score: Score, power: Energy | None, variance: Energy | None
) -> NDArray[np.float64]:
    """Scores that need no inverse, of (R, C) weights: `power` E[x^2] (C,) of the inputs is for Wanda's, `variance` (C,)
    for v * |W_col|^2; where they are not known every input counts alike.
    """
    squares = np.square(weights, dtype=np.float64)
    by = {Score.WANDA: power, Score.VARIANCE: variance}.get(score)
    return unit_sums(squares if by is None else squares * by, unit)


def brain_surgeon(weights: Floats, damage: Damage, unit: Unit) -> NDArray[np.float64]:
    """The cost of dropping each unit alone when all other weights make up for it (Hassibi and Stork, 1993).

    For a unit with rows P and columns Q that is tr([G^-1]_PP^-1 w [A^-1]_QQ^-1 w^T). `weights` should be at the least
    cost for what was dropped before; of that, the inverses know nothing.
    """
    if unit == (1, 1):
        free = np.outer(damage.free_outputs.diagonal(), damage.free_inputs.diagonal())
        return np.square(weights, dtype=np.float64) / free
    left = _whitened(weights, damage.free_outputs, unit[0])
    both = _whitened(np.ascontiguousarray(left.T), damage.free_inputs, unit[1]).T if unit[1] > 1 else left
    if unit[1] == 1:
        both = (both / np.sqrt(damage.free_inputs.diagonal())).astype(np.float32)
    return unit_sums(np.square(both, dtype=np.float64), unit)


def _whitened(weights: Floats, free: Floats, size: int) -> Floats:
    """L^-1 w for each run of `size` rows, where L L^T is that block of `free`: its squares sum to w^T block^-1 w."""
    found = np.empty_like(weights)
    for start in range(0, len(weights), size):
        run = slice(start, start + size)
        lower = np.linalg.cholesky(free[run, run].astype(np.float64))
        found[run] = np.linalg.solve(lower, weights[run])
    return found
