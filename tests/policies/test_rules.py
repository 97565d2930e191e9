"""What each rule proposes, and what holds for every policy of the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.granularity import Granularity
from regrain.policies import (
    DEFAULT,
    POLICIES,
    Bank,
    Class,
    Control,
    Controlled,
    Decision,
    NormalizedVariance,
    Observation,
    Ranked,
    Thresholds,
    TokenSkip,
    VarianceThresholds,
    damage,
    kept_weights,
)
from regrain.policies.auto import rule
from regrain.policies.bank import distance
from regrain.policies.token_skip import calibrate, token_scores

EAGER = Control(window=1, confirm=0, dwell=0)


@pytest.fixture(scope="session")
def banked(make_matrix, make_observation):
    """A matrix with three candidates, each for the inputs of that seed."""
    matrix, _ = make_matrix()
    candidates = [Ranked().propose(matrix, make_observation(seed), None) for seed in range(3)]
    return replace(matrix, candidates=tuple(candidates))


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_pure_and_keep_to_the_budget(name, banked, make_observation):
    matrix = replace(banked, threshold=0.3) if name == "token-skip" else banked
    policy = POLICIES[name]
    assert policy.name == name
    runs = []
    for _ in range(2):
        state, decision = policy.start(matrix)
        run = [decision]
        for seed in (0, 0, 1, 1, 1, 1, 2, 2, 2, 2):
            again = policy.decide(state, matrix, make_observation(seed, count=1024))
            state, decision = policy.decide(state, matrix, make_observation(seed, count=1024))
            assert again == (state, decision)
            run.append(decision)
        runs.append(run)
    assert runs[0] == runs[1]
    made = [decision for decision in runs[0] if decision is not None]
    assert all(decision.density <= matrix.density for decision in made)
    assert (len(made) == 1) == (name == "static")


def test_the_default_is_in_the_table():
    assert DEFAULT in POLICIES


@given(st.integers(0, 99), st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.booleans())
def test_ranked_keeps_as_much_as_the_budget_says(make_matrix, seed, density, dense, dropped, fine):
    matrix, weights = make_matrix(seed, rows=64, channels=20, density=density)
    decision = Ranked(dense, dropped, fine).propose(matrix, Observation(9, matrix.mean, matrix.variance), None)
    kept = kept_weights(decision, weights, matrix.energy).mean()
    assert kept == pytest.approx(density, abs=0.5 / 20 + 0.5 / 80)  # half a channel and half a block
    scores = decision.variance * matrix.column_energy
    for better, worse in ((Class.DENSE, Class.BLOCK), (Class.BLOCK, Class.DROPPED), (Class.FINE, Class.DROPPED)):
        if (decision.classes == better).any() and (decision.classes == worse).any():
            assert scores[decision.classes == better].min() >= scores[decision.classes == worse].max()


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_scale_changes_no_rank(make_matrix, make_observation, seed, scale):
    matrix, weights = make_matrix(seed)
    seen = make_observation(seed)
    scaled = Observation(seen.count, seen.mean, scale * seen.variance)
    for one in (Ranked(), Ranked(0.4, 0.4), NormalizedVariance()):
        masks = [kept_weights(one.propose(matrix, x, None), weights, matrix.energy) for x in (seen, scaled)]
        if isinstance(one, Ranked) or scale == 1.0:
            np.testing.assert_array_equal(*masks)
    levels = [NormalizedVariance().propose(matrix, x, None).classes for x in (seen, scaled)]
    assert (levels[0] != levels[1]).sum() <= 1  # a channel that stands on a boundary


@given(st.integers(0, 99))
def test_no_pattern_of_blocks_is_expected_to_lose_less_than_ranked(make_matrix, seed):
    matrix, _ = make_matrix(seed, rows=64)
    inputs = Observation(9, matrix.mean, matrix.variance)
    best = damage(Ranked().propose(matrix, inputs, None), matrix, inputs)
    for other in (Ranked(1.0, 1.0), Ranked(0.5, 0.0), Ranked(0.0, 0.5)):
        proposed = other.propose(matrix, inputs, None)
        blocks = 4 * 12 * matrix.density
        if (
            abs(
                (proposed.classes == Class.DENSE).sum() * 4
                + proposed.share * 4 * (proposed.classes == 1).sum()
                - blocks
            )
            < 1e-9
        ):
            assert best <= damage(proposed, matrix, inputs) + 1e-9 or round(blocks) != blocks


def test_a_channel_keeps_its_place_within_the_margin(make_matrix):
    matrix, _ = make_matrix(channels=2, rows=16, density=0.5)
    columns = Ranked(1.0, 1.0, margin=0.1)

    def seen(first, second):
        return Observation(9, np.zeros(2), np.array([first, second]) / matrix.column_energy)

    current = columns.propose(matrix, seen(1.0, 0.5), None)
    np.testing.assert_array_equal(current.classes, [Class.DENSE, Class.DROPPED])
    for second, first_stays in ((1.15, True), (1.25, False)):
        classes = columns.propose(matrix, seen(1.0, second), current).classes
        assert (classes[0] == Class.DENSE) == first_stays


def test_thresholds_are_the_ones_of_the_scheme(make_matrix):
    matrix, _ = make_matrix(channels=6, density=0.5)
    seen = Observation(9, np.zeros(6), np.array([0.1, 0.19, 0.2, 0.5, 0.51, 3.0]))
    classes = VarianceThresholds().propose(matrix, seen, None).classes
    assert sorted(classes[:2]) == [Class.DENSE, Class.DROPPED]  # half of the coarse channels is dropped
    np.testing.assert_array_equal(classes[2:], [Class.BLOCK, Class.BLOCK, Class.FINE, Class.FINE])
    turned = VarianceThresholds(inverted=True).propose(matrix, seen, None).classes
    np.testing.assert_array_equal(turned[:4], [Class.FINE, Class.FINE, Class.BLOCK, Class.BLOCK])


@pytest.mark.parametrize(
    ("mean", "granularity"), [(0.1, Granularity.COARSE), (0.3, Granularity.MEDIUM), (0.6, Granularity.FINE)]
)
def test_a_whole_matrix_follows_its_mean_variance(make_matrix, mean, granularity):
    matrix, _ = make_matrix()
    variance = np.full(12, mean)
    variance[0] += 0.05
    variance[1] -= 0.05
    decision = VarianceThresholds(scope="matrix").propose(matrix, Observation(9, np.zeros(12), variance), None)
    assert decision.granularity is granularity


def test_nothing_is_dropped_at_density_1(make_matrix, make_observation):
    matrix, weights = make_matrix(density=1.0)
    for one in (Ranked(), Ranked(0.4, 0.4), Ranked(fine=True), VarianceThresholds(), NormalizedVariance()):
        decision = one.propose(matrix, make_observation(0), None)
        assert decision.granularity is None
        assert kept_weights(decision, weights, matrix.energy).all()


def test_inputs_that_do_not_vary_are_average(make_matrix):
    matrix, _ = make_matrix()
    decision = NormalizedVariance().propose(matrix, Observation(9, np.zeros(12), np.zeros(12)), None)
    np.testing.assert_array_equal(decision.classes, np.full(12, Class.FINE))


def test_the_bank_takes_what_was_made_for_such_inputs(banked, make_observation):
    for seed in range(3):
        assert Bank().propose(banked, make_observation(seed), None).candidate == seed


def test_the_bank_stays_with_a_candidate_that_is_about_as_near(banked, make_observation):
    first, second = (make_observation(seed) for seed in (0, 1))
    current = Bank().propose(banked, first, None)
    assert distance(first, banked.candidates[0]) == 0.0
    assert distance(second, banked.candidates[0]) > 0.0
    assert Bank(margin=1.0).propose(banked, second, current).candidate == 0
    assert Bank(margin=0.1).propose(banked, second, current).candidate == 1


@given(st.integers(0, 99), st.integers(0, 99))
def test_divergence_is_that_of_normal_distributions(make_matrix, make_observation, seed, other):
    matrix, _ = make_matrix()
    seen, theirs = make_observation(seed), make_observation(other)
    decision = Ranked().propose(matrix, theirs, None)
    x = np.linspace(-40.0, 40.0, 20001)
    total = 0.0
    for c in range(12):
        logs = [
            -0.5 * np.square(x - one.mean[c]) / one.variance[c] - 0.5 * np.log(2 * np.pi * one.variance[c])
            for one in (seen, theirs)
        ]
        total += float(np.sum(np.exp(logs[0]) * (logs[0] - logs[1])) * (x[1] - x[0]))
    assert distance(seen, decision) == pytest.approx(total, rel=1e-3, abs=1e-6)


def test_a_bank_needs_candidates(make_matrix, make_observation):
    matrix, _ = make_matrix()
    with pytest.raises(ValueError, match="candidates of fc must be compensated patterns, one or more, not none"):
        Bank().propose(matrix, make_observation(0), None)


def test_auto_takes_the_rule_that_a_matrix_is_prepared_for(make_matrix, banked):
    matrix, _ = make_matrix()
    assert rule(matrix) == Ranked()
    assert rule(replace(matrix, candidates=banked.candidates[:1])) == Ranked()
    assert rule(banked) == Bank()
    assert rule(replace(banked, threshold=0.5)) == TokenSkip()


@settings(max_examples=30)
@given(st.integers(0, 99), st.floats(0.1, 0.9))
def test_the_calibrated_threshold_keeps_that_share(seed, density):
    random = np.random.default_rng(seed)
    inputs, mean, energy = random.normal(size=(300, 20)), random.normal(size=20), np.exp(random.normal(size=20))
    threshold = calibrate(inputs, mean, energy, density)
    assert (token_scores(inputs, mean, energy) >= threshold).mean() == pytest.approx(density, abs=1e-3)


def test_a_threshold_needs_finite_inputs():
    for inputs in (np.zeros((0, 3)), np.array([[1.0, np.nan, 0.0]])):
        with pytest.raises(ValueError, match="inputs must be finite numbers of one token or more"):
            calibrate(inputs, np.zeros(3), np.ones(3), 0.5)


def test_token_skip_asks_for_its_threshold_and_follows_the_mean(make_matrix, make_observation):
    matrix, _ = make_matrix(threshold=0.25)
    policy = Controlled(TokenSkip(), EAGER)
    state, start = policy.start(matrix)
    state = replace(state, usual=1e-9)
    assert (start.threshold, start.granularity, start.density) == (0.25, Granularity.COARSE, matrix.density)
    assert (start.classes == Class.DENSE).all()
    seen = make_observation(3)
    _, decision = policy.decide(state, matrix, seen)
    assert decision.same_weights(start)
    np.testing.assert_allclose(decision.mean, seen.mean, rtol=0, atol=1e-3)


def test_literal_thresholds_switch_with_the_scale_of_the_inputs(make_matrix):
    """Half the contrast divides every variance by four: the scheme's thresholds see another network."""
    matrix, _ = make_matrix()
    seen = Observation(4096, matrix.mean, np.full(12, 0.6))
    dim = Observation(4096, matrix.mean / 2, np.full(12, 0.15))
    policy = Controlled(VarianceThresholds(Thresholds()), EAGER)
    state, _ = policy.start(replace(matrix, variance=seen.variance))
    assert (state.current.classes == Class.FINE).all()
    _, decision = policy.decide(replace(state, usual=1e-9), matrix, dim)
    assert decision.granularity is Granularity.COARSE


def test_static_starts_with_the_stored_pattern(banked, make_observation):
    state, decision = POLICIES["static"].start(banked)
    assert decision == banked.candidates[0]
    assert POLICIES["static"].decide(state, banked, make_observation(2, count=10**6)) == (state, None)


def test_decisions_are_values(banked):
    with pytest.raises(AttributeError):
        Decision(None, [0], 1.0, [0.0], [1.0]).density = 0.5
