"""Scores: what they take, what they refuse, and that they stay as they were."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

import regrain
from regrain import Scores, TaskError
from regrain.accuracy import spearman


def test_is_the_public_name() -> None:
    assert regrain.Scores is Scores
    assert regrain.accuracy.Scores is Scores


@pytest.mark.parametrize("values", [[1, 0, 1, 1], [True, False, True, True], torch.tensor([1.0, 0, 1, 1])])
def test_mean(values: object) -> None:
    scores = Scores(values)
    assert (scores.value, scores.n, scores.values.dtype) == (0.75, 4, np.float64)


def test_aggregate_sees_all_columns() -> None:
    scores = Scores([[1, 2], [3, 5]], aggregate=lambda values: values[:, 1].max())
    assert (scores.value, scores.n) == (5.0, 2)


def test_arrays_are_copied_and_read_only() -> None:
    values, clusters = np.ones(3), np.arange(3)
    scores = Scores(values, clusters=clusters)
    values[:], clusters[:] = 0, 7
    assert scores.value == 1.0
    assert scores.clusters is not None and scores.clusters.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        scores.values[0] = 2
    assert pickle.loads(pickle.dumps(scores)).value == 1.0


def test_part_takes_clusters_along() -> None:
    part = Scores([1, 2, 3], higher_is_better=False, clusters=[[0, 1], [1, 2], [2, 0]]).part(np.array([1, 0, 1], bool))
    assert part.values.tolist() == [1, 3]
    assert part.clusters is not None and part.clusters.tolist() == [[0, 1], [2, 0]]
    assert not part.higher_is_better


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"values": []}, r"values must have shape \(n,\) or \(n, m\) and hold a score or more, not \(0,\)"),
        ({"values": 0.5}, r"values must have shape .*, not \(\)"),
        ({"values": np.ones((2, 2, 2))}, r"not \(2, 2, 2\)"),
        ({"values": [0.5, np.nan]}, "values must be finite, not nan among 2 scores"),
        ({"values": [np.inf]}, "values must be finite, not inf"),
        ({"values": ["good"]}, "values must be an array of numbers, not list"),
        ({"values": torch.ones(2, requires_grad=True)}, "values must be an array of numbers, not Tensor"),
        (
            {"values": [1, 2], "clusters": [1]},
            r"clusters must be integers of shape \(2,\) or \(2, 2\), not int64 \(1,\)",
        ),
        ({"values": [1, 2], "clusters": [0.5, 1]}, "clusters must be integers .*, not float64"),
        ({"values": [1, 2], "aggregate": "mean"}, "aggregate must be a function from values to a number, not 'mean'"),
    ],
)
def test_refusals(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(TaskError, match=text):
        Scores(**arguments)


def test_value_must_be_finite() -> None:
    with pytest.raises(TaskError, match="aggregate must give a finite number, not nan of 3 examples"):
        _ = Scores([[1, 2], [1, 3], [1, 4]], aggregate=spearman).value


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    values = np.array(pairs, np.float64)
    if any(np.ptp(column) == 0 for column in values.T):
        assert np.isnan(spearman(values))
    else:
        assert spearman(values) == pytest.approx(spearmanr(values[:, 0], values[:, 1]).statistic, abs=1e-12)


def test_spearman_needs_two_columns() -> None:
    with pytest.raises(ValueError, match=r"values must have shape \(n, 2\), not \(3,\)"):
        spearman(np.ones(3))


def test_squares_of_scores_must_not_overflow() -> None:
    with pytest.raises(TaskError, match=r"at most 1e\+100 in magnitude"):
        Scores([1e300, 0.0])
