"""Drops: signs, pairing, and bounds beside formulas that were derived in another way."""

from __future__ import annotations

import math
import pickle
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from regrain import Scores, TaskError
from regrain.accuracy import Drop, compare, spearman

Z = NormalDist().inv_cdf(0.95)


def tango(harmed: int, helped: int, n: int) -> float:
    """Tango's one-sided 95 % bound of a paired difference of proportions (Statistics in Medicine 17, 1998)."""
    low, high = (harmed - helped) / n, 1.0
    for _ in range(60):
        drop = (low + high) / 2
        b = -harmed - helped + drop * (2 * n - harmed + helped)
        q = (-b + math.sqrt(b * b + 8 * n * helped * drop * (1 - drop))) / (4 * n)
        inside = n * drop - harmed + helped <= Z * math.sqrt(n * (2 * q + drop * (1 - drop)))
        low, high = (drop, high) if inside else (low, drop)
    return low


def paired(n: int, harmed: int, helped: int) -> tuple[Scores, Scores]:
    """0/1 scores of which so many change, from right and from wrong."""
    before = np.ones(n)
    before[:helped] = 0
    after = 1 - before if harmed + helped == n else before.copy()
    after[:helped] = 1
    after[n - harmed :] = 0
    return Scores(before), Scores(after)


@pytest.mark.parametrize(("harmed", "helped"), [(0, 0), (1, 0), (3, 0), (5, 1), (10, 10), (30, 20), (60, 5), (2, 9)])
def test_bound_of_0_1_scores_is_close_to_tangos(harmed: int, helped: int) -> None:
    n = 1000
    drop = compare(*paired(n, harmed, helped))
    assert drop.drop == pytest.approx((harmed - helped) / n)
    assert drop.upper == pytest.approx(tango(harmed, helped, n), abs=0.1 * (tango(harmed, helped, n) - drop.drop))
    assert drop.lower is not None and drop.lower < drop.drop
    assert drop.method == "delete-one-example jackknife"


def test_nothing_changed_is_not_certainty() -> None:
    """Three in a thousand would have stayed unseen with a probability of exp(-3) = 5 %."""
    scores = Scores(np.ones(1000))
    assert compare(scores, scores).upper == pytest.approx(Z * Z / 1000, rel=0.01)
    reciprocal = Scores(1 / np.arange(1, 101))
    change = math.sqrt(2) * reciprocal.values.std() / 100
    assert compare(reciprocal, reciprocal).upper == pytest.approx(Z * Z * change, rel=0.05)
    clustered = Scores(np.arange(200) % 7 > 0, clusters=np.arange(200) // 10)
    upper = compare(clustered, clustered).upper
    assert upper is not None and upper > Z * Z / 200


def test_many_small_changes_give_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(5, 2, 500)
    after = before - rng.normal(0.02, 0.3, 500)
    drop = compare(Scores(before), Scores(after))
    interval = ttest_rel(before, after).confidence_interval(0.90)
    assert drop.upper == pytest.approx(interval.high, abs=0.03 * (interval.high - interval.low))
    assert drop.lower == pytest.approx(interval.low, abs=0.03 * (interval.high - interval.low))


def test_relative_bounds_include_the_baseline() -> None:
    """A drop that is a fixed share of every score has no relative error, whatever its absolute one."""
    before = np.random.default_rng(1).gamma(2.0, 1.0, 2000)
    drop = compare(Scores(before), Scores(0.9 * before))
    assert drop.relative == pytest.approx(0.1)
    assert drop.relative_spread is not None and drop.spread is not None
    assert drop.relative_spread.variance == pytest.approx(0, abs=1e-12)
    assert drop.spread.variance == pytest.approx(0.01 * before.var() / 2000, rel=0.01)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30), st.booleans())
def test_properties(pairs: list[tuple[int, int]], higher: bool) -> None:
    """drop(a, b) == -drop(b, a) == drop of the negated scores, the other way up; bounds enclose; more is wider."""
    before, after = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
    drop = compare(Scores(before, higher), Scores(after, higher))
    swapped = compare(Scores(after, higher), Scores(before, higher))
    negated = compare(Scores(-before, not higher), Scores(-after, not higher))
    assert drop.drop == pytest.approx(-swapped.drop)
    assert (drop.drop, drop.upper, drop.lower) == pytest.approx((negated.drop, negated.upper, negated.lower))
    assert drop.upper is not None and drop.lower is not None
    assert drop.lower <= drop.drop <= drop.upper
    wider = drop.at(0.99)
    assert wider.upper is not None and wider.upper >= drop.upper
    assert drop.at(0.5).upper == drop.drop


def test_order_of_examples_does_not_matter_to_means() -> None:
    rng = np.random.default_rng(2)
    before, after, clusters = rng.random(90), rng.random(90), rng.integers(0, 12, 90)
    order = rng.permutation(90)
    one = compare(Scores(before, clusters=clusters), Scores(after, clusters=clusters))
    other = compare(Scores(before[order], clusters=clusters[order]), Scores(after[order], clusters=clusters[order]))
    assert one.upper == pytest.approx(other.upper)
    assert (one.groups, one.n, one.method) == (12, 90, "delete-one-cluster jackknife")


