"""When something changes: hysteresis, dwell, costs, and going back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.policies import Control, Controlled, Costs, Decision, Observation, Ranked, State, Thresholds, revert
from regrain.policies.controller import believed, chance, followed, merged, stale, worth
from regrain.policies.divergence import divergence


@dataclass(frozen=True)
class Wish:
    """Proposes what it was made with, worth what it says."""

    decision: Decision
    value: float = 1.0
    name: str = "wish"

    def propose(self, matrix, inputs, current):
        return replace(self.decision, mean=inputs.mean)

    def gain(self, matrix, inputs, proposed, current):
        return self.value


KNOWN, FAR = 1e-9, 1e9
"""Usual distances, in nats: of a stream that never varies, so that all is believed, and of one that says nothing."""


def patterns(matrix):
    """Two that differ."""
    first = Decision(None, np.array([0] * 6 + [3] * 6), 0.5, matrix.mean, matrix.variance)
    return first, replace(first, classes=first.classes[::-1])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3000)), max_size=40), st.integers(0, 9000))
def test_between_two_switches_there_is_dwell(make_matrix, make_observation, turns, dwell):
    matrix, _ = make_matrix()
    control = Control(dwell=dwell, confirm=0, memory=512, window=1, costs=Costs(least=-1.0, reorganization=0.0))
    policy = Controlled(Ranked(), control)
    state, _ = policy.start(matrix)
    served, last = 0, 0
    for seed, count in turns:
        before = state.current
        state, decision = policy.decide(state, matrix, make_observation(seed, count=count))
        served += count
        if decision is not None:
            assert state.current == decision
            if not decision.same_weights(before):
                assert served - last >= dwell
                last = served


def test_what_is_wanted_for_too_short_a_time_never_happens(make_matrix, make_observation):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    control = Control(confirm=1000, dwell=0, refresh=np.inf)
    state = replace(Controlled(Wish(first), control).start(matrix)[0], usual=FAR)
    for _ in range(20):
        for wish, count in ((second, 999), (first, 1)):
            state, decision = Controlled(Wish(wish), control).decide(state, matrix, make_observation(0, count=count))
            assert decision is None
    state, decision = Controlled(Wish(second), control).decide(state, matrix, make_observation(0, count=1000))
    assert decision is not None
    assert decision.same_weights(second)


def test_an_estimate_of_too_few_tokens_decides_nothing(make_matrix, make_observation):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    policy = Controlled(Wish(second), Control(window=512, confirm=0, dwell=0))
    state = replace(policy.start(matrix)[0], current=first, usual=FAR)
    state, decision = policy.decide(state, matrix, make_observation(0, count=511))
    assert decision is None
    state, decision = policy.decide(state, matrix, make_observation(0, count=1))
    assert decision is not None


@pytest.mark.parametrize(("usual", "acts"), [(0.01, True), (1.0, False)])
def test_what_is_plainly_another_stream_is_acted_on_at_once(make_matrix, make_observation, usual, acts):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    policy = Controlled(Wish(second), Control(window=512, confirm=512, dwell=0, refresh=np.inf))
    seen = Observation(512, matrix.mean, matrix.variance)
    state = replace(policy.start(matrix)[0], current=first, estimate=seen, usual=usual)
    away = replace(seen, count=64, mean=seen.mean + 0.5 * np.sqrt(seen.variance))  # 12 channels: 1.5 nats
    state, decision = policy.decide(state, matrix, away)
    assert (decision is not None) == acts
    assert state.estimate.count == (64 if acts else 576)


def test_chance_is_more_than_what_keeps_an_estimate_from_the_truth():
    random, size, memory, channels = np.random.default_rng(4), 128, 1024, 300
    control, truth = Control(memory=memory), np.ones(channels)
    state, found = State(Decision(None, np.zeros(channels, int), 1.0, 0 * truth, truth)), []
    for turn in range(60):
        x = random.normal(size=(size, channels))
        seen = Observation(size, x.mean(0), x.var(0))
        estimate, usual = followed(state, seen, control)
        state = replace(state, estimate=estimate, usual=usual)
        if turn > 30:
            distance = divergence(estimate.mean, estimate.variance, 0 * truth, truth)
            found.append(chance(usual, seen, estimate, memory) / distance)
    assert 1.0 < np.mean(found) < 2.1


def test_an_image_is_worth_few_tokens(make_matrix, make_observation):
    matrix, _ = make_matrix(positions=196)
    policy = Controlled(Ranked(), Control(window=512, confirm=0, dwell=0, plain=np.inf))
    state = replace(policy.start(matrix)[0], usual=KNOWN)
    state, decision = policy.decide(state, matrix, make_observation(1, count=31 * 196))
    assert (state.estimate.count, decision) == (31 * 16, None)
    state, decision = policy.decide(state, matrix, make_observation(1, count=196))
    assert state.estimate.count == 512
    assert decision is not None


def test_no_tokens_change_nothing(make_matrix):
    matrix, _ = make_matrix()
    policy = Controlled(Ranked())
    state, _ = policy.start(matrix)
    assert policy.decide(state, matrix, Observation(0, np.zeros(12), np.zeros(12))) == (state, None)


def test_a_switch_that_gains_too_little_is_not_made(make_matrix, make_observation):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    costs = Costs(reorganization=100.0, horizon=1000, least=0.02, price=1.0)  # takes 100 / (1000 x .5) = .2
    for value, happens in ((0.21, False), (0.23, True)):
        policy = Controlled(Wish(second, value), Control(confirm=0, dwell=0, refresh=np.inf, costs=costs))
        state = replace(policy.start(matrix)[0], current=first, usual=FAR)
        _, decision = policy.decide(state, matrix, make_observation(0))
        assert (decision is not None) == happens


def test_time_that_is_saved_is_worth_something(make_matrix, make_observation):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    half = replace(second, density=0.25)
    costs = Costs(reorganization=0.0, least=0.0, price=0.5)
    assert worth(Wish(half, 0.0), matrix, make_observation(0), half, first, costs) == pytest.approx(0.25)
    assert worth(Wish(half, -0.3), matrix, make_observation(0), half, first, costs) == pytest.approx(-0.05)


def test_without_the_flag_nothing_is_ever_decided(make_matrix, make_observation):
    stored = Decision(None, np.array([0, 3] * 6), 0.5, np.zeros(12), np.ones(12))
    matrix, _ = make_matrix(dynamic=False, candidates=(stored,))
    policy = Controlled(Ranked(), Control(dwell=0, confirm=0))
    state, decision = policy.start(matrix)
    assert decision == replace(stored, candidate=0)
    for seed in range(5):
        after, decision = policy.decide(state, matrix, make_observation(seed, count=5000))
        assert (after, decision) == (state, None)


def test_means_that_moved_are_folded_anew_before_anything_else(make_matrix):
    matrix, _ = make_matrix()
    policy = Controlled(Ranked())
    state, start = policy.start(matrix)
    state = replace(state, usual=KNOWN)
    moved = Observation(512, matrix.mean + 1.0, matrix.variance)
    assert stale(start, matrix, moved) > 0.0
    state, decision = policy.decide(state, matrix, moved)
    assert decision is not None
    assert decision.same_weights(start)
    np.testing.assert_allclose(decision.mean, moved.mean, rtol=0, atol=1e-3)
    assert stale(decision, matrix, moved) < 1e-7
    assert policy.decide(state, matrix, moved)[1] is None


def test_what_pruning_does_to_inputs_is_no_drift(make_matrix):
    """Layers before this one lost weights: its inputs look different, the stream doesn't."""
    matrix, _ = make_matrix()
    served = Observation(999, matrix.mean - 0.7, 0.4 * matrix.variance)
    policy = Controlled(Ranked(), Control(confirm=0, dwell=0))
    knowing = replace(matrix, served=served)
    state, _ = policy.start(knowing)
    for _ in range(5):
        state, decision = policy.decide(state, knowing, replace(served, count=512))
        assert decision is None
    np.testing.assert_allclose(state.estimate.mean, matrix.mean)
    np.testing.assert_allclose(state.estimate.variance, matrix.variance)
    state = replace(policy.start(matrix)[0], usual=KNOWN)
    assert policy.decide(state, matrix, served)[1] is not None


