"""Metrics beside their thresholds: how much room there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from regrain.core.errors import TrainingError
from regrain.core.scores import Scores

Metric = float | Scores
Found = Metric | Mapping[str, Metric]
"""What an evaluation gives: one metric, or several by name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What no metric may fall below: `max_drop` is relative to its baseline, `max_drop_abs` in its own units, and
    `threshold` the value itself; just one of them is given. Where `higher_is_better` is False, a drop is a rise;
    `Scores` say it themselves.

    There is room where a metric keeps at least the fraction `room` of what it may lose: between that and the threshold
    nothing is changed, so that a metric that wavers does not make plans waver.
    """

    max_drop: float | None = None
    max_drop_abs: float | None = None
    threshold: float | None = None
    higher_is_better: bool = True
    room: float = 0.25

    def __post_init__(self) -> None:
        given = [value for value in (self.max_drop, self.max_drop_abs, self.threshold) if value is not None]
        if len(given) != 1 or not math.isfinite(given[0]):
            raise TrainingError("limit must be just one of max_drop, max_drop_abs and threshold, and finite")
        if self.threshold is None and given[0] <= 0.0:
            raise TrainingError(f"the largest drop must be above 0, not {given[0]!r}: train without compression")
        if not 0.0 <= self.room < 1.0:
            raise TrainingError(f"room must be a fraction from 0 to below 1, not {self.room!r}")


@dataclass(frozen=True, slots=True)
class Reading:
    """Metrics as they were found, by name, and which way is better."""

    values: Mapping[str, float]
    higher: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Judgment:
    """`slack` is 1 at the baseline, 0 at the threshold, negative beyond; that of the `worst` metric."""

    slack: float
    worst: str
    thresholds: Mapping[str, float]


def read(found: Found, limit: Limit) -> Reading:
    """Plain numbers of what an evaluation gave. Raises TrainingError for NaN, infinity or no metric at all."""
    metrics = found if isinstance(found, Mapping) else {"metric": found}
    values: dict[str, float] = {}
    higher: dict[str, bool] = {}
    for name, metric in metrics.items():
        try:
            values[name] = metric.value if isinstance(metric, Scores) else float(metric)
        except (TypeError, ValueError):
            raise TrainingError(f"metric {name!r} must be a number or Scores, not {metric!r:.60}") from None
        higher[name] = metric.higher_is_better if isinstance(metric, Scores) else limit.higher_is_better
        if not math.isfinite(values[name]):
            raise TrainingError(
                f"metric {name!r} must be finite, not {values[name]!r}: training has diverged, or there is no data"
            )
    if not values:
        raise TrainingError("evaluate must give a metric or more, not an empty mapping")
    return Reading(values, higher)


def judge(now: Reading, baseline: Reading, limit: Limit) -> Judgment:
    """How far each metric is from its threshold. Raises TrainingError where the baseline has other metrics."""
    if now.values.keys() != baseline.values.keys():
        raise TrainingError(f"metrics must be {sorted(baseline.values)} as at first, not {sorted(now.values)}")
    slacks, thresholds = {}, {}
    for name, value in now.values.items():
        sign = 1.0 if now.higher[name] else -1.0
        first = baseline.values[name]
        thresholds[name] = _threshold(first, sign, limit)
        allowed = max(sign * (first - thresholds[name]), 1e-3 * abs(thresholds[name]), 1e-12)
        slacks[name] = sign * (value - thresholds[name]) / allowed
    worst = min(slacks, key=slacks.__getitem__)
    return Judgment(slacks[worst], worst, thresholds)


def _threshold(first: float, sign: float, limit: Limit) -> float:
    if limit.threshold is not None:
        return limit.threshold
    drop = limit.max_drop_abs if limit.max_drop_abs is not None else abs(first) * (limit.max_drop or 0.0)
    return first - sign * drop
