"""What the accelerator is to find of values: exact but for logarithms, whose error is bounded."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from regrain.hw.model.histogram import ENTROPY_ERROR, LOG_ERROR, Profiled, log2_of


def test_the_logarithm_is_within_its_bound():
    """Every count to 2^17, those around each power of two, and some of the others."""
    rng = np.random.default_rng(1)
    near = [2**e + d for e in range(1, 25) for d in range(-300, 300) if 1 <= 2**e + d < 2**24]
    counts = [*range(1, 2**17), *near, *rng.integers(1, 2**24, 100_000).tolist()]
    error = np.array([log2_of(count) for count in counts]) / 2**18 - np.log2(np.array(counts, np.float64))
    assert np.abs(error).max() <= 8e-6 < LOG_ERROR
    assert all(log2_of(2**e) == e << 18 for e in range(24))


def entropy_of(values):
    counts = np.bincount(values.reshape(-1).view(np.uint8))
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log2(shares)).sum())


@given(arrays.arrays(np.int8, st.integers(1, 400), elements=st.integers(-128, 127)))
def test_statistics_are_those_of_numpy(values):
    found = Profiled.of(values)
    assert found.total == values.size
    assert found.sparsity == (values == 0).mean()
    assert (found.lowest, found.highest) == (values.min(), values.max())
    sizes = np.abs(values.astype(np.int64))
    assert found.most == sizes.max()
    assert found.least == (sizes[sizes > 0].min() if sizes.any() else 0)
    assert abs(found.entropy - entropy_of(values)) <= ENTROPY_ERROR
    if sizes.any():
        assert abs(found.dynamic_range - math.log2(sizes.max() / sizes[sizes > 0].min())) <= 2 * LOG_ERROR


@pytest.mark.parametrize("spread", [0.01, 0.3, 2.0, 12.0, 60.0, 1000.0])
def test_entropy_of_many_values_is_within_its_bound(spread):
    values = np.clip(np.rint(np.random.default_rng(2).normal(0, spread, 3_000_000)), -128, 127).astype(np.int8)
    assert abs(Profiled.of(values).entropy - entropy_of(values)) <= ENTROPY_ERROR


def test_the_ends():
    nothing = Profiled.of(np.zeros(0, np.int8))
    assert (nothing.total, nothing.entropy, nothing.sparsity, nothing.dynamic_range) == (0, 0.0, 0.0, 0.0)
    zeros = Profiled.of(np.zeros(2**24 - 1, np.int8))
    assert (zeros.entropy, zeros.sparsity, zeros.most, zeros.least) == (0.0, 1.0, 0, 0)
    every = Profiled.of(np.arange(-128, 128).astype(np.int8))
    assert (every.entropy, every.dynamic_range, every.lowest, every.highest) == (8.0, 7.0, -128, 127)
