"""Whether a model's embeddings keep their nearest neighbors: what retrieval sees of a compression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regrain.accuracy.outputs import Rows
from regrain.core.scores import Values

NEIGHBORS = 10
MOST_ROWS = 4096
"""Neighbors are looked for among so many rows at most: the work is their number squared."""
FEWEST_ROWS = 2 * NEIGHBORS + 1
"""Of fewer, two models without anything in common would share half the neighbors or more."""

_CHUNK = 512


class Sample:
    """Every s-th row of all that come, s a power of 2 such that at most 2 x MOST_ROWS are held."""

    def __init__(self) -> None:
        self._stride = 1
        self._seen = 0
        self._held: list[tuple[Rows, Rows]] = []  # one row each

    def add(self, original: Rows, compressed: Rows) -> None:
        """Rows (n, d) of both models."""
        for number in range(-self._seen % self._stride, len(original), self._stride):
            self._held.append((original[number].copy(), compressed[number].copy()))
        self._seen += len(original)
        while len(self._held) > 2 * MOST_ROWS:
            self._held = self._held[::2]
            self._stride *= 2

    def rows(self) -> tuple[Rows, Rows]:
        """At most MOST_ROWS rows (k, d) of each model, spread evenly."""
        picked = np.linspace(0, len(self._held) - 1, min(len(self._held), MOST_ROWS)).round().astype(np.int64)
        first, second = zip(*(self._held[number] for number in picked), strict=True)
        return np.stack(first), np.stack(second)


def overlaps(original: Rows, compressed: Rows) -> Values | None:
    """For each row (k,) the share of its NEIGHBORS nearest other rows by cosine that both models agree on, 0 to 1.

    None for fewer than FEWEST_ROWS rows. Which of equally near rows count is not defined.
    """
    if len(original) < FEWEST_ROWS:
        return None
    units = _unit(original), _unit(compressed)
    shares = np.empty(len(original))
    for start in range(0, len(original), _CHUNK):
        first, second = (_nearest(unit, start) for unit in units)
        # Two lists without repetitions: what they share is what is there twice when they are joined.
        joined = np.sort(np.concatenate([first, second], axis=1), axis=1)
        shares[start : start + _CHUNK] = (joined[:, 1:] == joined[:, :-1]).sum(axis=1) / NEIGHBORS
    return shares


def _nearest(unit: NDArray[np.float32], start: int) -> NDArray[np.intp]:
    cosines = unit[start : start + _CHUNK] @ unit.T
    rows = np.arange(len(cosines))
    cosines[rows, start + rows] = -2.0  # a row is no neighbor of itself
    nearest: NDArray[np.intp] = np.argpartition(cosines, -NEIGHBORS, axis=1)[:, -NEIGHBORS:]
    return nearest


def _unit(rows: Rows) -> NDArray[np.float32]:
    narrow = rows.astype(np.float32)
    norms = np.linalg.norm(narrow, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(narrow, norms, out=np.zeros_like(narrow), where=norms > 0.0)
    return unit
