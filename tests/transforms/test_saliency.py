"""Scores of units: brain surgery's are the true costs, others the sums that they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.pattern import Score
from regrain.transforms.saliency import brain_surgeon, plain, spread, unit_sums

UNITS = [(1, 1), (4, 1), (2, 3), (4, 4), (6, 1), (6, 2), (1, 8), (1, 3), (6, 8)]


def places(unit: tuple[int, int], shape: tuple[int, int]) -> list[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Each unit's place among units, and its weights."""
    return [
        ((top // unit[0], left // unit[1]), (slice(top, top + unit[0]), slice(left, left + unit[1])))
        for top in range(0, shape[0], unit[0])
        for left in range(0, shape[1], unit[1])
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_brain_surgery_knows_what_dropping_a_unit_costs(case, exact, unit: tuple[int, int]) -> None:
    weights, damage = case(6, 8, 3)
    scores = brain_surgeon(weights, damage, unit)
    for place, window in places(unit, weights.shape):
        mask = np.ones(weights.shape, bool)
        mask[window] = False
        cost = damage.of((exact(weights, mask, damage) - weights).astype(np.float32))
        assert scores[place] == pytest.approx(cost, rel=1e-3)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 8), st.integers(1, 10))
def test_sums_and_masks_of_units(rows: int, columns: int, down: int, across: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, columns))
    sums = unit_sums(values, (down, across))
    units = np.random.default_rng(columns).random(sums.shape) < 0.5
    mask = spread(units, (down, across), values.shape)
    assert mask.shape == values.shape
    for place, window in places((down, across), values.shape):
        assert sums[place] == pytest.approx(values[window].sum())
        assert (mask[window] == units[place]).all()


def test_plain_scores(case) -> None:
    weights, _ = case(6, 8)
    power, variance = np.arange(1.0, 9.0), np.arange(8.0, 0.0, -1.0)
    squares = np.square(weights, dtype=np.float64)
    column = (6, 1)
    np.testing.assert_allclose(plain(weights, column, Score.MAGNITUDE, power, variance)[0], squares.sum(0))
    np.testing.assert_allclose(plain(weights, column, Score.WANDA, power, variance)[0], power * squares.sum(0))
    np.testing.assert_allclose(plain(weights, column, Score.VARIANCE, power, variance)[0], variance * squares.sum(0))
    np.testing.assert_allclose(plain(weights, (1, 8), Score.WANDA, power, None)[:, 0], squares @ power)
    for score in (Score.WANDA, Score.VARIANCE):
        np.testing.assert_allclose(plain(weights, column, score, None, None)[0], squares.sum(0))
