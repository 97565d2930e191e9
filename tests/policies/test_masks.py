"""Which weights a decision keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.policies import Class, Decision, Observation, Ranked, damage, folded, kept_blocks, kept_weights
from regrain.policies.damage import small_energy


@st.composite
def cases(draw):
    return (
        draw(st.integers(0, 99)),
        draw(st.integers(1, 70)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 3)),
        draw(st.floats(0.05, 1.0)),
    )


def decision_of(matrix, seed):
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, matrix.channels)
    return Decision(None, classes, matrix.density, matrix.mean, matrix.variance)


@given(cases())
def test_every_class_keeps_what_it_says(make_matrix, case):
    seed, rows, channels, span, density = case
    matrix, weights = make_matrix(seed, rows, channels, span, density=density)
    decision = decision_of(matrix, seed)
    mask = kept_weights(decision, weights, matrix.energy)
    of = np.repeat(decision.classes, span)
    assert mask[:, of == Class.DENSE].all()
    assert not mask[:, of == Class.DROPPED].any()
    assert mask[:, of == Class.FINE].sum() == round(decision.share * (of == Class.FINE).sum() * rows)
    blocks = kept_blocks(decision, matrix.energy)
    ranked = decision.classes == Class.BLOCK
    assert blocks[:, ranked].sum() == round(decision.share * ranked.sum() * len(blocks))
    for row in range(rows):
        np.testing.assert_array_equal(mask[row, of == Class.BLOCK], np.repeat(blocks[row // 16, ranked], span))


@given(cases())
def test_what_is_kept_ranks_above_what_is_dropped(make_matrix, case):
    seed, rows, channels, span, density = case
    matrix, weights = make_matrix(seed, rows, channels, span, density=density)
    decision = Ranked().propose(matrix, Observation(1, matrix.mean, matrix.variance), None)
    blocks = kept_blocks(decision, matrix.energy)
    scores = matrix.energy * decision.variance
    if blocks.any() and not blocks.all():
        assert scores[blocks].min() >= scores[~blocks].max()
    fine = Ranked(fine=True).propose(matrix, Observation(1, matrix.mean, matrix.variance), None)
    mask = kept_weights(fine, weights, matrix.energy)
    squares = np.square(weights) * np.repeat(fine.variance, span)
    if mask.any() and not mask.all():
        assert squares[mask].min() >= squares[~mask].max()


def test_of_equal_blocks_the_first_are_kept():
    decision = Decision(None, np.full(3, Class.BLOCK), 0.5, np.zeros(3), np.ones(3))
    np.testing.assert_array_equal(kept_blocks(decision, np.ones((2, 3))), [[True, True, True], [False, False, False]])


@given(cases())
def test_with_the_means_in_the_bias_the_mean_output_stays(make_matrix, case):
    seed, rows, channels, span, density = case
    matrix, weights = make_matrix(seed, rows, channels, span, density=density)
    decision = decision_of(matrix, seed)
    mask = kept_weights(decision, weights, matrix.energy)
    mean = np.repeat(decision.mean, span)
    np.testing.assert_allclose((weights * mask) @ mean + folded(decision, weights, mask), weights @ mean, atol=1e-9)


@given(cases())
def test_damage_is_the_squared_error_of_independent_inputs(make_matrix, case):
    """Without FINE channels it is exact: E|sum of dropped w (x - m)|^2 for independent x."""
    seed, rows, channels, span, density = case
    matrix, weights = make_matrix(seed, rows, channels, span, density=density)
    decision = decision_of(matrix, seed)
    decision = replace(decision, classes=np.where(decision.classes == Class.FINE, Class.BLOCK, decision.classes))
    mask = kept_weights(decision, weights, matrix.energy)
    inputs = Observation(9, matrix.mean + 0.5, 2.0 * matrix.variance)
    spread = np.repeat(2.0 * matrix.variance + 0.25, span)
    assert damage(decision, matrix, inputs) == pytest.approx(float((np.square(weights) * ~mask @ spread).sum()))
    right = damage(decision, matrix, inputs, mean=inputs.mean)
    assert right <= damage(decision, matrix, inputs) or right == pytest.approx(damage(decision, matrix, inputs))


def test_energy_of_small_numbers_is_that_of_a_normal_distribution():
    squares = np.sort(np.square(np.random.default_rng(0).normal(size=400_000)))
    for part in (0.1, 0.5, 0.9, 0.99):
        expected = squares[: int(part * squares.size)].sum() / squares.sum()
        assert small_energy(part) == pytest.approx(expected, rel=0.02)
