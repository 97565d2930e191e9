"""Moments of inputs: the compiled sums beside the reference, and what a monitor makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels import reference_moments
from regrain.kernels.moments import moments
from regrain.policies import Matrix, Monitor

U = 2.0**-24
SETS = kernels.instruction_sets()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(1, 150), st.integers(0, 99), st.floats(0.0, 1e4))
def test_sums_are_those_of_the_reference(name, rows, columns, seed, offset):
    kernels.use_instruction_set(name)
    random = np.random.default_rng(seed)
    x = (random.normal(size=(rows, columns)) + offset).astype(np.float32)
    mean = (random.normal(size=columns) + offset).astype(np.float32)
    found, expected = moments(x, mean), reference_moments.moments(x, mean)
    distance = np.abs(x.astype(np.float64) - mean)
    # Rounded: the difference, then at most 64 sums; of squares the difference counts twice, and the product once.
    assert (np.abs(found[0] - expected[0]) <= 66 * U * distance.sum(axis=0)).all()
    assert (np.abs(found[1] - expected[1]) <= 68 * U * np.square(distance).sum(axis=0)).all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("column", [0, 15, 63, 64, 80, 82])
def test_numbers_that_are_not_finite_are_noticed_wherever_they_are(name, broken, column):
    """So are those whose squares float32 can't hold."""
    kernels.use_instruction_set(name)
    for row in (0, 63, 64, 69):
        x = np.ones((70, 83), np.float32)
        x[row, column] = broken
        assert moments(x, np.zeros(83, np.float32)) is None


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="mean and sums must have as many columns as x"):
        moments(np.ones((2, 3), np.float32), np.zeros(4, np.float32))


def test_rows_that_are_not_side_by_side_are_copied():
    x = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)
    mean = np.zeros(7, np.float32)
    np.testing.assert_array_equal(moments(x[:, 3:10], mean), moments(x[:, 3:10].copy(), mean))


def watched(channels, every=1):
    return Monitor(Matrix.of("fc", np.ones((16, channels)), np.full(channels, 100.0), np.ones(channels)), every)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 99))
def test_what_is_observed_are_the_moments_of_all_rows(counts, channels, seed):
    random = np.random.default_rng(seed)
    monitor = watched(channels)
    parts = [(100.0 + random.normal(size=(count, channels))).astype(np.float32) for count in counts]
    for x in parts:
        assert monitor.add(x)
    everything = np.concatenate(parts).astype(np.float64)
    seen = monitor.take()
    if not everything.size:
        assert seen is None
        return
    assert (seen.count, seen.discarded) == (len(everything), 0)
    np.testing.assert_allclose(seen.mean, everything.mean(0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(seen.variance, everything.var(0), rtol=1e-4, atol=1e-4)
    assert monitor.take() is None


def test_calls_that_are_not_finite_poison_nothing():
    monitor = watched(3)
    x = np.full((4, 3), 101.0, np.float32)
    broken = x.copy()
    broken[2, 1] = np.nan
    assert monitor.add(x)
    assert not monitor.add(broken)
    assert monitor.add(x)
    seen = monitor.take()
    assert (seen.count, seen.discarded) == (8, 4)
    np.testing.assert_array_equal(seen.mean, np.full(3, 101.0))
    np.testing.assert_array_equal(seen.variance, np.zeros(3))


def test_one_call_in_every_few_is_looked_at():
    monitor = watched(3, every=4)
    assert [monitor.due() for _ in range(9)] == [True, False, False, False] * 2 + [True]
    with pytest.raises(ValueError, match="every must be 1 call or more, not 0"):
        watched(3, every=0)
