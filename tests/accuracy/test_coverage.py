"""Does the truth stay below a 95 % bound 95 times in a hundred? On data made with a known truth.

The least share accepted is 92 %: of 400 data sets 95 % ± 3.3 % would be chance alone, three standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from regrain import Scores
from regrain.accuracy import compare, spearman

Pair = tuple[Scores, Scores]
Make = Callable[[np.random.Generator], Pair]
SETS = 400
LEAST = 0.92


def covered(make: Make, truth: float, relative: float | None = None) -> tuple[float, float, float]:
    """The share of data sets in which the truth is within the upper, the lower and the relative upper bound."""
    drops = [compare(*make(np.random.default_rng(seed))) for seed in range(SETS)]
    uppers, lowers = (np.array([getattr(drop, name) for drop in drops]) for name in ("upper", "lower"))
    if relative is None:
        return float((uppers >= truth).mean()), float((lowers <= truth).mean()), 1.0
    ratios = np.array([drop.relative_upper for drop in drops])
    return float((uppers >= truth).mean()), float((lowers <= truth).mean()), float((ratios >= relative).mean())


@pytest.mark.parametrize(
    ("n", "right", "harm", "help_"), [(200, 0.9, 0.02, 0.05), (1000, 0.93, 0.01, 0.05), (1000, 0.93, 0.005, 0.0)]
)
def test_accuracy(n: int, right: float, harm: float, help_: float) -> None:
    def make(rng: np.random.Generator) -> Pair:
        before = rng.random(n) < right
        return Scores(before), Scores(np.where(before, rng.random(n) >= harm, rng.random(n) < help_))

    drop = right * harm - (1 - right) * help_
    assert min(covered(make, drop, drop / right)) >= LEAST


def test_plain_intervals_would_fail_on_rare_damage() -> None:
    """Why the bounds are what they are: one in 200 examples harmed, and the plain bound covers 7 cases in 8."""

    def make(rng: np.random.Generator) -> Pair:
        return Scores(np.ones(400)), Scores(rng.random(400) >= 0.005)

    upper, _, _ = covered(make, 0.005)
    assert upper >= LEAST
    losses = [1 - make(np.random.default_rng(seed))[1].values for seed in range(SETS)]
    plain = [loss.mean() + 1.65 * loss.std() / 20 >= 0.005 for loss in losses]
    assert np.mean(plain) < 0.9


@pytest.mark.parametrize(("struck", "lost"), [(0.2, 0.2), (0.1, 0.1), (1.0, 0.005)])
def test_clustered_accuracy(struck: float, lost: float) -> None:
    """Retrieval: 60 articles of 20 queries; in some of the articles some of the right answers are lost."""
    clusters = np.repeat(np.arange(60), 20)

    def make(rng: np.random.Generator) -> Pair:
        before = rng.random(1200) < rng.beta(4, 1, 60)[clusters]
        wrong = (rng.random(60) < struck)[clusters] & (rng.random(1200) < lost)
        return Scores(before, clusters=clusters), Scores(before & ~wrong, clusters=clusters)

    assert min(covered(make, 0.8 * struck * lost, struck * lost)) >= LEAST


@pytest.mark.parametrize("n", [30, 300])
def test_negative_log_likelihood(n: int) -> None:
    """Lower is better; all examples change, by heavy-tailed amounts."""

    def make(rng: np.random.Generator) -> Pair:
        before = rng.gamma(1, 3, n)
        return Scores(before, False), Scores(before + 0.03 + 0.3 * rng.standard_t(4, n), False)

    assert min(covered(make, 0.03, 0.01)) >= LEAST


def test_reciprocal_rank() -> None:
    """Skewed, and few examples change: one in fifty falls back by a rank."""
    ranks = np.arange(1, 60)
    weights = 0.6 * 0.4 ** (ranks - 1)
    loss = 0.02 * float((weights * (1 / ranks - 1 / (ranks + 1))).sum())

    def make(rng: np.random.Generator) -> Pair:
        rank = rng.geometric(0.6, 500)
        return Scores(1 / rank), Scores(1 / (rank + (rng.random(500) < 0.02)))

    assert min(covered(make, loss, loss / float((weights / ranks).sum()))) >= LEAST


@pytest.mark.parametrize(
    "pairs", [np.array([(i, j) for i in range(15) for j in range(i)]), np.arange(120).reshape(60, 2)]
)
def test_mean_over_pairs_of_clusters(pairs: np.ndarray) -> None:
    """Each document has an error of its own, which is in all its pairs; and none, where no document comes twice."""

    def make(rng: np.random.Generator) -> Pair:
        errors, before = rng.normal(0, 0.1, pairs.max() + 1), rng.normal(size=len(pairs))
        after = before - 0.05 - errors[pairs].sum(axis=1) + rng.normal(0, 0.3, len(pairs))
        return Scores(before, clusters=pairs), Scores(after, clusters=pairs)

    assert min(covered(make, 0.05)) >= LEAST


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_spearman(noise: float) -> None:
    """Normal pairs of correlation r have the rank correlation 6 / π arcsin(r / 2)."""

    def make(rng: np.random.Generator) -> Pair:
        human = rng.normal(size=40)
        model = human + rng.normal(size=40)
        after = model + noise * rng.normal(size=40)
        return tuple(Scores(np.stack([x, human], 1), aggregate=spearman) for x in (model, after))  # type: ignore[return-value]

    before, after = (6 / math.pi * math.asin(1 / math.sqrt(variance) / 2) for variance in (2, 2 + noise**2))
    assert min(covered(make, before - after, 1 - after / before)) >= LEAST
