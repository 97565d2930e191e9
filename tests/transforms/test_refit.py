"""Least squares for a layer whose inputs have changed: as good as solving the whole system for all positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.transforms import refit as module
from regrain.transforms.refit import RIDGE, Moments, refit


def moments(x: np.ndarray, y: np.ndarray) -> Moments:
    """Of inputs (n, C) and what is to come of them (n, R), about the means."""
    mean, target = x.mean(0), y.mean(0)
    return Moments((x - mean).T @ (x - mean) / len(x), (y - target).T @ (x - mean) / len(x), mean, target)


def case(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights, a mask, inputs as they were and as they are, and a Gram matrix of the outputs."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(rows, columns)).astype(np.float32)
    before = rng.normal(size=(40 + columns, columns)) + rng.normal(size=(40 + columns, 1))
    now = before @ (np.eye(columns) + 0.2 * rng.normal(size=(columns, columns))) + 0.5
    outputs = rng.normal(size=(rows, 2 * rows))
    gram = (outputs @ outputs.T / (2 * rows) + 0.05 * np.eye(rows)).astype(np.float32)
    return weights, rng.random(weights.shape) < 0.6, before, now, gram


def cost(found: np.ndarray, weights: np.ndarray, x: np.ndarray, y: np.ndarray, gram: np.ndarray) -> float:
    """What `refit` minimizes, position by position."""
    centered = x - x.mean(0)
    missed = (y - y.mean(0)) - centered @ found.T
    ridge = RIDGE * np.trace(centered.T @ centered) / len(x) / x.shape[1]
    change = found - weights
    return float(np.einsum("ni,ij,nj->", missed, gram, missed) / len(x) + ridge * np.trace(change.T @ gram @ change))


def exact(weights: np.ndarray, mask: np.ndarray, x: np.ndarray, y: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Ordinary least squares in all weights that are kept, with an equation for each output of each position."""
    root, centered = np.linalg.cholesky(gram.astype(float)).T, x - x.mean(0)
    ridge = np.sqrt(RIDGE * np.trace(centered.T @ centered) / x.shape[1])
    inputs = np.concatenate([centered, ridge * np.eye(x.shape[1])])
    targets = np.concatenate([y - y.mean(0), ridge * weights.T]) @ root.T
    found = np.zeros(weights.shape)
    found[mask] = np.linalg.lstsq(np.kron(root, inputs)[:, mask.reshape(-1)], targets.T.reshape(-1), rcond=None)[0]
    return found


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 999))
def test_it_is_the_solution_of_the_whole_system(rows: int, columns: int, seed: int) -> None:
    weights, mask, before, now, gram = case(rows, columns, seed)
    y = before @ weights.T
    found = refit(weights, mask, np.where(mask, weights, np.float32(0)), moments(now, y), gram)
    assert found.dtype == np.float32
    assert not found[~mask].any()
    np.testing.assert_allclose(found, exact(weights, mask, now, y, gram), atol=5e-3)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(0, 5))
def test_it_is_never_worse_than_its_start(seed: int, iterations: int) -> None:
    weights, mask, before, now, gram = case(12, 16, seed)
    y = before @ weights.T
    start = np.where(mask, weights + np.float32(0.1), np.float32(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ITERATIONS", iterations)
        found = refit(weights, mask, start, moments(now, y), gram)
    assert cost(found, weights, now, y, gram) <= cost(start, weights, now, y, gram) * (1 + 1e-5)


def test_nothing_changes_where_nothing_has_changed() -> None:
    weights, _, before, _, gram = case(5, 9, 1)
    found = refit(weights, np.ones(weights.shape, bool), weights, moments(before, before @ weights.T), gram)
    np.testing.assert_allclose(found, weights, atol=1e-6)


@pytest.mark.parametrize("whole", [True, False])
def test_few_samples_and_inputs_that_are_never_active(whole: bool) -> None:
    """Gram matrices without an inverse: what inputs never said stays as it was."""
    weights, mask, before, now, gram = case(6, 20, 3)
    before, now = before[:4], now[:4].copy()
    now[:, 7:12] = 0.0
    mask = mask | whole
    start = np.where(mask, weights, np.float32(0))
    y = before @ weights.T
    found = refit(weights, mask, start, moments(now, y), gram)
    assert np.isfinite(found).all()
    assert cost(found, weights, now, y, gram) <= cost(start, weights, now, y, gram) * (1 + 1e-5)
    if whole:
        np.testing.assert_allclose(found[:, 7:12], weights[:, 7:12], atol=1e-6)


def test_without_any_input_the_start_stays() -> None:
    weights, mask, before, now, gram = case(3, 4, 0)
    start = np.where(mask, weights, np.float32(0))
    assert refit(weights, mask, start, moments(0 * now, before @ weights.T), gram) is start
