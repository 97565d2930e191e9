"""What is known of a layer: factors of its sensitivity, steps by cell, and whether it can be quantized at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regrain.core.recipe import Cell
from regrain.planning.layer import Factors, Layer, factors
from regrain.profiling.sensitivity import Sensitivity

Make = Callable[..., Layer]


def gram(n: int) -> np.ndarray:
    rows = np.random.default_rng(n).normal(0, 1, (3 * n, n))
    return (rows.T @ rows).astype(np.float32)


def test_factors_have_trace_one() -> None:
    found = factors(Sensitivity(3.0, gram(6), gram(4)), (4, 6), None)
    assert found.trace == 3.0
    for wide, diagonal in ((found.u, found.inputs), (found.v, found.outputs)):
        whole = (wide.astype(float) * diagonal) @ wide.T.astype(float)
        assert np.trace(whole) == pytest.approx(1, rel=1e-5)


def test_the_hessian_counts_as_much_as_the_gradients() -> None:
    one, other = gram(5), np.diag(np.arange(1.0, 6.0)).astype(np.float32)
    found = factors(Sensitivity(1.0, one, None), (1, 5), 7 * other)
    whole = (found.u.astype(float) * found.inputs) @ found.u.T.astype(float)
    mean = (one / np.trace(one) + other / 15) / 2
    np.testing.assert_allclose(whole, (mean + 0.1 / 5 * np.eye(5)) / 1.1, atol=1e-6)


def test_unused_weights_count_alike() -> None:
    found = factors(Sensitivity(0.0, None, None), (3, 4), gram(4))
    assert found.u is None
    assert found.v is None
    assert np.allclose(found.inputs, 1 / 4)
    assert np.allclose(found.outputs, 1 / 3)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_tensors_without_weights(shape: tuple[int, int]) -> None:
    found = Factors.alike(*shape)
    assert (found.outputs.size, found.inputs.size) == shape


def test_rows_of_embeddings_that_are_used_more_count_more_but_never_all() -> None:
    found = factors(Sensitivity(1.0, gram(4), np.array([0, 0, 1, 100], np.float32)), (4, 4), None)
    assert found.v is None
    assert found.outputs.sum() == pytest.approx(1)
    assert found.outputs[0] == found.outputs[1] > 0
    assert 1 < found.outputs[2] / found.outputs[1] < found.outputs[3] / found.outputs[2] < 10


@pytest.mark.parametrize("cell", ["tensor", "row", "column", "group:10", "block:7x9"])
def test_steps_have_the_geometric_mean_they_are_told(make_layer: Make, cell: str) -> None:
    layer = make_layer(20, 32)
    codes, (down, across) = layer.relative_codes(Cell(cell)), Cell(cell).size(20, 32)
    each = np.repeat(np.repeat(codes, down, axis=0)[:20], across, axis=1)[:, :32]
    assert each.shape == (20, 32)
    assert abs(each.mean()) <= 0.5


def test_steps_go_with_the_root_of_what_errors_cost(make_layer: Make) -> None:
    layer = make_layer(20, 32)
    codes = layer.relative_codes(Cell("row"))[:, 0]
    expected = -4 * np.log2(layer.factors.outputs)
    np.testing.assert_allclose(codes, expected - expected.mean(), atol=0.51)


def test_rounding_predicts_its_loss(make_layer: Make) -> None:
    layer = make_layer(12, 16, trace=3.0)
    step = np.full((1, 1), 0.05, np.float32)
    indices, loss = layer.round(layer.weights, step, Cell("tensor"), 0.0)
    change = indices * 0.05 - layer.weights.astype(float)
    known = layer.factors
    a = (known.u.astype(float) * known.inputs) @ known.u.T
    g = (known.v.astype(float) * known.outputs) @ known.v.T
    assert loss == pytest.approx(3.0 / 2 * np.trace(g @ change @ a @ change.T), rel=1e-4)


@pytest.mark.parametrize(
    ("more", "usable"),
    [
        ({}, True),
        ({"dtype": "BF16"}, True),
        ({"dtype": "F64"}, False),
        ({"dtype": "F8_E4M3"}, False),
        ({"weights": np.zeros((48, 64), np.float32)}, False),
        ({"weights": np.full((48, 64), np.nan, np.float32)}, False),
        ({"weights": np.zeros((0, 64), np.float32)}, False),
        ({"kind": "buffer"}, True),
        ({"kind": "buffer", "trace": 0.0}, False),
        ({"kind": "linear", "trace": 0.0}, True),
    ],
)
def test_what_can_be_quantized(make_layer: Make, more: dict, usable: bool) -> None:
    assert make_layer(**more).usable is usable
