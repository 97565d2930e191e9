"""Pruned matrices that are remembered, and layers whose inputs say little of what their weights are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from regrain import TaskError
from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.planning import layer as layers
from regrain.planning.layer import Layer, factors
from regrain.planning.prunings import Prunings
from regrain.profiling.sensitivity import Sensitivity

Make = Callable[..., Layer]

HALF, LESS = Pruning(Pattern("column"), 0.5), Pruning(Pattern("column"), 0.25)


@pytest.fixture
def pruned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each pruning that is really done."""
    done: list[int] = []
    original = layers.prune

    def counted(*arguments: object, **more: object) -> object:
        done.append(1)
        return original(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(layers, "prune", counted)
    return done


def test_what_was_wanted_last_is_remembered(make_layer: Make, pruned: list[int]) -> None:
    one, other = make_layer(name="one"), make_layer(name="other", seed=1)
    memory = Prunings(2 * one.weights.nbytes)
    first = memory.get(one, HALF)
    assert memory.get(one, HALF) is first
    second = memory.get(other, HALF)
    assert not np.array_equal(second.weights, first.weights)
    assert memory.get(one, HALF) is first  # now the other one was wanted longer ago
    assert len(pruned) == 2
    third = memory.get(one, LESS)
    assert third.units.sum() == 16
    assert (memory.get(one, HALF), memory.get(one, LESS)) == (first, third)
    assert len(pruned) == 3
    again = memory.get(other, HALF)
    assert again is not second
    np.testing.assert_array_equal(again.weights, second.weights)
    assert len(pruned) == 4


def test_without_room_the_last_one_stays(make_layer: Make, pruned: list[int]) -> None:
    memory = Prunings(0)
    assert memory.get(make_layer(), HALF) is memory.get(make_layer(), HALF)
    memory.get(make_layer(), LESS)
    memory.get(make_layer(), HALF)
    assert len(pruned) == 3


PATTERNS = ["fine", "2:4", "block:4x1", "block:5x7", "column", "row"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("samples", [1, 3])
def test_few_samples_are_enough(make_layer: Make, pattern: str, samples: int) -> None:
    """Gram matrices of rank 1, of inputs some of which were never active."""
    rng = np.random.default_rng(0)
    inputs, outputs = rng.normal(size=(samples, 64)).astype(np.float32), rng.normal(size=(samples, 48))
    inputs[:, 10:20] = 0.0
    outputs[:, :5] = 0.0
    known = Sensitivity(1.0, inputs.T @ inputs, (outputs.T @ outputs).astype(np.float32))
    layer = replace(make_layer(), factors=factors(known, (48, 64), None))
    for density in (0.9, 0.5, 0.02) if pattern != "2:4" else (0.5,):
        how = Pruning(Pattern(pattern), density)
        (found,) = layer.prune(how, [density])
        (plain,) = layer.prune(replace(how, compensation=Compensation.NONE), [density])
        assert np.isfinite(found.weights).all()
        assert 0.0 < found.cost <= plain.cost
        assert found.units.any()


def test_inputs_that_are_never_active_go_first(make_layer: Make) -> None:
    inputs = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    inputs[:, 10:20] = 0.0
    hessian = inputs.T @ inputs
    known = Sensitivity(1.0, hessian, np.eye(48, dtype=np.float32))
    layer = replace(make_layer(), factors=factors(known, (48, 64), hessian))
    (found,) = layer.prune(Pruning(Pattern("column"), 54 / 64), [54 / 64])
    assert np.flatnonzero(~found.units[0]).tolist() == list(range(10, 20))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gram_matrices_that_are_not_finite_never_get_here(bad: float) -> None:
    gram = np.eye(4, dtype=np.float32)
    gram[1, 2] = gram[2, 1] = bad
    with pytest.raises(TaskError, match="sensitivity must be a finite Gram matrix"):
        factors(Sensitivity(1.0, gram, np.eye(3, dtype=np.float32)), (3, 4), None)
    with pytest.raises(TaskError, match="sensitivity must be a finite Gram matrix"):
        factors(Sensitivity(1.0, np.eye(3, dtype=np.float32), gram), (4, 3), None)
