"""Metrics beside their thresholds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import TrainingError
from regrain.core.scores import Scores
from regrain.training.judging import Limit, Reading, judge, read


def reading(value: float, higher: bool = True) -> Reading:
    return Reading({"metric": value}, {"metric": higher})


@given(st.floats(0.1, 100), st.floats(0.01, 0.5), st.floats(-2, 2), st.booleans())
def test_slack_is_one_at_the_baseline_and_zero_at_the_threshold(
    first: float, drop: float, at: float, higher: bool
) -> None:
    limit = Limit(max_drop=drop, higher_is_better=higher)
    sign = 1 if higher else -1
    found = judge(reading(first - sign * (1 - at) * drop * first, higher), reading(first, higher), limit)
    assert found.slack == pytest.approx(at, abs=1e-6)
    assert found.thresholds["metric"] == pytest.approx(first * (1 - sign * drop))


@pytest.mark.parametrize(
    ("limit", "threshold"),
    [(Limit(max_drop=0.1), 0.72), (Limit(max_drop_abs=0.1), 0.7), (Limit(threshold=0.5), 0.5)],
)
def test_limits_give_thresholds(limit: Limit, threshold: float) -> None:
    assert judge(reading(0.8), reading(0.8), limit).thresholds["metric"] == pytest.approx(threshold)


def test_the_worst_metric_decides_and_scores_know_their_direction() -> None:
    limit = Limit(max_drop=0.1)
    first = read({"accuracy": 0.8, "loss": Scores([1.0, 3.0], higher_is_better=False)}, limit)
    assert first.values == {"accuracy": 0.8, "loss": 2.0}
    now = read({"accuracy": 0.79, "loss": Scores([1.0, 3.3], higher_is_better=False)}, limit)
    found = judge(now, first, limit)
    assert (found.worst, found.slack) == ("loss", pytest.approx(0.25))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_says_that_training_diverged(value: float) -> None:
    with pytest.raises(TrainingError, match="metric 'metric' must be finite, not .*: training has diverged, or there"):
        read(value, Limit(threshold=0.5))


@pytest.mark.parametrize(
    ("found", "text"),
    [({}, "evaluate must give a metric or more"), ("good", "'metric' must be a number or Scores, not 'good'")],
)
def test_what_is_no_metric_is_refused(found: object, text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        read(found, Limit(threshold=0.5))


def test_metrics_stay_the_same() -> None:
    with pytest.raises(TrainingError, match=r"metrics must be \['metric'\] as at first, not \['other'\]"):
        judge(Reading({"other": 1.0}, {"other": True}), reading(1.0), Limit(threshold=0.5))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "limit must be just one of"),
        ({"max_drop": 0.1, "threshold": 0.5}, "limit must be just one of"),
        ({"threshold": math.nan}, "and finite"),
        ({"max_drop": 0.0}, "the largest drop must be above 0, not 0.0: train without compression"),
        ({"max_drop": 0.1, "room": 1.0}, "room must be a fraction from 0 to below 1, not 1.0"),
    ],
)
def test_limits_that_are_none_are_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        Limit(**options)
