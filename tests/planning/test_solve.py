"""The choice of candidates: never over the limit, never far from the best there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.recipe import Cell, Method
from regrain.planning.candidates import Candidates, Curve
from regrain.planning.hostcosts import HostCosts, measure_costs
from regrain.planning.layer import Factors, Layer
from regrain.planning.solve import Solution, Solver


@st.composite
def tensors(draw: st.DrawFn, convex: bool = False) -> list[Candidates]:
    """A few tensors with a few candidates, in any order but for convex ones: bytes ~ -log(loss)."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 5))
        if convex:
            loss = draw(st.floats(1e-6, 1e-2)) * 2.0 ** np.arange(count)
            size = draw(st.floats(10, 1e5)) * (8 - 0.5 * np.arange(count))
        else:
            loss = np.array(draw(st.lists(st.floats(1e-9, 1.0), min_size=count, max_size=count)))
            size = np.array(draw(st.lists(st.floats(1.0, 1e6), min_size=count, max_size=count)))
        curve = Curve(Cell("tensor"), np.arange(count), size, loss)
        made.append(Candidates(f"t{number}", 100, draw(st.floats(1.0, 2e6)), (curve,)))
    return made


def every(tensors: list[Candidates]) -> list[tuple[float, float]]:
    """Bytes and loss of all combinations."""
    each = [[(one.lossless, 0.0), *zip(one.curves[0].bytes, one.curves[0].loss, strict=True)] for one in tensors]
    return [(sum(size for size, _ in picks), sum(loss for _, loss in picks)) for picks in product(*each)]


def check(found: Solution, tensors: list[Candidates]) -> None:
    """It is one of the combinations."""
    assert [plan.name for plan in found.plans] == [one.name for one in tensors]
    assert found.bytes == pytest.approx(sum(plan.bytes for plan in found.plans))
    assert found.loss == pytest.approx(sum(plan.loss for plan in found.plans))


@given(tensors(), st.floats(1e-9, 4.0))
def test_the_gap_is_an_upper_bound_of_what_could_be_saved(tensors: list[Candidates], limit: float) -> None:
    found = Solver(tensors).for_loss(limit)
    check(found, tensors)
    best = min(size for size, loss in every(tensors) if loss <= limit)
    assert found.loss <= limit
    assert best <= found.bytes * (1 + 1e-9)
    assert found.bytes - found.gap <= best * (1 + 1e-9)


@given(tensors(convex=True), st.floats(1e-6, 1.0))
def test_a_choice_is_the_best_for_its_own_loss(tensors: list[Candidates], limit: float) -> None:
    found = Solver(tensors).for_loss(limit)
    best = min(size for size, loss in every(tensors) if loss <= found.loss * (1 + 1e-12))
    assert found.bytes == pytest.approx(best, rel=1e-9)


@given(tensors(), st.floats(1e-9, 4.0), st.floats(1.0, 100.0))
def test_more_loss_never_takes_more_bytes(tensors: list[Candidates], limit: float, more: float) -> None:
    solver = Solver(tensors)
    assert solver.for_loss(limit * more).bytes <= solver.for_loss(limit).bytes * (1 + 1e-12)


@given(tensors(), st.floats(1.0, 5e6), st.floats(1.0, 100.0))
def test_more_bytes_never_take_more_loss(tensors: list[Candidates], size: float, more: float) -> None:
    solver = Solver(tensors)
    first, second = solver.for_bytes(size), solver.for_bytes(size * more)
    check(first, tensors)
    assert second.loss <= first.loss * (1 + 1e-12)
    smallest = min(total for total, _ in every(tensors))
    assert first.bytes <= max(size, smallest * (1 + 1e-9))


@given(tensors())
def test_no_loss_is_lossless(tensors: list[Candidates]) -> None:
    found = Solver(tensors).for_loss(0.0)
    assert all(plan.method is Method.LOSSLESS for plan in found.plans)
    assert found.loss == found.gap == 0.0


def test_many_layers_come_close_to_the_bound() -> None:
    """With curves as dense as real ones, nothing worth speaking of is left: under 0.01 bits a weight."""
    rng = np.random.default_rng(0)
    tensors = []
    for number in range(40):
        count, codes = int(rng.integers(1e3, 1e6)), np.arange(-80, 0)
        loss = rng.lognormal(-12, 2) * 2.0 ** (codes / 4)
        curves = tuple(
            Curve(Cell(cell), codes, count * (rng.uniform(2, 3) - codes / 8) / 8, loss * rng.uniform(0.9, 1.1))
            for cell in ("tensor", "row")
        )
        tensors.append(Candidates(f"t{number}", count, 3.0 * count, curves))
    weights = sum(one.count for one in tensors)
    for limit in (1e-6, 1e-5, 1e-4):
        found = Solver(tensors).for_loss(limit)
        assert limit * 0.9 < found.loss <= limit
        assert 8 * found.gap / weights < 0.01


def test_latency_prefers_what_decodes_sooner() -> None:
    curve = Curve(Cell("tensor"), np.arange(2), np.array([50.0, 10.0]), np.array([0.1, 0.3]))
    tensors = [Candidates("a", 100, 100.0, (curve,))]
    assert Solver(tensors).for_loss(0.3).bytes == 10
    # Quantized weights that took as long to decode as 200 bytes to read would be worth it for no one.
    assert Solver(tensors, HostCosts(byte=1.0, lossless=0.0, quantized=2.0)).for_loss(0.3).bytes == 100
    assert Solver(tensors, HostCosts(byte=1.0, lossless=2.0, quantized=0.0)).for_loss(0.3).bytes == 10


def test_costs_of_this_machine() -> None:
    weights = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    layer = Layer("w", "F32", "linear", weights.shape, weights, weights.nbytes, Factors.alike(*weights.shape))
    costs = measure_costs(layer)
    assert 0.0 < costs.byte < 1e-6
    assert 0.0 < costs.quantized < 1e-4 and 0.0 < costs.lossless < 1e-4
