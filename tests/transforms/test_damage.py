"""The cost of a change: a quadratic form, its derivative and its inverse."""

from __future__ import annotations

import numpy as np
import pytest


def test_it_is_a_quadratic_form(case) -> None:
    change, damage = case(4, 6)
    whole = np.kron(damage.outputs.astype(float), damage.inputs.astype(float))
    flat = change.reshape(-1).astype(float)
    assert damage.of(change) == pytest.approx(flat @ whole @ flat, rel=1e-5)
    np.testing.assert_allclose(damage.gradient(change).reshape(-1), whole @ flat, rtol=1e-4, atol=1e-5)
    assert damage.of(np.zeros_like(change)) == 0.0


def test_the_gradient_is_half_the_derivative(case) -> None:
    change, damage = case(3, 5)
    for row, column in np.ndindex(3, 5):
        step = np.zeros_like(change)
        step[row, column] = 0.25  # of a quadratic form, central differences are exact for any step
        slope = (damage.of(change + step) - damage.of(change - step)) / 0.5
        assert slope == pytest.approx(2 * damage.gradient(change)[row, column], rel=1e-3, abs=1e-3)


def test_inverses(case) -> None:
    _, damage = case(4, 7)
    np.testing.assert_allclose(damage.free_inputs @ damage.inputs, np.eye(7), atol=1e-4)
    np.testing.assert_allclose(damage.free_outputs @ damage.outputs, np.eye(4), atol=1e-4)
    assert damage.free_inputs.dtype == np.float32


def test_transposed_matrices_cost_the_same(case) -> None:
    change, damage = case(4, 7)
    assert damage.transposed.of(np.ascontiguousarray(change.T)) == pytest.approx(damage.of(change), rel=1e-5)
    assert damage.transposed.transposed.inputs is damage.inputs
