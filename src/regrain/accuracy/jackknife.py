"""What each group of examples contributes to a metric: the change when the group is left out.

Tukey's jackknife, which works for every smooth aggregate, means and rank correlations among them. Clusters are left
out whole, for their examples are not independent (Cameron and Miller 2015). Where an example belongs to two clusters,
as a pair of documents does, leaving out either leaves it out: then a pair's own noise is counted twice, and `shared`
is by how much (the dyadic correction of Fafchamps and Gubert 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError
from regrain.core.scores import Aggregate, Scores, Values, aggregated

MOST_GROUPS = 200
"""An aggregate that is not a mean is computed anew for each group, so units are put together into that many."""

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which group or groups of 0 to `groups` - 1 each example is in: `labels` is (n,) or (n, 2), -1 for none."""

    labels: Labels
    groups: int
    method: str

    def touched(self, examples: NDArray[np.bool_]) -> int:
        """The number of groups that some of `examples` (n,) are in."""
        return len(np.unique(self.labels[examples]))


def grouping(scores: Scores) -> Grouping:
    """The units that are left out: clusters, or else examples; several at a time where that would take too long."""
    noun = "example" if scores.clusters is None else "cluster"
    clusters = np.arange(scores.n) if scores.clusters is None else scores.clusters
    names, inverse = np.unique(clusters, return_inverse=True)
    units, labels = len(names), inverse.reshape(clusters.shape)  # NumPy 2.0 kept the shape, others don't
    if scores.aggregate is None or units <= MOST_GROUPS:
        return Grouping(labels, units, f"delete-one-{noun} jackknife")
    return Grouping(_scattered(units)[labels], MOST_GROUPS, f"delete-a-group jackknife of {units} {noun}s")


def pairs_alone(group: Grouping, scores: Scores) -> Grouping | None:
    """Groups of the examples that are in two groups of `group`; None where there are none."""
    if group.labels.ndim == 1:
        return None
    twice = np.flatnonzero(group.labels[:, 0] != group.labels[:, 1])
    if len(twice) < 2:
        return None
    labels = np.full(scores.n, -1)
    scatter = np.arange(len(twice)) if scores.aggregate is None else _scattered(len(twice))
    labels[twice] = scatter
    return Grouping(labels, int(scatter.max()) + 1, "")


def contributions(values: Values, aggregate: Aggregate | None, group: Grouping) -> Values:
    """(groups,): what the metric loses when a group is left out, less the mean of that."""
    left = _means_without(values, group) if aggregate is None else _aggregates_without(values, aggregate, group)
    difference: Values = left.mean() - left
    return difference


def _scattered(units: int) -> Labels:
    """A group for each unit, sizes equal within one, in an order without rhythm that is the same everywhere."""
    order = np.argsort(np.arange(units, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32), kind="stable")
    labels = np.empty(units, np.int64)
    labels[order] = np.arange(units) % min(units, MOST_GROUPS)
    return labels


def _means_without(values: Values, group: Grouping) -> Values:
    rows = values.reshape(len(values), -1).mean(axis=1)
    columns = group.labels.reshape(len(rows), -1)
    sums, counts = np.zeros(group.groups), np.zeros(group.groups)
    for number, column in enumerate(columns.T):
        new = column >= 0 if number == 0 else column != columns[:, 0]
        sums += np.bincount(column[new], rows[new], group.groups)
        counts += np.bincount(column[new], minlength=group.groups)
    _refuse_universal(counts, len(rows))
    without: Values = (rows.sum() - sums) / (len(rows) - counts)
    return without


def _aggregates_without(values: Values, aggregate: Aggregate, group: Grouping) -> Values:
    columns = group.labels.reshape(len(values), -1)
    kept = [(columns != number).all(axis=1) for number in range(group.groups)]
    _refuse_universal(np.array([len(values) - mask.sum() for mask in kept]), len(values))
    return np.array([aggregated(values[mask], aggregate) for mask in kept])


def _refuse_universal(counts: NDArray[np.number], n: int) -> None:
    if (counts == n).any():
        raise TaskError(f"clusters must leave examples when one is left out, but one is in all {n} of them")
