"""Student's t quantiles beside SciPy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from regrain.accuracy.student import t_quantile


@given(st.floats(0.51, 0.9999), st.integers(1, 10**6))
def test_error_is_as_stated(confidence: float, df: int) -> None:
    assert t_quantile(confidence, df) == pytest.approx(t.ppf(confidence, df), rel=1e-5 if df < 5 else 2e-6)


@pytest.mark.parametrize("df", range(1, 12))
@pytest.mark.parametrize("confidence", [0.51, 0.6, 0.75, 0.9, 0.95, 0.975, 0.99, 0.999, 0.9999])
def test_few_degrees_of_freedom(confidence: float, df: int) -> None:
    assert t_quantile(confidence, df) == pytest.approx(t.ppf(confidence, df), rel=1e-5 if df < 5 else 2e-6)


def test_the_median_is_zero() -> None:
    assert [t_quantile(0.5, df) for df in (1, 2, 3, 100)] == [0, 0, 0, 0]


@pytest.mark.parametrize(("confidence", "df", "name"), [(0.4, 5, "confidence"), (1.0, 5, "confidence"), (0.9, 0, "df")])
def test_refusals(confidence: float, df: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, not"):
        t_quantile(confidence, df)
