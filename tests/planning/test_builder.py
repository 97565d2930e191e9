"""What was built last is not built again, where that takes long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.planning.builder import Builder
from regrain.planning.layer import Layer

Make = Callable[..., Layer]

HALF = LayerPlan("layer", Method.PRUNE, pruning=Pruning(Pattern("column"), 0.5))


def test_what_was_pruned_last_is_remembered(make_layer: Make) -> None:
    builder = Builder({"layer": make_layer()}, 1)
    first = builder.build({"layer": HALF})
    assert builder.build({"layer": replace(HALF, loss=0.5, why="predicted otherwise")}) is first
    less = builder.build({"layer": replace(HALF, pruning=Pruning(Pattern("column"), 0.25))})
    assert less["layer"].density == 0.25
    again = builder.build({"layer": HALF})
    assert again is not first
    assert np.array_equal(again["layer"].values, first["layer"].values)


def test_what_is_only_rounded_is_not(make_layer: Make) -> None:
    builder = Builder({"layer": make_layer()}, 1)
    rounded = {"layer": LayerPlan("layer", Method.QUANTIZE, Cell("row"), 0.05)}
    assert builder.build(rounded) is not builder.build(rounded)
