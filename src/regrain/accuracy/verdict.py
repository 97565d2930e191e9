"""Whether a budget is kept, limit by limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from regrain.accuracy.drops import ZERO_BASELINE, Drop
from regrain.accuracy.fidelity import Fidelity
from regrain.core.budget import Budget
from regrain.core.errors import BudgetError, TaskError


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and what it was held against: `bound`, or `value` where no interval is known. An infinite bound is that
    of too few examples to show anything.

    All three are in the same unit: a fraction of the baseline if `relative`, else the metric's own.
    """

    name: str
    value: float
    bound: float | None
    limit: float
    confidence: float
    relative: bool

    @property
    def judged(self) -> float:
        """The figure that must not exceed the limit."""
        return self.value if self.bound is None else self.bound

    @property
    def ok(self) -> bool:
        """Whether the limit is kept."""
        return self.judged <= self.limit

    @property
    def margin(self) -> float:
        """Judged figure over limit: at most 1 where the limit is kept, and infinite over a limit of 0."""
        if self.limit == 0.0:
            return 0.0 if self.ok else math.inf
        return self.judged / self.limit

    def __str__(self) -> str:
        if self.bound is None:
            bound = "no interval is known"
        elif math.isinf(self.bound):
            bound = "and too few examples to show a bound: two independent ones at least are needed"
        else:
            bound = f"at most {self._figure(self.bound)} with {100 * self.confidence:g} % confidence"
        verdict = "within" if self.ok else "over"
        return f"{self.name}: {self._figure(self.value)}, {bound}; {verdict} the limit of {self._figure(self.limit)}"

    def to_json(self) -> dict[str, str | float | bool | None]:
        """A JSON object with every field."""
        return {
            "name": self.name,
            "value": self.value,
            "bound": None if self.bound is None or math.isinf(self.bound) else self.bound,
            "limit": self.limit,
            "confidence": self.confidence,
            "relative": self.relative,
            "ok": self.ok,
        }

    def _figure(self, number: float) -> str:
        return f"{100 * number:.3g} %" if self.relative else f"{number:.3g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The limits of a budget, one or more; it is kept if all of them are."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every limit is kept."""
        return all(check.ok for check in self.checks)

    @property
    def worst(self) -> Check:
        """The limit that is exceeded most, or that has the least room."""
        return max(self.checks, key=lambda check: (not check.ok, check.margin))

    @property
    def margin(self) -> float:
        """That of the worst check: at most 1 where the budget is kept."""
        return self.worst.margin

    @property
    def lines(self) -> tuple[str, ...]:
        """A sentence for each limit."""
        return tuple(map(str, self.checks))

    def to_json(self) -> dict[str, object]:
        """A JSON object with every check."""
        return {"ok": self.ok, "checks": [check.to_json() for check in self.checks]}


def judge(budget: Budget, drops: Mapping[str, Drop], fidelity: Fidelity | None = None) -> Verdict:
    """Hold every metric's drop, and fidelity where it is limited, against the budget's limits of quality.

    Without metrics, fidelity is the metric and both kinds of drop limit D or KL. Bounds are taken at the budget's
    confidence. An exact copy keeps every budget and need not be judged: its bounds are not 0 here. Raises BudgetError
    if nothing is limited that was measured, TaskError for a relative limit of a metric whose baseline is 0.
    """
    checks: list[Check] = []
    for name, drop in drops.items():
        at = drop.at(budget.confidence)
        if budget.max_drop is not None:
            if at.before == 0.0:
                raise TaskError(f"metric {name!r}: {ZERO_BASELINE}")
            checks.append(
                Check(name, at.relative, _bound(at, at.relative_upper), budget.max_drop, at.confidence, relative=True)
            )
        if budget.max_drop_abs is not None:
            checks.append(
                Check(name, at.drop, _bound(at, at.upper), budget.max_drop_abs, at.confidence, relative=False)
            )
    checks += [_of_fidelity(fidelity, limit, budget.confidence) for limit in _fidelity_limits(budget, bool(drops))]
    if not checks:
        raise BudgetError("budget must limit a drop or fidelity to be judged, not size alone")
    return Verdict(tuple(checks))


def _bound(drop: Drop, upper: float | None) -> float | None:
    """None for bare numbers only: examples too few for an interval can't show that a limit is kept."""
    return math.inf if upper is None and drop.n > 0 else upper


def _fidelity_limits(budget: Budget, metrics: bool) -> list[float]:
    """D or KL must not exceed these."""
    limits = [] if metrics else [limit for limit in (budget.max_drop, budget.max_drop_abs) if limit is not None]
    if budget.min_fidelity is not None:
        limits.append(1.0 - budget.min_fidelity)
    return limits


def _of_fidelity(fidelity: Fidelity | None, limit: float, confidence: float) -> Check:
    if fidelity is None:
        raise BudgetError("budget must be judged by measured fidelity where it limits it, or where no metric is known")
    loss = fidelity.loss(confidence)
    name = "D" if fidelity.kind == "embeddings" else "KL"
    return Check(name, loss.drop, _bound(loss, loss.upper), limit, confidence, relative=False)
