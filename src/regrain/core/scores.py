"""What an evaluation found, example by example: so that two models can be compared on the same examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrain.core.errors import TaskError

Values = NDArray[np.float64]
Aggregate = Callable[[Values], float]

LARGEST = 1e100
"""Scores are no larger: sums of their squares must not overflow."""


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Scores:
    """One score for each example, and how they make up the metric.

    `values` is (n,) or (n, m), n >= 1 examples, all finite; booleans count as 0 and 1. `aggregate` makes the metric
    of them, in its own units; None is the mean of all values. It is called again with examples left out.
    `clusters` names what examples have in common, when they are not independent: (n,) integers, or (n, 2) where an
    example belongs to two clusters, as a pair of documents does. Both arrays are copied, and read-only.

    >>> Scores([1, 0, 1, 1]).value
    0.75

    Raises TaskError, as an evaluation that gives anything else is wrong.
    """

    values: Values
    higher_is_better: bool
    aggregate: Aggregate | None
    clusters: NDArray[np.int64] | None

    def __init__(
        self,
        values: ArrayLike,
        higher_is_better: bool = True,
        aggregate: Aggregate | None = None,
        clusters: ArrayLike | None = None,
    ) -> None:
        if aggregate is not None and not callable(aggregate):
            raise TaskError(f"aggregate must be a function from values to a number, not {aggregate!r}")
        array = _values(values)
        object.__setattr__(self, "values", array)
        object.__setattr__(self, "higher_is_better", bool(higher_is_better))
        object.__setattr__(self, "aggregate", aggregate)
        object.__setattr__(self, "clusters", None if clusters is None else _clusters(clusters, len(array)))

    @property
    def n(self) -> int:
        """Number of examples, at least 1."""
        return len(self.values)

    @property
    def value(self) -> float:
        """The metric. Raises TaskError if it isn't finite."""
        return aggregated(self.values, self.aggregate)

    def part(self, mask: NDArray[np.bool_]) -> Scores:
        """The examples where `mask` (n,) is true, at least one."""
        clusters = None if self.clusters is None else self.clusters[mask]
        return Scores(self.values[mask], self.higher_is_better, self.aggregate, clusters)


def aggregated(values: Values, aggregate: Aggregate | None) -> float:
    """The metric of some examples, at least one. Raises TaskError if it isn't finite."""
    result = float(values.mean() if aggregate is None else aggregate(values))
    if not math.isfinite(result):
        raise TaskError(f"aggregate must give a finite number, not {result!r} of {len(values)} examples")
    return result


def _values(values: ArrayLike) -> Values:
    try:
        array = np.asarray(values, np.float64).copy()
    except (TypeError, ValueError, RuntimeError) as error:  # the last from tensors that have gradients
        raise TaskError(f"values must be an array of numbers, not {type(values).__name__}: {error}") from None
    if array.ndim not in (1, 2) or array.size == 0:
        raise TaskError(f"values must have shape (n,) or (n, m) and hold a score or more, not {array.shape}")
    if np.isfinite(array).all() and float(np.abs(array).max()) > LARGEST:
        raise TaskError(f"values must be at most {LARGEST:g} in magnitude, not {float(np.abs(array).max())!r}")
    if not np.isfinite(array).all():
        raise TaskError(f"values must be finite, not {array[~np.isfinite(array)][0]!s} among {array.size} scores")
    array.flags.writeable = False
    return array


def _clusters(clusters: ArrayLike, n: int) -> NDArray[np.int64]:
    array = np.asarray(clusters)
    if array.dtype.kind not in "iu" or array.shape not in ((n,), (n, 2)):
        raise TaskError(f"clusters must be integers of shape ({n},) or ({n}, 2), not {array.dtype} {array.shape}")
    array = array.astype(np.int64, copy=True)
    array.flags.writeable = False
    return array
