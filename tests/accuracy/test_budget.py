"""Budgets: what they take, how they are written, and how they are judged."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain import BudgetError, RecipeError, RegrainError, Scores, TaskError
from regrain.accuracy import Budget, Drop, Fidelity, FidelityMeter, compare, judge
from regrain.core.budget import parse_fraction, parse_size


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "budget must have a limit: a largest drop, a least fidelity, a largest size or most work"),
        ({"max_drop": 1}, "max_drop must be a fraction from 0 to below 1, as 0.01 or 1%, not 1"),
        ({"max_drop": -0.1}, "max_drop must be .*, not -0.1"),
        ({"max_drop": math.nan}, "max_drop must be .*, not nan"),
        ({"max_drop_abs": math.inf}, "max_drop_abs must be 0 or more, in the metric's units, not inf"),
        ({"min_fidelity": 1.5}, "min_fidelity must be 0 to 1, as 0.995, not 1.5"),
        ({"max_bytes": 0}, "max_bytes must be positive, not 0"),
        ({"bits": 0.0}, "bits must be a positive number of bits per weight, not 0.0"),
        ({"bits": math.nan}, "bits must be .*, not nan"),
        ({"max_drop": 0.01, "confidence": 1.0}, "confidence must be from 0.5 to below 1, not 1.0"),
    ],
)
def test_refusals(arguments: dict[str, float], text: str) -> None:
    with pytest.raises(BudgetError, match=text):
        Budget(**arguments)


def test_zero_is_a_budget() -> None:
    assert Budget(max_drop=0).limits_quality
    assert Budget(min_fidelity=1.0).to_json()["min_fidelity"] == 1.0
    assert not Budget(bits=4).limits_quality


def test_byte_limit_is_the_lower() -> None:
    assert Budget(max_drop=0.01).byte_limit(1000) is None
    assert Budget(bits=4.1).byte_limit(1000) == 512
    assert Budget(bits=4, max_bytes=400).byte_limit(1000) == 400
    assert Budget(bits=2, max_bytes=400).byte_limit(1000) == 250


@pytest.mark.parametrize(
    ("text", "value"), [("1%", 0.01), (" 0.01 ", 0.01), ("0.5 %", 0.005), ("0", 0.0), ("1e-3", 0.001), ("100%", 1.0)]
)
def test_fractions(text: str, value: float) -> None:
    assert parse_fraction(text) == value


@pytest.mark.parametrize("text", ["", "%", "1%%", "1%2", "one", "nan", "inf%", "1 2"])
def test_bad_fractions(text: str) -> None:
    with pytest.raises(BudgetError, match=r"min_fidelity must be a fraction such as 1% or 0.01, not "):
        parse_fraction(text, "min_fidelity")


@pytest.mark.parametrize(
    ("text", "value"),
    [("12MB", 12_000_000), ("500kB", 500_000), ("1.5GB", 1_500_000_000), ("1.1 gb", 1_100_000_000), ("7", 7),
     ("7 B", 7), ("2KiB", 2048), ("1.5 MiB", 1_572_864), ("0.3TB", 300_000_000_000)],
)  # fmt: skip
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "MB", "12 XB", "-1MB", "1e6", "12MBit", "1..5MB", "\u0661MB"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(BudgetError, match="max_size must be a size such as 12MB, 500kB or 1.5GB, not "):
        parse_size(text)


@given(st.integers(0, 10**13))
def test_bytes_are_exact(size: int) -> None:
    assert parse_size(str(size)) == size


def test_errors() -> None:
    error = pickle.loads(pickle.dumps(BudgetError("too small", nearest=3)))
    assert (str(error), error.nearest, type(error)) == ("too small", 3, BudgetError)
    assert BudgetError("too small").nearest is None
    for kind in (BudgetError, RecipeError, TaskError):
        assert issubclass(kind, RegrainError) and issubclass(kind, ValueError)


def drop_of(harmed: int, n: int = 1000) -> Drop:
    after = np.ones(n)
    after[:harmed] = 0
    return compare(Scores(np.ones(n)), Scores(after))


def fidelity_of(noise: float) -> Fidelity:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 16))
    meter = FidelityMeter("embeddings")
    meter.add(rows, rows + noise * rng.normal(size=rows.shape))
    return meter.result()


def test_the_bound_is_judged_not_the_drop() -> None:
    drop = drop_of(8)  # 0.8 %, at most 1.4 %
    assert drop.drop < 0.01 < drop.upper  # type: ignore[operator]
    verdict = judge(Budget(max_drop=0.01), {"accuracy": drop})
    assert not verdict.ok
    assert verdict.margin == pytest.approx(drop.relative_upper / 0.01)  # type: ignore[operator]
    assert verdict.lines == ("accuracy: 0.8 %, at most 1.42 % with 95 % confidence; over the limit of 1 %",)
    assert judge(Budget(max_drop=0.02), {"accuracy": drop}).ok


def test_confidence_is_the_budgets() -> None:
    assert not judge(Budget(max_drop=0.01, confidence=0.9), {"accuracy": drop_of(8)}).ok
    assert judge(Budget(max_drop=0.01, confidence=0.6), {"accuracy": drop_of(8)}).ok


def test_every_metric_must_obey() -> None:
    drops = {"good": drop_of(1), "bad": drop_of(30), "number": compare(0.8, 0.799)}
    verdict = judge(Budget(max_drop=0.03, max_drop_abs=0.02), drops)
    assert len(verdict.checks) == 6
    assert (verdict.ok, verdict.worst.name, verdict.worst.relative) == (False, "bad", False)
    assert verdict.lines[5] == "number: 0.001, no interval is known; within the limit of 0.02"
    assert verdict.to_json()["ok"] is False


def test_too_few_examples_show_nothing() -> None:
    one = compare(Scores([1.0]), Scores([1.0]))
    verdict = judge(Budget(max_drop=0.02, max_drop_abs=0.02), {"accuracy": one})
    assert [check.ok for check in verdict.checks] == [False, False]
    assert "too few examples" in str(verdict.worst)
    assert verdict.worst.to_json()["bound"] is None


def test_fidelity_is_the_metric_where_there_is_no_other() -> None:
    fidelity = fidelity_of(0.1)
    assert fidelity.D == pytest.approx(0.005, rel=0.2)
    for budget in (Budget(max_drop=0.01), Budget(max_drop_abs=0.01), Budget(min_fidelity=0.99)):
        verdict = judge(budget, {}, fidelity)
        assert (verdict.ok, verdict.worst.name, verdict.worst.bound) == (True, "D", fidelity.loss().upper)
    assert not judge(Budget(max_drop=0.004), {}, fidelity).ok


def test_fidelity_is_judged_beside_metrics_only_where_it_is_limited() -> None:
    drops = {"accuracy": drop_of(0)}
    assert judge(Budget(max_drop=0.01), drops, fidelity_of(1.0)).ok
    verdict = judge(Budget(max_drop=0.01, min_fidelity=0.999), drops, fidelity_of(0.1))
    assert (verdict.ok, verdict.worst.name) == (False, "D")


def test_lossless_budgets() -> None:
    assert judge(Budget(max_drop=0), {}, fidelity_of(0.0)).margin == 0.0
    assert judge(Budget(max_drop=0), {"number": compare(0.8, 0.8)}).ok
    verdict = judge(Budget(max_drop=0), {}, fidelity_of(1e-4))
    assert (verdict.ok, verdict.margin) == (False, math.inf)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(BudgetError, match="budget must limit a drop or fidelity to be judged, not size alone"):
        judge(Budget(bits=4), {"accuracy": drop_of(0)})
    with pytest.raises(BudgetError, match="budget must be judged by measured fidelity"):
        judge(Budget(max_drop=0.01), {})
    with pytest.raises(TaskError, match="metric 'score': baseline must not be 0 for a relative drop"):
        judge(Budget(max_drop=0.01), {"score": compare(0.0, 0.1)})
