"""Selectors: what they promise of every plan, the closed form's equations, the rule's cases, the networks' file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import RecipeError
from regrain.core.pattern import Pattern
from regrain.core.recipe import Method
from regrain.core.selection import SelectionRule
from regrain.planning.build import build
from regrain.planning.candidates import candidates
from regrain.planning.layer import Layer
from regrain.planning.selectors import ClosedForm, Learned, Rule, RuleOptions, Selection, Selector, selector
from regrain.planning.selectors.features import FEATURES
from regrain.planning.selectors.learned import BITS, OCTAVES, Network, read, trained
from regrain.planning.selectors.units import CELLS, gaussian
from regrain.planning.solve import Solver

Make = Callable[..., Layer]


@pytest.fixture(scope="module")
def layers(make_layer: Make) -> dict[str, Layer]:
    """Matrices of different sizes and sensitivities, a vector, one that the output does not depend on, integers."""
    rng = np.random.default_rng(5)
    made = [
        make_layer(96, 128, name="wide", seed=1, trace=40.0),
        make_layer(64, 64, name="calm", seed=2, trace=0.02),
        make_layer(128, 32, name="odd", seed=3, trace=3.0, weights=rng.laplace(0, 0.2, (128, 32)).astype(np.float32)),
        make_layer(256, 24, name="table", seed=4, trace=1.0, kind="embedding"),
        make_layer(1, 64, name="gain", seed=5, trace=2.0, kind="vector", shape=(64,)),
        make_layer(40, 40, name="spare", seed=6, trace=0.0),
        make_layer(8, 8, name="whole", dtype="F64"),
    ]
    return {layer.name: layer for layer in made}


@pytest.fixture(scope="module")
def made(layers) -> dict[Selection, Selector]:
    """The selectors that take a loss, for those layers."""
    return {selection: selector(selection, layers) for selection in (Selection.CLOSED_FORM, Selection.LEARNED)}


both = pytest.mark.parametrize("selection", [Selection.CLOSED_FORM, Selection.LEARNED])


def built(layers: dict[str, Layer], plans: object) -> tuple[float, float]:
    """Bytes and loss of plans, for real."""
    made = build(layers, {plan.name: plan for plan in plans})  # type: ignore[attr-defined]
    return sum(one.size or layers[name].lossless for name, one in made.items()), sum(o.loss for o in made.values())


@both
@pytest.mark.parametrize("loss", [0.0, 1e-6, 1e-3, 0.1, 1e6])
def test_every_layer_gets_a_plan_that_can_be_built(layers, made, selection, loss):
    solution = made[selection].for_loss(loss)
    plans = {plan.name: plan for plan in solution.plans}
    assert list(plans) == list(layers)
    assert plans["whole"].method is Method.LOSSLESS
    assert solution.bytes == pytest.approx(sum(plan.bytes for plan in solution.plans))
    if loss == 0.0:
        assert {plan.method for plan in solution.plans} == {Method.LOSSLESS}
    else:
        assert plans["spare"].step == pytest.approx(float(layers["spare"].weights.std()) / 16, rel=0.05)
        assert plans["table"].cell != CELLS[0]
        assert plans["gain"].cell in (None, CELLS[0])
    built(layers, solution.plans)


@both
def test_a_model_that_nothing_is_known_of_has_plans_too(layers, selection):
    for names in ((), ("whole",), ("spare", "whole")):
        solution = selector(selection, {name: layers[name] for name in names}).for_loss(0.01)
        assert [plan.name for plan in solution.plans] == list(names)
        assert solution.loss == 0.0


@both
@given(log=st.floats(-4.5, -1.5))
def test_the_predicted_loss_is_what_was_asked_for(made, selection, log):
    # Steps are rounded to a grid of 8 an octave, and each layer's share to within 9 % of it.
    assert made[selection].for_loss(10**log).loss == pytest.approx(10**log, rel=0.12)


def test_slopes_are_equal_and_the_loss_is_real(layers):
    plans = {plan.name: plan for plan in ClosedForm(layers).for_loss(2e-3).plans}
    shares = {name: plans[name].loss / layers[name].count for name in ("wide", "odd", "table")}
    # One grid step of 2^(1/8) is a factor of 2^(1/4) of loss; half of one either way.
    assert max(shares.values()) / min(shares.values()) < 2**0.25 * 1.01
    made = build(layers, plans)
    for name in shares:
        assert made[name].loss == pytest.approx(plans[name].loss, rel=0.15)


@both
@pytest.mark.parametrize("loss", [1e-3, 3e-2])
def test_few_bits_are_lost_against_measured_candidates(layers, selection, loss):
    solver = Solver([candidates(layer) for layer in layers.values()])
    line = np.array([built(layers, solver.for_loss(loss * factor).plans) for factor in (0.25, 0.5, 1, 2, 4)])
    size, reached = built(layers, selector(selection, layers).for_loss(loss).plans)
    best = float(np.interp(np.log(reached), np.log(line[:, 1]), line[:, 0]))
    assert 8 * (size - best) / sum(layer.count for layer in layers.values()) < 0.15


@both
def test_bytes_are_a_limit_and_buy_quality(made, selection):
    sizes = [14_000.0, 20_000.0, 40_000.0]
    found = [made[selection].for_bytes(size) for size in sizes]
    assert all(one.bytes <= size for one, size in zip(found, sizes, strict=True))
    assert found[0].loss > found[1].loss > found[2].loss


def test_a_cell_is_a_row_only_where_rows_differ(make_layer):
    flat = make_layer(64, 64, name="flat", trace=1.0)
    even = np.full(64, 1 / 64, np.float32)
    steep = np.geomspace(1, 1e4, 64).astype(np.float32)
    factors = type(flat.factors)
    layers = {
        "flat": make_layer(64, 64, name="flat", weights=flat.weights),
        "steep": make_layer(64, 64, name="steep", weights=flat.weights),
    }
    object.__setattr__(layers["flat"], "factors", factors(1.0, None, even, None, even))
    object.__setattr__(layers["steep"], "factors", factors(1.0, None, even, None, steep / steep.sum()))
    cells = {plan.name: plan.cell and plan.cell.name for plan in ClosedForm(layers).for_loss(1e-3).plans}
    assert cells == {"flat": "tensor", "steep": "row"}


@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 2.0, 5.0, 40.0])
def test_rounding_of_normal_weights_is_as_predicted(ratio):
    weights = np.random.default_rng(0).normal(size=400_000)
    indices = np.rint(weights / ratio)
    _, counts = np.unique(indices, return_counts=True)
    shares = counts / counts.sum()
    bits, error = gaussian(np.array([ratio]))
    assert bits[0] == pytest.approx(float(-(shares * np.log2(shares)).sum()), abs=0.01)
    assert error[0] == pytest.approx(12 * float(((weights - indices * ratio) ** 2).mean()) / ratio**2, rel=0.02)


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(FEATURES), max_size=len(FEATURES)))
def test_networks_correct_by_no_more_than_they_may_whatever_the_features(values):
    for network in trained():
        found = network(np.array([values]))
        assert np.isfinite(found.octaves).all() and np.isfinite(found.bits).all()
        assert np.abs(found.octaves).max() <= OCTAVES and np.abs(found.bits).max() <= BITS


def test_a_network_is_two_layers_of_tanh():
    n, hidden = len(FEATURES), 2
    rng = np.random.default_rng(1)
    inner, outer = rng.normal(size=(hidden, n + 1)), rng.normal(size=(len(CELLS) + 2, hidden + 1))
    network = Network(np.ones(n), np.full(n, 2.0), inner, outer)
    values = rng.uniform(-4, 6, n)
    units = [math.tanh(sum(w * (v - 1) / 2 for w, v in zip(row[:-1], values, strict=True)) + row[-1]) for row in inner]
    wanted = [math.tanh(sum(w * u for w, u in zip(row[:-1], units, strict=True)) + row[-1]) for row in outer]
    found = network(values[None])
    assert found.octaves[0] == pytest.approx(OCTAVES * wanted[0])
    assert found.bits[0] == pytest.approx([BITS * value for value in wanted[1:]])


def test_a_network_that_corrects_nothing_is_the_closed_form(layers):
    shape = len(CELLS) + 2, 2
    outer = np.zeros(shape)
    outer[3:5, 1] = 9.0  # but that groups and blocks cost more
    n = len(FEATURES)
    plain = Network(np.zeros(n), np.ones(n), np.zeros((1, n + 1)), outer)
    steps = {plan.name: plan.step for plan in Learned(layers, (plain,)).for_loss(1e-3).plans}
    assert steps == {plan.name: plan.step for plan in ClosedForm(layers).for_loss(1e-3).plans}


def test_a_file_for_other_features_is_refused(tmp_path: Path):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"features": ["age"], "cells": [], "networks": []}))
    with pytest.raises(ValueError, match=r"odd\.json: features must be .*, not \['age'\]: train it again"):
        read(path)


def test_the_file_says_how_it_was_made_and_what_it_costs():
    path = Path(__file__).parents[2] / "src/regrain/planning/selectors/learned.json"
    made = json.loads(path.read_text("utf-8"))["made"]
    assert len(made["families"]) >= 6
    judged = made["regret_of_families_left_out"]
    assert set(judged) == {name for family in made["families"].values() for name in family}
    assert path.stat().st_size < 100_000


def test_the_search_is_no_closed_form(layers):
    with pytest.raises(ValueError, match="must be closed-form, learned or rule, not search: make a Solver"):
        selector(Selection.SEARCH, layers)


def of_entropy(make_layer: Make, peak: float, name: str) -> Layer:
    """Normal weights but for one of `peak` standard deviations in each row: log2(525 / peak) bits of an int8 index."""
    weights = np.random.default_rng(0).normal(0, 1, (64, 512)).astype(np.float32)
    weights[:, 0] = peak
    return make_layer(64, 512, name=name, weights=weights)


@pytest.fixture(scope="module")
def three(make_layer: Make) -> dict[str, Layer]:
    """One layer for each case of the rule, and a vector."""
    peaks = {"dense": 4.0, "between": 16.0, "peaked": 64.0}
    vector = make_layer(1, 64, name="vector", kind="vector", shape=(64,))
    return {name: of_entropy(make_layer, peak, name) for name, peak in peaks.items()} | {"vector": vector}


def test_the_rule_is_taken_at_its_word(three):
    rule = selector(Selection.RULE, three)
    plans = {plan.name: plan for plan in rule.for_loss(1e-3).plans}
    assert plans["dense"].method is plans["vector"].method is Method.LOSSLESS
    assert "entropy" in plans["dense"].why
    assert (plans["peaked"].method, plans["peaked"].cell) == (Method.QUANTIZE, CELLS[1])
    assert plans["peaked"].step == pytest.approx(64 / 127, rel=0.05)
    pruning = plans["between"].pruning
    assert (pruning.pattern.name, pruning.density) == ("block:16x1", 0.7)
    assert rule.for_loss(0.5) is rule.for_bytes(1.0)


def test_the_rule_has_options(three):
    thresholds = SelectionRule(high_entropy=7.9, low_entropy=7.9)
    plans = Rule(three, RuleOptions(thresholds, bits=4)).for_loss(1e-3).plans
    assert {plan.name: str(plan.method) for plan in plans} == {
        "dense": "quantize",
        "between": "quantize",
        "peaked": "quantize",
        "vector": "lossless",
    }
    assert plans[2].step == pytest.approx(64 / 7, rel=0.05)
    pruned = Rule(three, RuleOptions(pattern=Pattern("2:4"), density=0.5)).for_loss(1e-3).plans
    assert pruned[1].pruning.pattern.name == "2:4"


def test_the_rules_options_are_checked():
    with pytest.raises(ValueError, match="bits must be 2 to 15 for an index, not 1"):
        RuleOptions(bits=1)
    with pytest.raises(RecipeError, match="density must be a fraction above 0 to 1"):
        RuleOptions(density=0.0)
