"""Values: what they refuse, and that nothing is lost on the way through JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regrain.core.granularity import Granularity
from regrain.policies import Class, Decision, Matrix, Observation, State, panel_energy

numbers = st.floats(-1e300, 1e300)
positive = st.floats(0.0, 1e300)


@st.composite
def decisions(draw):
    channels = draw(st.integers(1, 4))
    return Decision(
        draw(st.sampled_from([None, *Granularity])),
        draw(arrays(np.uint8, channels, elements=st.integers(0, 3))),
        draw(st.floats(0.01, 1.0)),
        draw(arrays(np.float64, channels, elements=numbers)),
        draw(arrays(np.float64, channels, elements=positive)),
        draw(st.none() | positive),
        draw(st.none() | st.integers(0, 99)),
    )


@st.composite
def observations(draw):
    channels = draw(st.integers(1, 4))
    return Observation(
        draw(st.integers(0, 10**12)),
        draw(arrays(np.float64, channels, elements=numbers)),
        draw(arrays(np.float64, channels, elements=positive)),
        draw(st.integers(0, 10**12)),
    )


@settings(max_examples=50)
@given(decisions())
def test_decision_comes_back_from_json(decision):
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


@given(observations())
def test_observation_comes_back_from_json(observation):
    assert Observation.from_json(json.loads(json.dumps(observation.to_json()))) == observation


@settings(max_examples=50)
@given(decisions(), st.none() | observations(), st.lists(st.integers(0, 10**9), min_size=3, max_size=3), positive)
def test_state_comes_back_from_json(decision, estimate, counts, usual):
    state = State(decision, estimate, *counts, usual)
    assert State.from_json(json.loads(json.dumps(state.to_json()))) == state


@settings(max_examples=50)
@given(decisions(), st.data())
def test_any_other_field_makes_another_decision(decision, data):
    other = {
        "granularity": Granularity.FINE if decision.granularity is not Granularity.FINE else None,
        "classes": (decision.classes + 1) % 4,
        "density": decision.density / 2,
        "mean": decision.mean / 2 + 1,
        "variance": decision.variance / 2 + 1,
        "threshold": 1.0 if decision.threshold is None else None,
        "candidate": 100,
    }
    name = data.draw(st.sampled_from(sorted(other)))
    changed = replace(decision, **{name: other[name]})
    assert (
        changed == decision if np.array_equal(getattr(changed, name), getattr(decision, name)) else changed != decision
    )


def test_a_new_mean_keeps_the_same_weights():
    decision = Decision(Granularity.MEDIUM, [1, 1, 3], 0.5, [0.0] * 3, [1.0, 2.0, 3.0])
    assert replace(decision, mean=np.ones(3)).same_weights(decision)
    assert not replace(decision, variance=np.ones(3)).same_weights(decision)  # other blocks rank high
    assert not replace(decision, density=0.4).same_weights(decision)
    whole = replace(decision, classes=[0, 0, 3], density=2 / 3)
    assert replace(whole, variance=np.ones(3)).same_weights(whole)  # nothing is ranked


def test_ranked_channels_share_what_dense_ones_leave():
    decision = Decision(Granularity.MEDIUM, [0, 0, 1, 1, 3], 0.6, np.zeros(5), np.ones(5))
    assert decision.share == pytest.approx(0.5)
    assert replace(decision, density=0.3).share == 0.0
    assert replace(decision, density=1.0).share == 1.0
    assert replace(decision, classes=[0, 0, 0, 0, 3]).share == 0.0


@given(st.integers(1, 70), st.integers(1, 5), st.integers(1, 4))
def test_energy_is_that_of_the_weights(rows, channels, span):
    weights = np.random.default_rng(rows).normal(size=(rows, channels, span))
    energy = panel_energy(weights)
    for panel in range(energy.shape[0]):
        np.testing.assert_allclose(energy[panel], np.square(weights[16 * panel : 16 * panel + 16]).sum(axis=(0, 2)))
    assert energy.sum() == pytest.approx(np.square(weights).sum())


def test_variance_about_another_mean():
    x = np.random.default_rng(0).normal(3.0, 2.0, (500, 4))
    seen = Observation(500, x.mean(0), x.var(0))
    np.testing.assert_allclose(seen.about(np.full(4, 7.0)), np.square(x - 7.0).mean(0))


def test_a_convolution_has_channels_of_several_columns():
    matrix = Matrix.of("conv", np.ones((20, 3, 3, 3)), np.zeros(3), np.ones(3))
    assert (matrix.rows, matrix.channels, matrix.span, matrix.columns) == (20, 3, 9, 27)
    np.testing.assert_array_equal(matrix.energy, [[144.0] * 3, [36.0] * 3])
    np.testing.assert_array_equal(matrix.column_energy, [180.0] * 3)


def test_candidates_are_numbered_by_their_place(make_matrix):
    matrix, _ = make_matrix()
    one = Decision(Granularity.COARSE, np.zeros(12), 0.6, np.zeros(12), np.ones(12))
    numbered = replace(matrix, candidates=(one, replace(one, candidate=7)))
    assert [candidate.candidate for candidate in numbered.candidates] == [0, 1]


DECISION = Decision(Granularity.MEDIUM, [0, 1], 0.5, [0.0, 0.0], [1.0, 1.0]).to_json()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": [0, 4]}, "classes must be one number of a Class"),
        ({"classes": [0, 0.5]}, "classes must be one number of a Class"),
        ({"classes": "01"}, "classes must be a list of numbers, not '01'"),
        ({"density": 0.0}, "density must be a fraction above 0 to 1"),
        ({"density": True}, "density must be a number, not True"),
        ({"mean": [0.0]}, "mean must have 2 numbers, one for each channel, not 1"),
        ({"mean": [0.0, None]}, "mean must be a number, not None"),
        ({"mean": [0.0, True]}, "mean must be a number, not True"),
        ({"mean": [0.0, "1"]}, "mean must be a number, not '1'"),
        ({"mean": [0.0, float("inf")]}, "mean must be one axis of finite numbers"),
        ({"mean": "x"}, "mean must be a list of numbers, not 'x'"),
        ({"variance": [-1.0, 1.0]}, "variance must be one axis of finite numbers, 0 or more"),
        ({"threshold": -1.0}, "threshold must be None, or 0 or more, not -1.0"),
        ({"candidate": -1}, "candidate must be None, or a number from 0 on, not -1"),
        ({"candidate": 0.5}, "candidate must be None, or a number from 0 on, not 0.5"),
        ({"granularity": "huge"}, "'huge' is not a valid Granularity"),
        ({"more": 1}, "object must have exactly granularity, classes"),
    ],
)
def test_decisions_that_contradict_themselves_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        Decision.from_json({**DECISION, **change})


@pytest.mark.parametrize("count", [-1, 1.5, True, "1"])
def test_counts_are_whole_numbers(count):
    with pytest.raises(ValueError, match="count must be a number of tokens, 0 or more"):
        Observation(count, np.zeros(1), np.zeros(1))


def test_observations_are_finite():
    for broken in (np.nan, np.inf):
        with pytest.raises(ValueError, match="mean must be one axis of finite numbers"):
            Observation(1, np.array([broken]), np.zeros(1))


def test_energy_has_a_row_for_each_panel():
    with pytest.raises(ValueError, match=r"energy of fc must be \(2, channels\) finite sums of squares"):
        Matrix("fc", 17, 1, np.ones((1, 3)), np.zeros(3), np.ones(3))


def test_numbers_of_classes_are_for_ever():
    assert {kind.name: kind.value for kind in Class} == {"DENSE": 0, "BLOCK": 1, "FINE": 2, "DROPPED": 3}


@settings(max_examples=60)
@given(st.integers(0, 999), st.floats(-9, 9), st.floats(-9, 9))
def test_short_numbers_are_near_and_short(seed, offset, size):
    random = np.random.default_rng(seed)
    variance = np.exp(size + random.normal(size=20))
    variance[0] = 0.0
    seen = Observation(5, np.sign(offset) * np.exp(abs(offset)) + random.normal(size=20), variance, 2)
    short = seen.brief()
    assert (short.count, short.discarded) == (5, 2)
    assert (np.abs(short.mean - seen.mean) <= np.maximum(1e-4 * np.sqrt(variance), 1e-7 * np.abs(seen.mean))).all()
    assert (np.abs(short.variance - variance) <= 1e-5 * variance).all()
    assert short.brief() == short
    assert len(json.dumps(short.to_json())) < 0.75 * len(json.dumps(seen.to_json()))
