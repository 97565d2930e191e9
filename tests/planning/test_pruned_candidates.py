"""Pruning as a choice: what is predicted of it is what comes of it, and what drops nothing is no choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.core.recipe import Method
from regrain.models.channels import Group
from regrain.planning import layer as layers
from regrain.planning.build import build
from regrain.planning.candidates import candidates
from regrain.planning.layer import Layer
from regrain.planning.pruned_candidates import DENSITIES, MEASURED, Stage, stages, with_pruning
from regrain.planning.store import Store

Make = Callable[..., Layer]

COLUMN, BLOCK = Pattern("column"), Pattern("block:16x1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def really(layer: Layer, pattern: Pattern, stage: Stage) -> tuple[float, float]:
    """The share that is left and the loss, by pruning to that density."""
    (found,) = layer.prune(Pruning(pattern, stage.density), [stage.density])
    return layer.kept_share(pattern, found.units), found.cost


@pytest.mark.parametrize("pattern", ["column", "block:16x1", "fine", "row", "block:5x7"])
@pytest.mark.parametrize("shape", [(48, 64), (20, 30)])
def test_shares_and_losses_are_those_of_what_is_kept(
    make_layer: Make, store: Store, pattern: str, shape: tuple[int, int]
) -> None:
    layer = make_layer(*shape, seed=2)
    found = stages(layer, Pattern(pattern), store)
    uneven = pattern.startswith("block") and (shape[0] % 16 or pattern == "block:5x7")
    assert len(found) > 10
    for stage in found[:: max(1, len(found) // 6)]:
        share, loss = really(layer, Pattern(pattern), stage)
        assert stage.share == pytest.approx(share, abs=0.04 if uneven else 1e-9)
        assert 0.5 < stage.loss / loss < 2.0
        if stage.density in MEASURED:
            assert stage.loss == pytest.approx(loss)
    assert all(before.share > after.share > 0 for before, after in pairwise(found))
    assert all(before.loss < after.loss for before, after in pairwise(found))
    assert {stage.density for stage in found} <= set(DENSITIES)


@pytest.mark.parametrize("channels", range(1, 12))
def test_each_number_of_units_is_a_choice_once_and_all_of_them_never(
    make_layer: Make, store: Store, channels: int
) -> None:
    layer = make_layer(8, 9 * channels, shape=(8, channels, 3, 3), kind="conv")
    found = stages(layer, COLUMN, store)
    kept = [round(stage.share * channels) for stage in found]
    assert [stage.share * channels for stage in found] == pytest.approx(kept)
    assert kept == sorted(set(kept), reverse=True)
    assert not kept or (kept[0] < channels and kept[-1] >= 1)
    for stage in found:
        assert really(layer, COLUMN, stage)[0] == pytest.approx(stage.share)
    assert len(found) == {1: 0, 2: 1}.get(channels, len(found))
    assert channels < 3 or len(found) >= channels - 2


def test_zeros_are_dropped_for_nothing_and_nothing_else_is(make_layer: Make, store: Store) -> None:
    weights = np.random.default_rng(0).normal(0, 0.1, (48, 64)).astype(np.float32)
    weights[:, :7] = 0.0
    layer = make_layer(weights=weights)
    found = {stage.density: stage.loss for stage in stages(layer, COLUMN, store)}
    worst = max(found.values())
    assert found[0.95] < 1e-5 * worst
    assert found[0.85] > 1e-4 * worst
    assert min(found.values()) > 0.0


def test_n_of_m_is_one_choice(make_layer: Make, store: Store) -> None:
    (found,) = stages(make_layer(), Pattern("2:4"), store)
    assert (found.density, found.share) == (0.5, 0.5)
    assert stages(make_layer(8, 2, name="narrow"), Pattern("2:4"), store) == []  # both of two are kept


@pytest.mark.parametrize("more", [{"kind": "embedding"}, {"trace": 0.0}, {"rows": 1}, {"dtype": "F64"}])
def test_what_can_not_be_pruned(make_layer: Make, store: Store, more: dict) -> None:
    layer = make_layer(**more)
    assert stages(layer, BLOCK, store) == []
    plain = candidates(layer)
    assert with_pruning(plain, layer, [BLOCK, COLUMN], None, store).curves == plain.curves


def test_nothing_is_pruned_twice(make_layer: Make, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer()
    first = stages(layer, COLUMN, store)
    monkeypatch.setattr(layers, "prune", None)
    assert stages(layer, COLUMN, Store(store.folder)) == first
    with pytest.raises(TypeError, match="not callable"):
        stages(layer, BLOCK, store)


def test_pruned_tensors_may_be_quantized_too(make_layer: Make, store: Store) -> None:
    layer = make_layer()
    plain = candidates(layer)
    group = Group(("maker",), ("maker.bias",), ("layer",), (1,), 64)
    found = with_pruning(plain, layer, [BLOCK, COLUMN], group, store)
    tried = {pattern: stages(layer, pattern, store) for pattern in (BLOCK, COLUMN)}
    assert found.curves[: len(plain.curves)] == plain.curves
    assert len(found.curves) == len(plain.curves) + (1 + len(plain.curves)) * sum(map(len, tried.values()))
    for curve in found.curves[len(plain.curves) :]:
        assert curve.pruning is not None
        assert curve.makers == (("maker",) if curve.pruning.pattern == COLUMN else ())
        stage = next(one for one in tried[curve.pruning.pattern] if one.density == curve.pruning.density)
        assert curve.share == stage.share
        assert (curve.loss >= stage.loss).all()
        assert curve.plan("layer", 0, "").method is (Method.PRUNE if curve.cell is None else Method.QUANTIZE)


@pytest.mark.parametrize("pattern", [BLOCK, COLUMN])
def test_predictions_are_what_comes_of_it(make_layer: Make, store: Store, pattern: Pattern) -> None:
    layer = make_layer(128, 160, dtype="F32", lossless=round(3.4 * 128 * 160))
    curves = with_pruning(candidates(layer), layer, [pattern], None, store).curves
    for curve in (one for one in curves if one.pruning is not None and one.pruning.density in (0.85, 0.5, 0.3)):
        at = curve.codes.size * 3 // 5
        plan = curve.plan("layer", at, "")
        assert plan.pruning.compensation is Compensation.SEQUENTIAL
        alone = replace(plan, pruning=replace(plan.pruning, compensation=Compensation.LEAST_SQUARES))
        built = build({"layer": layer}, {"layer": alone})["layer"]
        assert built.density == pytest.approx(curve.share)
        assert built.size == pytest.approx(plan.bytes, rel=0.1)
        assert built.loss == pytest.approx(plan.loss, rel=0.4)
