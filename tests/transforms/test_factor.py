"""Factors of Gram matrices: U diag(d) U^T is the matrix with its damping, whatever matrix it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain import TaskError
from regrain.transforms.factor import upper_factor


def gram(seed: int, n: int, samples: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(0, 1, (samples, n))
    return (rows.T @ rows / samples).astype(np.float32)


@given(
    st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([1e-3, 0.1, 0.4]), st.sampled_from([1e-20, 1.0, 1e15])
)
def test_it_reconstructs_the_matrix(seed: int, n: int, damping: float, scale: float) -> None:
    matrix = gram(seed, n, 2 * n) * np.float32(scale)
    upper, diagonal = upper_factor(matrix, damping)
    level = np.trace(matrix, dtype=np.float64) / n
    wide = upper.astype(np.float64)
    assert np.array_equal(np.triu(upper), upper)
    assert (upper.diagonal() == 1).all()
    assert upper.dtype == np.float32
    assert upper.flags.c_contiguous
    assert (diagonal > 0).all()
    np.testing.assert_allclose((wide * diagonal) @ wide.T, matrix + damping * level * np.eye(n), atol=2e-6 * n * level)


def test_fewer_samples_than_sides_are_damped() -> None:
    upper, diagonal = upper_factor(gram(0, 30, 3), 1e-3)
    assert np.isfinite(upper).all()
    assert diagonal.min() > 0


def test_damping_grows_until_it_is_enough() -> None:
    """Rounding may leave a negative eigenvalue: a Gram matrix gets ten times the damping, not an error."""
    matrix = np.diag([1.0, 1.0, -0.02]).astype(np.float32)
    upper, diagonal = upper_factor(matrix, 1e-3)
    level = 1.98 / 3
    assert diagonal[0] == pytest.approx(1 + 0.1 * level)
    assert np.array_equal(upper, np.eye(3))


def test_zeros_give_the_identity() -> None:
    upper, diagonal = upper_factor(np.zeros((4, 4), np.float32), 0.1)
    assert np.array_equal(upper, np.eye(4))
    assert np.array_equal(diagonal, np.ones(4))


@pytest.mark.parametrize("fault", [np.nan, np.inf, -100.0])
def test_what_is_no_gram_matrix(fault: float) -> None:
    matrix = gram(0, 5, 20)
    matrix[2, 2] = fault
    with pytest.raises(TaskError, match="sensitivity must be a finite Gram matrix, not one with trace"):
        upper_factor(matrix, 0.1)