def test_clusters_widen_where_examples_agree() -> None:
    """Ten copies of each example say no more than one."""
    rng = np.random.default_rng(3)
    before, after = rng.normal(size=40), rng.normal(size=40)
    single = compare(Scores(before), Scores(after))
    copies = [Scores(np.repeat(x, 10), clusters=np.repeat(np.arange(40), 10)) for x in (before, after)]
    assert compare(*copies).upper == pytest.approx(single.upper)


def test_pairs_of_clusters_without_clustering_are_as_examples() -> None:
    """When no two examples share a cluster, clusters must make no difference; counted twice they would."""
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=300), rng.normal(size=300)
    names = rng.permutation(600).reshape(300, 2)
    alone, both = (compare(Scores(before, clusters=c), Scores(after, clusters=c)) for c in (None, names))
    assert both.spread is not None and alone.spread is not None
    assert both.spread.variance == pytest.approx(alone.spread.variance, rel=0.01)
    same = np.repeat(rng.permutation(300)[:, None], 2, axis=1)  # an example may be in one cluster twice
    assert compare(Scores(before, clusters=same), Scores(after, clusters=same)).upper == pytest.approx(alone.upper)


@pytest.mark.parametrize("clusters", [None, np.random.default_rng(0).integers(0, 500, (900, 2)), np.arange(900) // 2])
def test_other_aggregates_agree_with_means(clusters: np.ndarray | None) -> None:
    """A mean computed by a function takes the other path: groups of units, left out one after another."""
    rng = np.random.default_rng(5)
    before = rng.normal(10, 1, 900)
    after = before - rng.normal(0.1, 0.5, 900)
    fast = compare(Scores(before, clusters=clusters), Scores(after, clusters=clusters))
    slow = compare(*(Scores(x, True, lambda values: values.mean(), clusters) for x in (before, after)))
    assert (slow.drop, slow.groups) == (pytest.approx(fast.drop), 200)
    assert fast.upper is not None and slow.upper is not None
    assert slow.upper - slow.drop == pytest.approx(fast.upper - fast.drop, rel=0.15)
    assert slow.method.startswith("delete-a-group jackknife of ")
    again = compare(*(Scores(x, True, lambda values: values.mean(), clusters) for x in (before, after)))
    assert again == slow


def test_spearman_of_pairs_of_documents() -> None:
    rng = np.random.default_rng(6)
    pairs = np.array([(i, j) for i in range(20) for j in range(i)])
    human = rng.normal(size=len(pairs))
    model = human + rng.normal(size=len(pairs))
    worse = model + 0.5 * rng.normal(size=len(pairs))
    drop = compare(*(Scores(np.stack([x, human], 1), aggregate=spearman, clusters=pairs) for x in (model, worse)))
    assert (drop.groups, drop.n) == (20, 190)
    assert drop.lower is not None and drop.upper is not None
    assert drop.lower < drop.drop < drop.upper < drop.drop + 0.3


def test_numbers_have_no_bounds() -> None:
    drop = compare(0.8, 0.76)
    assert drop == Drop(0.8, 0.76, pytest.approx(0.04))
    assert (drop.relative, drop.upper, drop.relative_upper, drop.groups) == (pytest.approx(0.05), None, None, 0)
    assert drop.method == "no interval"


def test_one_group_has_no_bounds() -> None:
    drop = compare(Scores([1, 0, 1], clusters=[4, 4, 4]), Scores([1, 1, 1], clusters=[4, 4, 4]))
    assert (drop.upper, drop.relative_lower, drop.groups, drop.n) == (None, None, 0, 3)


def test_lower_is_better() -> None:
    drop = compare(Scores([2.0, 4.0], False), Scores([3.0, 5.0], False))
    assert (drop.before, drop.after, drop.drop, drop.relative) == (3, 4, 1, pytest.approx(1 / 3))


def test_zero_baseline() -> None:
    drop = compare(Scores([1.0, -1.0]), Scores([0.0, -1.0]))
    assert drop.upper is not None
    assert (drop.relative_upper, drop.relative_lower, drop.to_json()["relative"]) == (None, None, None)
    with pytest.raises(
        TaskError, match="baseline must not be 0 for a relative drop: limit the drop in the metric's own"
    ):
        _ = drop.relative


def test_is_a_value() -> None:
    drop = compare(*paired(50, 3, 1))
    assert pickle.loads(pickle.dumps(drop)) == drop
    assert drop.to_json()["upper"] == drop.upper


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (Scores([1, 2]), Scores([1, 2, 3]), r"scores must be of the same examples, not \(2,\) before and \(3,\) after"),
        (Scores([1, 2]), Scores([1, 2], False), "higher_is_better must be the same"),
        (
            Scores([1, 2]),
            Scores([1, 2], aggregate=np.median),
            "aggregate must be the same, not None before and 'median'",
        ),
        (Scores([1, 2]), Scores([1, 2], clusters=[0, 1]), "clusters must be the same"),
        (Scores([1, 2], clusters=[0, 2]), Scores([1, 2], clusters=[0, 1]), "clusters must be the same"),
        (Scores([1, 2]), 0.5, "before and after must both be Scores"),
        (0.5, math.nan, "metric must be finite, not 0.5 before and nan after"),
        (Scores([1, 2, 3], clusters=[[0, 1], [0, 2], [0, 3]]),) * 2 + ("clusters must leave examples",),
    ],
)
def test_refusals(before: Scores | float, after: Scores | float, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        compare(before, after)