def test_what_was_given_up_waits_longer_each_time_and_is_forgiven(make_matrix, make_observation):
    matrix, _ = make_matrix()
    first, second = patterns(matrix)
    policy = Controlled(Wish(second), Control(confirm=0, dwell=1000, window=1, refresh=np.inf))
    state = replace(policy.start(matrix)[0], current=first, since=1000, usual=FAR)
    waits = []
    for _ in range(4):
        served, decision = 0, None
        while decision is None:
            state, decision = policy.decide(state, matrix, make_observation(0, count=100))
            served += 100
        waits.append(served)
        state = revert(state, first, dwell=500)
    assert waits == [100, 1400, 1500, 1700]
    assert state.penalty > 500
    for _ in range(150):
        state, _ = policy.decide(replace(state, since=0), matrix, make_observation(0, count=100))
    assert state.penalty == 0


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(0, 99))
def test_merged_estimates_are_those_of_all_tokens_together(counts, seed):
    random = np.random.default_rng(seed)
    parts = [random.normal(random.normal(), np.exp(random.normal()), (count, 3)) for count in counts]
    estimate = None
    for x in parts:
        estimate = merged(estimate, Observation(len(x), x.mean(0), x.var(0)), memory=10_000)
    everything = np.concatenate(parts)
    assert estimate.count == len(everything)
    np.testing.assert_allclose(estimate.mean, everything.mean(0), atol=1e-12)
    np.testing.assert_allclose(estimate.variance, everything.var(0), rtol=1e-9, atol=1e-12)


