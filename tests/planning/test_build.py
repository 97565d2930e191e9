"""Recipes become weights: the same for any number of threads, and with biases that make up for the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from regrain import RecipeError
from regrain.codecs.grid import scales_of
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.planning.build import Built, build
from regrain.planning.layer import Layer

Make = Callable[..., Layer]


def plan(name: str = "layer", step: float = 0.05, cell: str = "row") -> LayerPlan:
    return LayerPlan(name, Method.QUANTIZE, Cell(cell), step)


def biased(make_layer: Make, mean: np.ndarray, dtype: str = "F32") -> dict[str, Layer]:
    weight = replace(make_layer(trace=0.0), bias="bias", mean=mean)
    return {"layer": weight, "bias": make_layer(1, 48, name="bias", seed=1, shape=(48,), kind="vector", dtype=dtype)}


def same(one: Mapping[str, Built], other: Mapping[str, Built]) -> bool:
    return all(
        one[name].values.tobytes() == other[name].values.tobytes()
        and (one[name].size, one[name].loss) == (other[name].size, other[name].loss)
        for name in one
    )


@pytest.mark.parametrize("cell", ["tensor", "row", "column", "group:24", "block:16x16"])
def test_values_are_those_that_will_be_restored(make_layer: Make, cell: str) -> None:
    layer = make_layer()
    built = build({"layer": layer}, {"layer": plan(cell=cell)})["layer"]
    quantized = built.quantized
    down, across = quantized.cell
    scales = scales_of(quantized.codes)[np.arange(48)[:, None] // down, np.arange(64) // across]
    assert np.array_equal(built.values, quantized.indices * scales)
    assert np.abs(built.values - layer.weights).max() < 6 * scales.max()
    assert 0 < built.size < layer.count


def test_threads_do_not_matter(make_layer: Make) -> None:
    layers = {f"l{at}": make_layer(20 + at, 30, name=f"l{at}", seed=at) for at in range(6)}
    plans = {name: plan(name) for name in list(layers)[:5]}
    one, three = build(layers, plans, 1), build(layers, plans, 3)
    assert same(one, three)
    assert list(one) == list(three) == list(layers)


def test_without_a_plan_nothing_changes(make_layer: Make) -> None:
    layer = make_layer()
    built = build({"layer": layer}, {})["layer"]
    assert built.quantized is None
    assert np.array_equal(built.values, layer.weights)
    assert (built.size, built.loss) == (0, 0.0)


def test_biases_make_up_for_the_mean(make_layer: Make) -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(1.5, 0.5, (500, 64)).astype(np.float32)
    layers = biased(make_layer, inputs.mean(0))
    built = build(layers, {"layer": plan(step=0.1)})
    change = inputs @ (built["layer"].values - layers["layer"].weights).T
    shift = built["bias"].values - layers["bias"].weights[0]
    assert built["bias"].quantized is None
    np.testing.assert_allclose((change + shift).mean(0), 0, atol=1e-5)
    assert np.square(change + shift).mean() < 0.5 * np.square(change).mean()


def test_biases_are_rounded_after_they_are_corrected(make_layer: Make) -> None:
    layers = biased(make_layer, np.ones(64, np.float32))
    exact = build(layers, {"layer": plan(step=0.1)})["bias"].values
    rounded = build(layers, {"layer": plan(step=0.1), "bias": plan("bias", 0.01, "tensor")})["bias"]
    assert rounded.quantized is not None
    assert 0 < np.abs(rounded.values - exact).max() < 0.0055


def test_biases_keep_their_type(make_layer: Make) -> None:
    layers = biased(make_layer, np.ones(64, np.float32), "BF16")
    values = build(layers, {"layer": plan(step=0.1)})["bias"].values
    assert np.array_equal(values, values.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_biases_of_lossless_layers_stay(make_layer: Make) -> None:
    layers = biased(make_layer, np.ones(64, np.float32))
    lossless = {"layer": LayerPlan("layer", Method.LOSSLESS)}
    assert np.array_equal(build(layers, lossless)["bias"].values, layers["bias"].weights[0])


@pytest.mark.parametrize(
    ("more", "made", "message"),
    [
        ({"dtype": "F64"}, plan(), "'layer' must be F32, F16 or BF16 to be quantized, not F64: leave it out"),
        (
            {"weights": np.full((48, 64), np.inf, np.float32)},
            plan(),
            "'layer' must hold finite weights to be quantized",
        ),
        ({}, plan(step=1e-20), "'layer': step must be at least about 1e-05 for its weights, not 1e-20"),
        (
            {"dtype": "F16", "weights": np.full((48, 64), 65504, np.float32)},
            plan(step=50000.0, cell="tensor"),
            "must be finite as F16",
        ),
    ],
)
def test_plans_that_a_tensor_can_not_have(make_layer: Make, more: dict, made: LayerPlan, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build({"layer": make_layer(**more)}, {"layer": made})


def test_steps_that_are_far_too_large_give_zeros(make_layer: Make) -> None:
    built = build({"layer": make_layer()}, {"layer": plan(step=1e30)})["layer"]
    assert not built.values.any()
    assert built.size < 200
