"""Pruning of a matrix: what is dropped, what becomes of the rest, and that neither depends on what else is asked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.pattern import Compensation, Score
from regrain.transforms import prune as pruning
from regrain.transforms.damage import Damage
from regrain.transforms.prune import Pruned, Statistics, prune
from regrain.transforms.saliency import plain, spread

SHAPE = (6, 12)
UNITS = [(1, 1), (4, 1), (2, 3), (4, 5), (6, 1), (6, 3), (6, 5), (1, 12), (3, 12), (6, 12)]


def same(one: Pruned, other: Pruned) -> bool:
    return one.weights.tobytes() == other.weights.tobytes() and np.array_equal(one.units, other.units)


def greedy(weights: np.ndarray, damage: Damage, span: int, wanted: int, exact) -> np.ndarray:
    """Which channels are left when each time the one is dropped that costs least, by trying all of them."""
    left = list(range(weights.shape[1] // span))

    def mask(channels: list[int]) -> np.ndarray:
        return np.broadcast_to(np.isin(np.arange(weights.shape[1]) // span, channels), weights.shape)

    def cost(channels: list[int]) -> float:
        return damage.of((exact(weights, mask(channels), damage) - weights).astype(np.float32))

    while len(left) > wanted:
        left.remove(min(left, key=lambda channel: cost([one for one in left if one != channel])))
    return np.isin(np.arange(weights.shape[1] // span), left)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("span", [1, 2])
def test_channels_are_those_of_a_greedy_search(case, exact, span: int, seed: int) -> None:
    weights, damage = case(4, 10, seed)
    count = 10 // span
    for found in prune(weights, damage, (4, span), [0.8, 0.6, 0.2]):
        wanted = round(found.density * count)
        assert np.array_equal(found.units[0], greedy(weights, damage, span, wanted, exact))
        mask = spread(found.units, (4, span), weights.shape)
        np.testing.assert_allclose(found.weights, exact(weights, mask, damage), atol=1e-4)
        assert found.cost == pytest.approx(damage.of(found.weights - weights))


def test_filters_are_channels_of_the_transposed_matrix(case, exact) -> None:
    weights, damage = case(8, 5, 1)
    (found,) = prune(weights, damage, (1, 5), [0.5])
    turned = np.ascontiguousarray(weights.T)
    assert np.array_equal(found.units[:, 0], greedy(turned, damage.transposed, 1, 4, exact))
    mask = spread(found.units, (1, 5), weights.shape)
    np.testing.assert_allclose(found.weights, exact(weights, mask, damage), atol=1e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_kept_is_the_best_for_its_mask(case, exact, unit: tuple[int, int]) -> None:
    weights, damage = case(*SHAPE, 2)
    for found in prune(weights, damage, unit, [0.85, 0.5]):
        mask = spread(found.units, unit, SHAPE)
        assert not found.weights[~mask].any()
        assert found.units.sum() == max(1, round(found.density * found.units.size))
        best = damage.of((exact(weights, mask, damage) - weights).astype(np.float32))
        assert best * (1 - 1e-4) - 1e-6 <= found.cost <= best * 1.01 + 1e-5


@settings(max_examples=40)
@given(
    st.sampled_from(UNITS),
    st.lists(st.floats(0.02, 1.0), min_size=2, max_size=4, unique=True),
    st.sampled_from([1, 2, 3, 64]),
    st.integers(0, 99),
    st.sampled_from([*Score]),
)
def test_densities_do_not_depend_on_each_other(case, unit, densities, parts, seed, score) -> None:
    weights, damage = case(*SHAPE, seed)
    densities = sorted(densities, reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "PARTS", parts)
        every = list(prune(weights, damage, unit, densities, score=score))
        assert [found.density for found in every] == densities
        for before, after in pairwise(every):
            assert not (after.units & ~before.units).any()  # what is dropped stays dropped
            assert after.cost >= before.cost * (1 - 0.01) - 1e-5
        for found in every:
            (alone,) = prune(weights, damage, unit, [found.density], score=score)
            assert same(found, alone)


@pytest.mark.parametrize("seed", range(5))
def test_densities_within_a_part_do_not_change_the_way(case, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Where channels are dropped eight at a time, the first three are not a step of their own for those after them."""
    monkeypatch.setattr(pruning, "PARTS", 2)
    weights, damage = case(4, 16, seed)
    for unit, matrix, known in (((4, 1), weights, damage), ((1, 4), weights.T.copy(), damage.transposed)):
        _, second, third = prune(matrix, known, unit, [13 / 16, 9 / 16, 4 / 16])
        assert same(second, next(prune(matrix, known, unit, [9 / 16])))
        assert same(third, next(prune(matrix, known, unit, [4 / 16])))


