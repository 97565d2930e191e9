"""Predictions beside what comes of them when a tensor is really rounded and coded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regrain.core.recipe import Cell, Method
from regrain.planning.build import build
from regrain.planning.candidates import Candidates, candidates
from regrain.planning.layer import Layer

Make = Callable[..., Layer]
"""Bytes of a payload beside its indices, which predictions leave out: they decide nothing."""


def at_bits(found: Candidates, curve: int, bits: float) -> int:
    """The candidate next to that size."""
    return int(np.argmin(np.abs(8 * found.curves[curve].bytes / found.count - bits)))


@pytest.fixture(scope="module")
def predicted(make_layer: Make) -> list[tuple[Layer, Candidates]]:
    layers = [
        make_layer(rows, columns, seed=seed) for seed, (rows, columns) in enumerate([(256, 384), (160, 60), (24, 900)])
    ]
    return [(layer, candidates(layer)) for layer in layers]


@pytest.mark.parametrize("bits", [2.5, 3.0, 4.0, 5.0])
def test_bytes_and_loss_are_as_predicted(predicted: list[tuple[Layer, Candidates]], bits: float) -> None:
    for layer, found in predicted:
        assert [curve.cell.name for curve in found.curves] == ["tensor", "row"]
        for number in range(2):
            plan = found.plan(number, at_bits(found, number, bits), "")
            built = build({layer.name: layer}, {layer.name: plan})[layer.name]
            assert abs(built.size - plan.bytes) < max(0.06 * layer.count / 8, 0.03 * built.size), plan.cell
            assert built.loss == pytest.approx(plan.loss, rel=0.25), (layer.shape, plan.cell)


def test_curves_fall(predicted: list[tuple[Layer, Candidates]]) -> None:
    """Larger steps take fewer bytes and lose more, over all that matters."""
    for _, found in predicted:
        for curve in found.curves:
            assert (np.diff(curve.codes) == 1).all()
            middle = slice(at_bits(found, 0, 8.0), at_bits(found, 0, 2.0))
            assert (np.diff(curve.bytes[middle]) < 0).all()
            assert (np.diff(curve.loss[middle]) > 0).all()


def test_small_tensors_are_sized_by_coding_them(make_layer: Make) -> None:
    layer = make_layer(12, 20)
    found = candidates(layer)
    plan = found.plan(0, at_bits(found, 0, 12.0), "")
    assert build({"layer": layer}, {"layer": plan})["layer"].size == pytest.approx(plan.bytes, abs=60)


def test_lossless_is_always_there(make_layer: Make) -> None:
    plan = candidates(make_layer()).plan(-1, 0, "why")
    assert plan.method is Method.LOSSLESS
    assert plan.bytes == 3 * 48 * 64
    assert plan.loss == 0.0


def test_what_can_not_be_quantized_is_lossless(make_layer: Make) -> None:
    assert candidates(make_layer(weights=np.ones((48, 64), np.float32))).curves == ()


def test_unused_tensors_have_one_candidate(make_layer: Make) -> None:
    layer = make_layer(trace=0.0)
    for curve in candidates(layer).curves:
        assert curve.codes.size == 1
        assert 5 < 8 * curve.bytes[0] / layer.count < 7
        assert curve.loss[0] < 1e-200


def test_vectors_have_one_step_and_embeddings_one_a_row(make_layer: Make) -> None:
    vector = make_layer(1, 50, kind="vector", shape=(50,))
    assert [curve.cell.name for curve in candidates(vector).curves] == ["tensor"]
    assert [curve.cell.name for curve in candidates(make_layer(kind="embedding")).curves] == ["row"]


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_any_scale(make_layer: Make, scale: float) -> None:
    usual = candidates(make_layer(), [Cell("tensor")]).curves[0]
    weights = make_layer().weights * np.float32(scale)
    found = candidates(make_layer(weights=weights), [Cell("tensor")]).curves[0]
    assert np.isfinite(found.bytes).all()
    assert found.bytes.min() == pytest.approx(usual.bytes.min(), rel=0.2)


def test_far_outliers(make_layer: Make) -> None:
    weights = make_layer().weights.copy()
    weights[3, 5] = 1e6
    layer = make_layer(weights=weights)
    found = candidates(layer)
    plan = found.plan(0, at_bits(found, 0, 1.0), "")
    assert build({"layer": layer}, {"layer": plan})["layer"].values[3, 5] == pytest.approx(1e6, rel=1e-2)
