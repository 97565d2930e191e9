"""Fidelity beside straightforward formulas in float64, and what must hold of any outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from regrain import TaskError
from regrain.accuracy import Fidelity, FidelityMeter
from regrain.accuracy.neighbors import FEWEST_ROWS, MOST_ROWS, Sample, overlaps
from regrain.accuracy.outputs import cosine_distances, divergences

ROWS = arrays(np.float32, (4, 6), elements=st.floats(-1e4, 1e4, width=32))


def measured(kind: str, original: np.ndarray, compressed: np.ndarray, clusters: object = None) -> Fidelity:
    meter = FidelityMeter(kind)
    for start in range(0, len(original), 7):
        rows = slice(start, start + 7)
        meter.add(original[rows], compressed[rows], None if clusters is None else np.asarray(clusters)[rows])
    return meter.result()


@given(ROWS, ROWS)
def test_divergence_is_scipys(original: np.ndarray, compressed: np.ndarray) -> None:
    logs, others = (log_softmax(rows.astype(np.float64), axis=1) for rows in (original, compressed))
    losses, agrees = divergences(original, compressed)
    assert (losses >= 0).all()
    assert losses == pytest.approx((np.exp(logs) * (logs - others)).sum(axis=1), rel=1e-9, abs=1e-10)
    assert (agrees == (original.argmax(axis=1) == compressed.argmax(axis=1))).all()


def test_divergence_of_small_changes_is_not_lost() -> None:
    """KL is about half the variance of the changes under the original's softmax: here 5e-13, far below float32."""
    rng = np.random.default_rng(0)
    original = rng.normal(size=(3, 5000))
    change = 1e-6 * rng.normal(size=original.shape)
    weights = np.exp(log_softmax(original, axis=1))
    variance = (weights * change**2).sum(axis=1) - (weights * change).sum(axis=1) ** 2
    assert divergences(original, original + change)[0] == pytest.approx(variance / 2, rel=0.01)


@given(ROWS, ROWS)
def test_distance_is_one_minus_cosine(original: np.ndarray, compressed: np.ndarray) -> None:
    distances = cosine_distances(original, compressed)
    for a, b, distance in zip(original.astype(np.float64), compressed.astype(np.float64), distances, strict=True):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        if norms > 0:
            assert distance == pytest.approx(1 - a @ b / norms, abs=1e-12)
        else:
            assert distance == (0.0 if a.any() == b.any() else 1.0)


def test_distance_of_close_rows_keeps_its_digits() -> None:
    angle = 1e-9
    rows = np.array([[1.0, 0.0]]), np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_distances(*rows)[0] == pytest.approx(angle**2 / 2, rel=1e-6)


@pytest.mark.parametrize("kind", ["embeddings", "logits"])
def test_a_copy_is_certain(kind: str) -> None:
    """Budgets of 0 are kept by an exact copy, bounds included."""
    rows = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    fidelity = measured(kind, rows, rows.copy())
    assert (fidelity.value, fidelity.loss().upper, fidelity.n) == (0.0, 0.0, 60)
    assert (fidelity.D, fidelity.neighbor_overlap) == ((0.0, 1.0) if kind == "embeddings" else (None, None))
    assert (fidelity.kl, fidelity.top1) == ((0.0, 1.0) if kind == "logits" else (None, None))


def test_bounds_enclose_and_clusters_widen() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat([31, 7, 7000, -2, 5, 6], 50)
    original = rng.normal(size=(300, 40)).astype(np.float32)
    noise = np.repeat(rng.uniform(0.1, 1.5, 6), 50)[:, None]
    compressed = (original + noise * rng.normal(size=original.shape)).astype(np.float32)
    plain, grouped = (measured("logits", original, compressed, c) for c in (None, clusters))
    assert plain.kl == grouped.kl
    for figure in ("loss", "disagreement"):
        one, other = getattr(plain, figure)(), getattr(grouped, figure)()
        assert one.lower < one.drop < one.upper < other.upper
        assert (one.groups, other.groups) == (300, 6)
    assert plain.loss(0.9).upper < plain.loss(0.99).upper
    found = grouped.to_json()
    assert found["kl_lower"] < found["kl"] < found["kl_upper"]
    assert found["top1_lower"] < found["top1"] == grouped.top1 < found["top1_upper"]


def test_embeddings_in_json() -> None:
    rng = np.random.default_rng(3)
    original = rng.normal(size=(100, 16)).astype(np.float32)
    found = measured("embeddings", original, original + 0.2 * rng.normal(size=original.shape)).to_json()
    assert found["D_lower"] < found["D"] < found["D_upper"]
    assert found["neighbor_overlap_lower"] < found["neighbor_overlap"] < found["neighbor_overlap_upper"]
    assert "kl" not in found and "top1" not in found


def test_one_row_has_no_bounds() -> None:
    fidelity = measured("logits", np.ones((1, 3)), np.arange(3.0)[None])
    assert fidelity.loss().upper is None
    assert fidelity.to_json()["kl_upper"] is None


def test_overlap_is_that_of_sets() -> None:
    rng = np.random.default_rng(4)
    original = rng.normal(size=(600, 12))
    compressed = original + 0.3 * rng.normal(size=original.shape)
    expected = []
    for rows in (original, compressed):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        expected.append(np.argsort(-cosines, axis=1)[:, :10])
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(*expected, strict=True)]
    found = overlaps(original, compressed)
    assert found is not None
    assert found.mean() == pytest.approx(np.mean(shares), abs=1e-3)  # float32 may swap rows that are equally near
    assert overlaps(original[: FEWEST_ROWS - 1], compressed[: FEWEST_ROWS - 1]) is None


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_sample_is_even_and_bounded(batches: list[int]) -> None:
    sample, total = Sample(), 0
    for size in batches:
        numbers = np.arange(total, total + size, dtype=np.float64)[:, None]
        sample.add(numbers, -numbers)
        total += size
    first, second = sample.rows()
    assert len(first) == min(total, len(first)) <= MOST_ROWS
    assert len(first) == total if total <= MOST_ROWS else len(first) == MOST_ROWS
    assert (first == -second).all()
    steps = np.diff(first[:, 0])
    assert (steps > 0).all()
    assert first[0, 0] == 0 and (len(steps) == 0 or total - first[-1, 0] <= 2 * steps.max())


@pytest.mark.parametrize(
    ("original", "compressed", "text"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"same shape \(n, d\), not \(2, 3\) and \(2, 4\)"),
        (np.ones(3), np.ones(3), r"not \(3,\) and \(3,\)"),
        (np.ones((0, 3)), np.ones((0, 3)), r"not \(0, 3\)"),
        (np.full((1, 3), np.nan), np.ones((1, 3)), "outputs of the original model must be finite, not nan"),
        (np.ones((1, 3)), np.full((1, 3), -np.inf), "outputs of the compressed model must be finite, not -inf"),
    ],
)
def test_refusals(original: np.ndarray, compressed: np.ndarray, text: str) -> None:
    with pytest.raises(TaskError, match=text):
        FidelityMeter("logits").add(original, compressed)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="kind must be one of .*, not 'classes'"):
        FidelityMeter("classes")
    with pytest.raises(TaskError, match="fidelity must be measured on one output or more"):
        FidelityMeter("logits").result()
    meter = FidelityMeter("logits")
    meter.add(np.ones((2, 3)), np.ones((2, 3)), 0)
    with pytest.raises(TaskError, match="clusters must be given with every batch, or with none"):
        meter.add(np.ones((2, 3)), np.ones((2, 3)))
