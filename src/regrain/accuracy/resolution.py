"""What data can show at all: a budget smaller than that leaves only lossless compression, whatever the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regrain.accuracy.drops import ZERO_BASELINE, Drop, compare
from regrain.accuracy.spread import Spread
from regrain.accuracy.student import t_quantile
from regrain.core.budget import Budget
from regrain.core.errors import TaskError
from regrain.core.scores import Scores

_CONFIDENCES = (0.9, 0.8, 0.7, 0.6)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one metric's examples can resolve of one limit.

    `smallest` is the upper bound of a drop that was measured to be 0, `limit` what it must not exceed, both fractions
    of the baseline if `relative`, else in the metric's own units. `needed` examples of the same kind would be enough;
    `confidence` is the budget's, and `lower_confidence` the highest of 0.9, 0.8, 0.7 and 0.6 below it at which the
    examples that are there would be enough: None if there is none, or no need.
    """

    smallest: float
    limit: float
    relative: bool
    n: int
    needed: int | None  # None for a limit of 0, which nothing resolves
    confidence: float
    lower_confidence: float | None

    @property
    def ok(self) -> bool:
        """Whether a compression that does no harm can be shown to keep the limit."""
        return self.smallest <= self.limit

    def __str__(self) -> str:
        figures = [f"{100 * x:.2g} %" if self.relative else f"{x:.2g}" for x in (self.smallest, self.limit)]
        shown = f"{self.n} examples resolve a drop of {figures[0]} at {100 * self.confidence:g} % confidence"
        if self.ok:
            return f"{shown}: enough for the limit of {figures[1]}"
        more = "no number of examples resolves" if self.needed is None else f"{self.needed} are needed for"
        text = f"{shown}: {more} the limit of {figures[1]}"
        if self.lower_confidence is None:
            return text
        return f"{text}; they would do at a confidence of {self.lower_confidence:g}"


def resolve(before: Scores, budget: Budget, after: Scores | None = None) -> tuple[Resolution, ...]:
    """What the scores of a baseline, and of a trial of compression if there is one, can resolve of `budget`'s drops.

    Without a trial no example is taken to change: the best case of 0/1 scores, and a guess for others, all of which
    change a little and then say more. With one, its changes are taken for what compression does. Empty if the budget
    limits no drop, or `before` is one group of examples. Raises TaskError for a relative limit where the baseline is 0.
    """
    drop = compare(before, before if after is None else after, confidence=budget.confidence)
    limits = (
        (drop.relative_spread, budget.max_drop, True),
        (drop.spread, budget.max_drop_abs, False),
    )
    if budget.max_drop is not None and drop.before == 0.0:
        raise TaskError(ZERO_BASELINE)
    return tuple(
        _of_limit(drop, spread, limit, relative=relative)
        for spread, limit, relative in limits
        if spread is not None and limit is not None
    )


def _of_limit(drop: Drop, spread: Spread, limit: float, *, relative: bool) -> Resolution:
    smallest = spread.above(drop.confidence)
    enough = smallest <= limit
    lower = (c for c in _CONFIDENCES if c < drop.confidence and spread.above(c) <= limit)
    return Resolution(
        smallest=smallest,
        limit=limit,
        relative=relative,
        n=drop.n,
        needed=drop.n if enough else _needed(drop, spread, limit),
        confidence=drop.confidence,
        lower_confidence=None if enough else next(lower, None),
    )


def _needed(drop: Drop, spread: Spread, limit: float) -> int | None:
    """V and s of the bound x² = t² (V + s x) fall as 1 / n, so x is the limit at n t² (V + s limit) / limit²."""
    if limit == 0.0:
        return None
    squared = t_quantile(drop.confidence, spread.groups - 1) ** 2
    return math.ceil(drop.n * squared * (spread.variance + spread.step_up * limit) / limit**2)
