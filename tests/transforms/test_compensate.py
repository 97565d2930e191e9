"""Least squares for what is left: as good as solving the whole system, and never worse from step to step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.transforms.compensate import compensate
from regrain.transforms.damage import Damage


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 999), st.floats(0.1, 0.9))
def test_it_converges_to_the_exact_solution(case, exact, rows: int, columns: int, seed: int, density: float) -> None:
    weights, damage = case(rows, columns, seed)
    mask = np.random.default_rng(seed).random(weights.shape) < density
    found = compensate(weights, mask, damage, iterations=200)
    best = exact(weights, mask, damage)
    assert found.dtype == np.float32
    assert not found[~mask].any()
    assert damage.of(found - weights) <= damage.of((best - weights).astype(np.float32)) * (1 + 1e-4) + 1e-6
    np.testing.assert_allclose(found, best, atol=2e-3)


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_no_iteration_costs_more_than_the_one_before(case, seed: int) -> None:
    weights, damage = case(9, 14, seed)
    mask = np.random.default_rng(seed).random(weights.shape) < 0.5
    costs = [damage.of(compensate(weights, mask, damage, iterations=count) - weights) for count in range(30)]
    assert costs[0] == pytest.approx(damage.of(np.where(mask, 0, -weights)))
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(costs))
    assert costs[-1] < 0.9 * costs[0]


def test_it_goes_on_from_where_it_starts(case, exact) -> None:
    weights, damage = case(5, 8)
    mask = np.random.default_rng(1).random(weights.shape) < 0.6
    best = exact(weights, mask, damage).astype(np.float32)
    np.testing.assert_array_equal(compensate(weights, mask, damage, start=best, iterations=0), best)
    np.testing.assert_allclose(compensate(weights, mask, damage, start=best, iterations=3), best, atol=1e-5)
    # What the start has where nothing is kept is dropped.
    assert not compensate(weights, mask, damage, start=np.ones_like(weights), iterations=0)[~mask].any()


@pytest.mark.parametrize("iterations", [0, 1, 50])
def test_all_or_nothing(case, iterations: int) -> None:
    weights, damage = case(4, 6)
    everything = np.ones(weights.shape, bool)
    np.testing.assert_array_equal(compensate(weights, everything, damage, iterations=iterations), weights)
    assert not compensate(weights, ~everything, damage, iterations=iterations).any()


def test_what_depends_on_nothing_else_stays(case) -> None:
    weights, _ = case(4, 6)
    mask = np.arange(24).reshape(4, 6) % 3 > 0
    alone = Damage(np.eye(6, dtype=np.float32), np.eye(4, dtype=np.float32))
    np.testing.assert_array_equal(compensate(weights, mask, alone, iterations=9), np.where(mask, weights, 0))
