"""Rounding with error feedback: the compiled one equals the reference, costs what it says, and beats plain rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels import reference_feedback
from regrain.kernels.feedback import MOST, round_with_feedback
from regrain.transforms.factor import upper_factor


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def gram(rng: np.random.Generator, n: int) -> np.ndarray:
    """Of few samples that depend on each other: far from the identity."""
    rows = rng.normal(0, 1, (2 * n, n)) @ rng.normal(0, 1, (n, n))
    found = (rows.T @ rows).astype(np.float32)
    return found / np.trace(found)


def factor(rng: np.random.Generator, n: int, known: bool) -> tuple[np.ndarray | None, np.ndarray]:
    if not known:
        return None, rng.uniform(0.1, 2, n).astype(np.float32)
    upper, diagonal = upper_factor(gram(rng, n), 0.01)
    return upper, diagonal.astype(np.float32)


def whole(factor: np.ndarray | None, diagonal: np.ndarray) -> np.ndarray:
    """F diag F^T."""
    wide = np.eye(len(diagonal)) if factor is None else factor.astype(np.float64)
    return (wide * diagonal) @ wide.T


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    rows, columns = draw(st.integers(1, 11)), draw(st.integers(1, 19))
    cell = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    u, inputs = factor(rng, columns, draw(st.booleans()))
    v, outputs = factor(rng, rows, draw(st.booleans()))
    scales = rng.uniform(0.05, 1.5, (-(-rows // cell[0]), -(-columns // cell[1]))).astype(np.float32)
    keep = rng.random((rows, columns)) < 0.7 if draw(st.booleans()) else np.ones((rows, columns), bool)
    return {
        "weights": np.where(keep, rng.normal(0, 1, (rows, columns)), 0.0).astype(np.float32),
        "keep": draw(st.sampled_from([keep, None])) if keep.all() else keep,
        "scales": scales * draw(st.sampled_from([1.0, 1.0, 1e-5])),
        "cell": cell,
        "columns": u,
        "rows": v,
        "weight_rows": outputs,
        "weight_columns": inputs,
        "dead_zone": draw(st.sampled_from([0.0, 0.1, 0.3])),
    }


@given(problems())
@settings(max_examples=60)
def test_every_instruction_set_equals_the_reference(problem: dict) -> None:
    problem["scales"] = problem["scales"].astype(np.float32)
    expected, cost = reference_feedback.round_with_feedback(**problem)
    damages = set()
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        indices, damage = round_with_feedback(**problem)
        assert np.array_equal(indices, expected), name
        assert problem["keep"] is None or not indices[~problem["keep"]].any()
        damages.add(damage)
    assert len(damages) == 1
    assert damages.pop() == pytest.approx(cost, rel=1e-9, abs=1e-30)


@given(problems())
@settings(max_examples=60)
def test_damage_is_what_the_errors_cost(problem: dict) -> None:
    """damage == tr(G D A D^T), with G = V diag V^T and A = U diag U^T."""
    problem["scales"] = np.maximum(problem["scales"], 0.05).astype(np.float32)
    indices, damage = round_with_feedback(**problem)
    rows, columns = problem["weights"].shape
    down, across = problem["cell"]
    steps = problem["scales"][np.arange(rows)[:, None] // down, np.arange(columns) // across].astype(np.float64)
    change = indices * steps - problem["weights"]
    g = whole(problem["rows"], problem["weight_rows"])
    a = whole(problem["columns"], problem["weight_columns"])
    assert damage == pytest.approx(np.trace(g @ change @ a @ change.T), rel=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_feedback_beats_plain_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (24, 40)).astype(np.float32)
    scales = np.full((1, 1), 0.4, np.float32)
    (u, inputs), (v, outputs) = factor(rng, 40, True), factor(rng, 24, True)
    g, a = whole(v, outputs), whole(u, inputs)

    def cost(columns: np.ndarray | None, rows: np.ndarray | None) -> float:
        indices, _ = round_with_feedback(
            weights, scales, (24, 40), columns=columns, rows=rows, weight_rows=outputs, weight_columns=inputs
        )
        change = indices * 0.4 - weights
        return float(np.trace(g @ change @ a @ change.T))

    plain, by_columns, both = cost(None, None), cost(u, None), cost(u, v)
    assert both < 0.8 * by_columns < 0.8 * plain


def test_without_factors_it_rounds_to_nearest() -> None:
    weights = np.linspace(-3, 3, 601, dtype=np.float32)[None]
    ones = np.ones(601, np.float32)
    found, damage = round_with_feedback(
        weights,
        np.full((1, 1), 0.5, np.float32),
        (1, 601),
        columns=None,
        rows=None,
        weight_rows=ones[:1],
        weight_columns=ones,
    )
    error = found * 0.5 - weights.astype(np.float64)
    assert np.abs(error).max() <= 0.25 + 1e-6
    assert damage == pytest.approx((error**2).sum(), rel=1e-5)


def test_dead_zone_moves_the_first_step_only_outward() -> None:
    weights = np.array([[0.49, 0.55, 0.69, 0.71, -0.65, -0.75, 1.6, 1.75]], np.float32)
    ones = np.ones(8, np.float32)
    found, _ = round_with_feedback(
        weights,
        ones[:1, None],
        (1, 8),
        columns=None,
        rows=None,
        weight_rows=ones[:1],
        weight_columns=ones,
        dead_zone=0.2,
    )
    assert found.tolist() == [[0, 0, 0, 1, 0, -1, 1, 2]]


def test_what_is_too_far_is_clipped() -> None:
    weights = np.array([[1e30, -1e30, 5.0]], np.float32)
    ones = np.ones(3, np.float32)
    found, _ = round_with_feedback(
        weights, ones[:1, None], (1, 3), columns=None, rows=None, weight_rows=ones[:1], weight_columns=ones
    )
    assert found.tolist() == [[MOST, -MOST, 5]]