def test_what_is_older_than_the_memory_fades():
    old, new = Observation(1000, np.zeros(1), np.ones(1)), Observation(500, np.full(1, 8.0), np.ones(1))
    estimate = old
    for _ in range(10):
        estimate = merged(estimate, new, memory=1000)
    assert estimate.count == 1000
    assert estimate.mean[0] == pytest.approx(8.0 * (1 - 0.5**10))
    assert merged(old, replace(new, count=5000), memory=1000).mean[0] == 8.0


@given(st.integers(0, 99), st.floats(1e-6, 1e6))
def test_what_chance_explains_is_not_believed(make_matrix, make_observation, seed, chance):
    matrix, _ = make_matrix()
    seen = make_observation(seed)
    distance = divergence(seen.mean, seen.variance, matrix.mean, matrix.variance)
    found = believed(seen, matrix, chance)
    trust = max(0.0, 1.0 - chance / distance)
    np.testing.assert_allclose(found.mean, matrix.mean + trust * (seen.mean - matrix.mean))
    np.testing.assert_allclose(found.variance, matrix.variance + trust * (seen.variance - matrix.variance))
    calibration = Observation(512, matrix.mean, matrix.variance)
    assert believed(calibration, matrix, 0.0) == calibration


def test_a_stationary_stream_changes_nothing(make_matrix):
    """Estimates of 512 tokens are noisy; what they would gain is noise."""
    random = np.random.default_rng(0)
    matrix, _ = make_matrix()
    policy = Controlled(Ranked(), Control(confirm=0, dwell=0))
    state, _ = policy.start(matrix)
    for _ in range(40):
        x = matrix.mean + np.sqrt(matrix.variance) * random.normal(size=(512, 12))
        state, decision = policy.decide(state, matrix, Observation(512, x.mean(0), x.var(0)))
        assert decision is None


def test_after_a_jump_the_past_counts_no_more(make_matrix):
    random = np.random.default_rng(0)

    def seen(center, count=512):
        x = random.normal(center, 1.0, (count, 12))
        return Observation(count, x.mean(0), x.var(0))

    matrix, _ = make_matrix()
    policy = Controlled(Ranked(), Control(jump=3.0))
    state, _ = policy.start(matrix)
    for _ in range(6):
        state, _ = policy.decide(state, matrix, seen(0.0))
    assert state.estimate.count == 1024
    near, _ = policy.decide(state, matrix, seen(0.02))
    assert near.estimate.count == 1024
    far, _ = policy.decide(state, matrix, seen(2.0))
    assert far.estimate.count == 512
    assert far.estimate.mean == pytest.approx(2.0, abs=0.3)
    assert far.usual <= 1.25 * state.usual + 1e-9  # one jump is not usual


@given(st.lists(st.floats(0.0, 2.0), max_size=60), st.floats(0.0, 0.9))
def test_levels_change_only_outside_of_the_band(metrics, margin):
    thresholds = Thresholds(0.2, 0.5, margin)
    level = None
    for metric in metrics:
        before, level = (
            level,
            int(thresholds.levels(np.array([metric]), None if level is None else np.array([level]))[0]),
        )
        if before is not None and level > before:
            assert metric >= (0.2, 0.5)[level - 1] * (1 + margin)
        if before is not None and level < before:
            assert metric <= (0.2, 0.5)[level] * (1 - margin)


def test_without_a_level_yet_boundaries_are_as_they_stand():
    metric = np.array([0.0, 0.19, 0.2, 0.5, 0.51])
    np.testing.assert_array_equal(Thresholds().levels(metric, None), [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(Thresholds(margin=0.0).levels(metric, np.array([2, 2, 0, 0, 0])), [0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Control(window=0), "window must be 1 token to memory"),
        (lambda: Control(window=512, memory=100), "window must be 1 token to memory"),
        (lambda: Control(plain=1.0), "plain must be above 1"),
        (lambda: Control(jump=1.0), "jump must be above 1"),
        (lambda: Control(dwell=-1), "confirm and dwell must be 0 tokens or more"),
        (lambda: Thresholds(0.5, 0.2), "thresholds must be 0 < low <= high"),
        (lambda: Thresholds(margin=1.0), "thresholds must be 0 < low <= high"),
        (lambda: Ranked(dense=1.5), "dense must be a fraction from 0 to 1, not 1.5"),
        (lambda: Ranked(margin=-0.1), "margin must be 0 or more, not -0.1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
