"""Recipes become weights: the same for any number of threads, and with biases that make up for the mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from regrain import RecipeError
from regrain.codecs.grid import scales_of
from regrain.codecs.sparse import Sparse
from regrain.core.dtypes import numpy_dtype
from regrain.core.pattern import Compensation, Pattern, Pruning, Score
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.planning.build import Built, build
from regrain.planning.layer import Layer
from regrain.planning.prunings import Prunings
from regrain.transforms.saliency import spread

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
    quantized = built.form
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
    assert built.form is None
    assert np.array_equal(built.values, layer.weights)
    assert (built.size, built.loss) == (0, 0.0)


def test_biases_make_up_for_the_mean(make_layer: Make) -> None:
    rng = np.random.default_rng(3)
    inputs = rng.normal(1.5, 0.5, (500, 64)).astype(np.float32)
    layers = biased(make_layer, inputs.mean(0))
    built = build(layers, {"layer": plan(step=0.1)})
    change = inputs @ (built["layer"].values - layers["layer"].weights).T
    shift = built["bias"].values - layers["bias"].weights[0]
    assert built["bias"].form is None
    np.testing.assert_allclose((change + shift).mean(0), 0, atol=1e-5)
    assert np.square(change + shift).mean() < 0.5 * np.square(change).mean()


def test_biases_are_rounded_after_they_are_corrected(make_layer: Make) -> None:
    layers = biased(make_layer, np.ones(64, np.float32))
    exact = build(layers, {"layer": plan(step=0.1)})["bias"].values
    rounded = build(layers, {"layer": plan(step=0.1), "bias": plan("bias", 0.01, "tensor")})["bias"]
    assert rounded.form is not None
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
        ({"dtype": "F64"}, plan(), "'layer' must be F32, F16 or BF16 to be pruned or quantized, not F64: leave it out"),
        (
            {"weights": np.full((48, 64), np.inf, np.float32)},
            plan(),
            "'layer' must hold finite weights to be pruned or quantized",
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


# ---- pruning ---------------------------------------------------------------------------------------------------------


def dropped(pattern: str, density: float | None = 0.5, *, name: str = "layer", **more: object) -> LayerPlan:
    return LayerPlan(name, Method.PRUNE, pruning=Pruning(Pattern(pattern), density, **more))


def follows(name: str, leader: str, step: float | None = None) -> LayerPlan:
    how = Pruning(Pattern("row"), follows=leader)
    if step is None:
        return LayerPlan(name, Method.PRUNE, pruning=how)
    return LayerPlan(name, Method.QUANTIZE, Cell("row"), step, pruning=how)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("pattern", ["fine", "2:4", "block:16x1", "block:5x7", "column", "row"])
def test_what_is_kept_is_stored_as_it_is(make_layer: Make, pattern: str, dtype: str) -> None:
    layer = make_layer(dtype=dtype)
    plan = dropped(pattern)
    built = build({"layer": layer}, {"layer": plan})["layer"]
    (found,) = layer.prune(plan.pruning, [0.5])
    kept = spread(found.units, Pattern(pattern).unit(layer.shape), layer.shape)
    stored = found.weights.astype(numpy_dtype(dtype)).astype(np.float32)
    assert np.array_equal(built.values, np.where(kept, stored, 0.0))
    assert not np.signbit(built.values[~kept]).any()
    assert isinstance(built.form, Sparse)
    assert built.form.dense(dtype).view(numpy_dtype(dtype)).astype(np.float32).tobytes() == built.values.tobytes()
    assert built.density == pytest.approx(kept.mean())
    assert built.loss == found.cost > 0
    assert 0 < built.size < 1.1 * kept.mean() * layer.count * numpy_dtype(dtype).itemsize + 600


@pytest.mark.parametrize("compensation", ["mean", "none"])
def test_weights_that_are_not_to_make_up_stay(make_layer: Make, compensation: str) -> None:
    layer = make_layer()
    plan = dropped("column", compensation=Compensation(compensation), score=Score.MAGNITUDE)
    values = build({"layer": layer}, {"layer": plan})["layer"].values
    kept = values.any(axis=0)
    assert kept.sum() == 32
    assert np.array_equal(values, layer.weights * kept)


@pytest.mark.parametrize("pattern", ["fine", "2:4", "block:16x1", "column", "row"])
@pytest.mark.parametrize("cell", ["tensor", "row", "group:24"])
def test_what_is_kept_may_be_rounded(make_layer: Make, pattern: str, cell: str) -> None:
    layer = make_layer()
    plan = replace(dropped(pattern), method=Method.QUANTIZE, cell=Cell(cell), step=0.02)
    built = build({"layer": layer}, {"layer": plan})["layer"]
    (found,) = layer.prune(plan.pruning, [0.5])
    kept = spread(found.units, Pattern(pattern).unit(layer.shape), layer.shape)
    assert not built.values[~kept].any()
    assert built.form.cell == Cell(cell).size(*layer.shape)
    assert built.form.dense("F32").view(np.float32).tobytes() == built.values.tobytes()
    assert built.loss > found.cost
    assert built.loss == pytest.approx(2.5 * layer.factors.damage().of(built.values - layer.weights), rel=0.25)
    assert built.size < build({"layer": layer}, {"layer": dropped(pattern)})["layer"].size


def pair(make_layer: Make, **more: object) -> dict[str, Layer]:
    """What makes 64 channels, and what uses them."""
    return {
        "maker": make_layer(64, 40, name="maker", seed=1, **more),
        "user": make_layer(48, 64, name="user", seed=2),
    }


@pytest.mark.parametrize("step", [None, 0.01])
def test_rows_go_with_what_uses_them(make_layer: Make, step: float | None) -> None:
    layers = pair(make_layer)
    plans = {"user": dropped("column", 0.25, name="user"), "maker": follows("maker", "user", step)}
    built = build(layers, plans)
    used = built["user"].values.any(axis=0)
    assert used.sum() == 16
    made = built["maker"].values
    assert not made[~used].any()
    np.testing.assert_allclose(made[used], layers["maker"].weights[used], atol=0.0 if step is None else 0.05)
    assert (step is None) == np.array_equal(made[used], layers["maker"].weights[used])
    assert built["maker"].density == built["user"].density == 0.25
    assert (built["maker"].loss == 0.0) == (step is None)
    assert same(build(dict(reversed(layers.items())), plans, threads=2), built)


@pytest.mark.parametrize(
    ("plans", "message"),
    [
        (
            {"maker": follows("maker", "user")},
            "'maker': follows must name a tensor that is pruned itself, not 'user'",
        ),
        (
            {"maker": follows("maker", "nobody")},
            "'maker': follows must name a tensor that is pruned itself, not 'nobody'",
        ),
        (
            {"maker": follows("maker", "user"), "user": plan("user")},
            "'maker': follows must name a tensor that is pruned itself, not 'user'",
        ),
        (
            {"maker": follows("maker", "user"), "user": dropped("row", name="user")},
            "'maker': follows must name a tensor pruned by column, with 64 of them, not 'user' with 48 x 1 units",
        ),
        (
            {"maker": dropped("column", name="maker"), "user": follows("user", "maker")},
            "'user': follows must name a tensor pruned by column, with 48 of them, not 'maker' with 1 x 40 units",
        ),
        (
            {"maker": follows("maker", "user"), "user": follows("user", "maker")},
            "follows must name a tensor that is pruned itself",
        ),
    ],
)
def test_leaders_that_can_not_be_followed(make_layer: Make, plans: dict[str, LayerPlan], message: str) -> None:
    for layers in (pair(make_layer), dict(reversed(pair(make_layer).items()))):
        with pytest.raises(RecipeError, match=message):
            build(layers, plans)


@pytest.mark.parametrize("more", [{"kind": "embedding"}, {"trace": 0.0}, {"dtype": "F64"}, {"kind": "other"}])
def test_layers_that_can_not_be_pruned(make_layer: Make, more: dict) -> None:
    with pytest.raises(RecipeError, match=r"'layer' must be the matrix of a linear or convolutional .* \(it is"):
        build({"layer": make_layer(**more)}, {"layer": dropped("column")})


def test_what_follows_must_be_storable(make_layer: Make) -> None:
    plans = {"user": dropped("column", name="user"), "maker": follows("maker", "user")}
    with pytest.raises(RecipeError, match="'maker' must be F32, F16 or BF16 to be pruned or quantized, not F64"):
        build(pair(make_layer, dtype="F64"), plans)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("step", [None, 0.05])
@pytest.mark.parametrize("compensation", sorted({*Compensation} - {Compensation.SEQUENTIAL}))
def test_the_mean_of_the_outputs_is_kept(
    make_layer: Make, sign: int, step: float | None, compensation: Compensation
) -> None:
    """By a bias that is added, or a batch norm's running mean that is subtracted."""
    inputs = np.random.default_rng(3).normal(1.5, 0.5, (500, 64)).astype(np.float32)
    layers = biased(make_layer, inputs.mean(0))
    layers["layer"] = replace(make_layer(), bias="bias", mean=inputs.mean(0), bias_sign=sign)
    how = dropped("column", compensation=compensation)
    if step is not None:
        how = replace(how, method=Method.QUANTIZE, cell=Cell("row"), step=step)
    built = build(layers, {"layer": how})
    before = inputs @ layers["layer"].weights.T + sign * layers["bias"].weights
    after = inputs @ built["layer"].values.T + sign * built["bias"].values
    if compensation is Compensation.NONE:
        assert np.array_equal(built["bias"].values, layers["bias"].weights[0])
        assert np.abs((after - before).mean(0)).max() > 0.1
    else:
        np.testing.assert_allclose((after - before).mean(0), 0, atol=2e-5)


@pytest.mark.parametrize("step", [None, 0.05])
def test_rows_that_nobody_uses_do_not_move_other_biases(make_layer: Make, step: float | None) -> None:
    layers = pair(make_layer) | {"bias": make_layer(1, 64, name="bias", shape=(64,), kind="vector")}
    layers["maker"] = replace(layers["maker"], bias="bias", mean=np.ones(40, np.float32))
    built = build(layers, {"user": dropped("column", name="user"), "maker": follows("maker", "user", step)})
    used = built["user"].values.any(axis=0)
    moved = built["bias"].values - layers["bias"].weights[0]
    change = (built["maker"].values - layers["maker"].weights).sum(axis=1)
    np.testing.assert_allclose(moved[used], -change[used], atol=1e-5)
    assert np.any(moved) == np.any(moved[used]) == (step is not None)


def test_what_is_remembered_changes_nothing(make_layer: Make) -> None:
    layers = pair(make_layer)
    plans = {"user": dropped("column", 0.75, name="user"), "maker": follows("maker", "user", 0.02)}
    memory = Prunings(1 << 20)
    once = build(layers, plans, 1, memory)
    assert same(build(layers, plans, 3, memory), once)
    assert same(build(layers, plans), once)
