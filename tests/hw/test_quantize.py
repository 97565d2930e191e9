"""Rounding: never beyond an accumulator, zeros stay zeros, and the nearest else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from regrain.core.errors import HardwareError
from regrain.hw.machine import Machine
from regrain.hw.networks.quantize import MOST, Integers, Range

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    elements=st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20),
)


@given(MATRICES, st.sampled_from([18, 20, 24, 32]))
def test_no_accumulator_overflows(weights, bits):
    machine = Machine(accumulator=bits)
    found = Integers.of(weights, machine)
    assert found.values.dtype == np.int8 and np.abs(found.values.astype(int)).max() <= MOST
    assert np.abs(found.values.astype(int)).sum(1).max() <= machine.most_weight
    assert (found.values[weights == 0] == 0).all()
    steps = found.scales[:, None].astype(np.float64)
    inside = np.abs(weights) <= MOST * steps
    assert (np.abs(found.weights() - weights)[inside] <= (0.501 * steps + 1e-6 * np.abs(weights))[inside]).all()


@given(MATRICES)
def test_rounding_twice_changes_nothing(weights):
    once = Integers.of(weights, Machine(accumulator=32))
    assert np.array_equal(Integers.of(once.weights(), Machine(accumulator=32)).values, once.values)


def test_the_largest_weight_has_the_largest_number():
    found = Integers.of(np.array([[1.0, -2.0], [0.0, 0.0]], np.float32), Machine())
    assert found.values.tolist() == [[64, -127], [0, 0]] and found.scales.tolist() == [np.float32(2 / 127), 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad):
    with pytest.raises(HardwareError, match="weights must be finite"):
        Integers.of(np.array([[bad]], np.float32), Machine())


def test_stored_integers_are_run_as_they_are_unless_they_overflow():
    machine = Machine(accumulator=18)
    indices, scales = np.full((2, 8), 127, np.int8), np.ones(2, np.float32)
    assert Integers.stored(indices, scales, machine).values is indices
    long = np.full((1, 64), 127, np.int8)
    found = Integers.stored(long, scales[:1], machine)
    assert np.abs(found.values.astype(int)).sum() <= machine.most_weight
    assert found.weights() == pytest.approx(127.0, rel=0.05)


def rows(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, 1).astype(np.float32)


def test_steps():
    empty = Range(2)
    empty.add(np.zeros((0, 2), np.float32))
    assert empty.step(np.ones(2, np.float32)) == 1.0
    even = Range(1)
    for part in np.array_split(rows(np.linspace(-1, 1, 5000)), 3):
        even.add(part)
    assert even.step(np.ones(1, np.float32)) == pytest.approx(1 / MOST, rel=0.03)
    assert even.step(np.full(1, 2, np.float32)) == pytest.approx(0.5 / MOST, rel=0.03)
    far = Range(1)
    far.add(rows(np.random.default_rng(0).laplace(size=16_000)))
    assert far.most[0] > 8.0 and far.step(np.ones(1, np.float32)) < 0.95 * far.most[0] / MOST
    with pytest.raises(HardwareError, match="inputs must be finite"):
        even.add(np.array([[np.nan]], np.float32))


def test_factors_change_no_product_and_even_out_the_inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) * np.array([1, 1, 30, 1, 0, 1])
    weights = rng.normal(size=(8, 6, 1)).astype(np.float32)
    weights[:, 5] = 0
    seen = Range(6)
    seen.add(x.astype(np.float32))
    factors = seen.factors(weights)
    assert factors[4] == factors[5] == 1 and np.exp(np.log(factors[:4]).mean()) == pytest.approx(1)
    assert factors[2] > 5 * factors[[0, 1, 3]].max()
    flat = weights[:, :, 0].astype(np.float64)
    assert np.allclose((x / factors) @ (flat * factors).T, x @ flat.T)
    losses = []
    for each in (factors, np.ones(6, np.float32)):
        step, made = seen.step(each), Integers.of((flat * each).astype(np.float32), Machine())
        found = np.clip(np.rint(x / each / step), -MOST, MOST) * step @ made.weights().T
        losses.append(np.square(found - x @ flat.T).sum())
    assert losses[0] < 0.5 * losses[1]
    assert np.array_equal(Range(3).factors(np.ones((2, 3, 1), np.float32)), np.ones(3, np.float32))