@pytest.mark.parametrize("among", [(2, 4), (1, 4), (4, 8), (1, 2), (3, 5), (1, 16)])
@pytest.mark.parametrize("score", [Score.OBS, Score.MAGNITUDE])
def test_exactly_n_are_kept_of_each_m(case, among: tuple[int, int], score: Score) -> None:
    weights, damage = case(4, 14)
    most, run = among
    (found,) = prune(weights, damage, (1, 1), [most / run], among=among, score=score)
    for start in range(0, 14, run):
        kept = found.units[:, start : start + run]
        assert (kept.sum(axis=1) == min(most, kept.shape[1])).all()
    assert np.array_equal(found.weights != 0, found.units)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("score", [*Score])
def test_something_is_always_kept(case, unit: tuple[int, int], score: Score) -> None:
    weights, damage = case(*SHAPE)
    (found,) = prune(weights, damage, unit, [1e-9], score=score)
    assert found.units.sum() == 1
    assert found.weights.any()
    (whole,) = prune(weights, damage, unit, [1.0], score=score)
    assert whole.units.all()
    np.testing.assert_array_equal(whole.weights, weights)
    assert whole.cost == 0.0


@pytest.mark.parametrize("unit", [(1, 1), (2, 3), (6, 1), (1, 12)])
@pytest.mark.parametrize("score", [Score.MAGNITUDE, Score.WANDA, Score.VARIANCE])
def test_the_highest_scores_are_kept(case, unit: tuple[int, int], score: Score) -> None:
    weights, damage = case(*SHAPE)
    rng = np.random.default_rng(5)
    known = Statistics(rng.uniform(1, 2, 12), rng.uniform(0, 1, 12))
    (found,) = prune(weights, damage, unit, [0.5], score=score, compensation=Compensation.NONE, statistics=known)
    scores = plain(weights, unit, score, known.power, known.variance)
    assert scores[found.units].min() > scores[~found.units].max()
    np.testing.assert_array_equal(found.weights, np.where(spread(found.units, unit, SHAPE), weights, 0))


@pytest.mark.parametrize("unit", [(1, 1), (4, 1), (6, 1), (1, 12)])
def test_making_up_for_it_pays(case, unit: tuple[int, int]) -> None:
    weights, damage = case(*SHAPE, 4)
    (best,) = prune(weights, damage, unit, [0.5])

    def other(score: Score, compensation: Compensation) -> Pruned:
        return next(prune(weights, damage, unit, [0.5], score=score, compensation=compensation))

    for score in Score:
        squares, sequential, mean, none = (other(score, how) for how in Compensation)
        assert np.array_equal(squares.units, none.units) or score is Score.OBS
        assert best.cost <= squares.cost * 1.01
        assert squares.cost < mean.cost
        assert same(mean, none)  # the mean is the bias's affair
        assert same(squares, sequential)  # so it begins


def test_equal_scores_keep_the_first() -> None:
    ones = np.ones((2, 6), np.float32)
    alike = Damage(np.eye(6, dtype=np.float32), np.eye(2, dtype=np.float32))
    for score in (Score.MAGNITUDE, Score.OBS):
        found = next(prune(ones, alike, (1, 1), [0.5], score=score, compensation=Compensation.NONE))
        assert found.units.tolist() == [[True] * 6, [False] * 6]
