"""The choice of candidates: never over the limit, never far from the best there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.core.recipe import Cell, Method
from regrain.planning.candidates import Candidates, Curve
from regrain.planning.hostcosts import HostCosts, measure_costs
from regrain.planning.layer import Factors, Layer
from regrain.planning.solve import Objective, Solution, Solver


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


NONE = np.zeros(1, np.int64)


def group(draw: st.DrawFn, name: str, makers: tuple[str, ...]) -> Candidates:
    """A tensor that can be rounded, pruned, or pruned by columns that others make."""
    numbers = st.floats(0.01, 1.0)
    work, lossless = draw(st.integers(1, 1000)), draw(st.floats(50, 1000))
    curves = [Curve(Cell("row"), np.arange(2), lossless * np.array([0.2, 0.4]), np.array([draw(numbers), 1e-3]))]
    for pattern, density in (("block:16x1", 0.5), ("column", 0.75), ("column", 0.25)):
        spared = makers if pattern == "column" else ()
        pruning, loss = Pruning(Pattern(pattern), density), np.array([draw(numbers) * (1.1 - density)])
        curves.append(Curve(None, NONE, np.array([lossless * density]), loss, pruning, density, spared))
        both = {"bytes": density * curves[0].bytes, "loss": loss + density * curves[0].loss}
        curves.append(replace(curves[0], pruning=pruning, share=density, makers=spared, **both))
    return Candidates(name, 100, lossless, tuple(curves), work)


@st.composite
def groups(draw: st.DrawFn) -> list[Candidates]:
    """Three tensors: a chain, or one whose columns two others make."""
    makers = draw(st.sampled_from([{"b": ("a",), "c": ("b",)}, {"c": ("a", "b")}, {"a": ("c",)}, {"b": ("a", "c")}]))
    return [group(draw, name, makers.get(name, ())) for name in "abc"]


def choices(tensor: Candidates) -> list[tuple[float, float, float, float, tuple[str, ...], bool]]:
    """Bytes, loss, work, share, makers, and whether it is pruned, of each candidate."""
    found = [(tensor.lossless, 0.0, float(tensor.work), 1.0, (), False)]
    for curve in tensor.curves:
        found += [
            (size, loss, tensor.work * curve.share, curve.share, curve.makers, curve.pruning is not None)
            for size, loss in zip(curve.bytes, curve.loss, strict=True)
        ]
    return found


def whole(tensors: list[Candidates]) -> list[tuple[float, float, float]]:
    """Bytes, loss and work of all combinations: of each set of leaders that share no tensor."""
    found = []
    each = [choices(tensor) for tensor in tensors]
    names = [tensor.name for tensor in tensors]
    for picks in product(*each):
        leaders = [number for number, pick in enumerate(picks) if pick[4]]
        for chosen in (subset for size in range(len(leaders) + 1) for subset in combinations(leaders, size)):
            share = [1.0] * len(tensors)
            involved = [number for leader in chosen for number in (leader, *map(names.index, picks[leader][4]))]
            makers = [number for number in involved if number not in chosen]
            if len(set(involved)) < len(involved) or any(picks[number][5] for number in makers):
                continue
            for leader in chosen:
                for maker in picks[leader][4]:
                    share[names.index(maker)] = picks[leader][3]
            found.append(tuple(sum(s * p[at] for s, p in zip(share, picks, strict=True)) for at in range(3)))
    return found


@settings(max_examples=40)
@given(groups(), st.sampled_from([Objective.BYTES, Objective.WORK, Objective.BOTH]), st.floats(0.003, 2.0))
def test_groups_are_decided_as_well_as_all_combinations_allow(
    tensors: list[Candidates], objective: Objective, limit: float
) -> None:
    solver = Solver(tensors, None, objective)
    found = solver.for_loss(limit)
    assert found.loss <= limit
    for total in ("bytes", "loss"):
        assert getattr(found, total) == pytest.approx(sum(getattr(plan, total) for plan in found.plans))
    every = whole(tensors)
    costs = [solver.cost(size, work) for size, _, work in every]
    cost = solver.cost(found.bytes, found.work)
    assert any(
        np.allclose((found.bytes, found.loss, found.work), one, rtol=1e-9) for one in every
    )  # it is one of the combinations
    best = min(value for value, (_, loss, _) in zip(costs, every, strict=True) if loss <= limit)
    assert cost >= best * (1 - 1e-9)
    assert cost - found.gap <= best * (1 + 1e-9) + 1e-12
    # What is best for some price is best for its own loss.
    own = min(value for value, (_, loss, _) in zip(costs, every, strict=True) if loss <= found.loss * (1 + 1e-9))
    assert cost == pytest.approx(own, rel=1e-6)


def chain(loss: float, *, maker: float = 0.5, work: int = 100) -> list[Candidates]:
    """Two layers: the second can lose half of its columns, the first half of its blocks."""

    def pruned(pattern: str, loss: float, makers: tuple[str, ...] = ()) -> Curve:
        return Curve(None, NONE, np.array([50.0]), np.array([loss]), Pruning(Pattern(pattern), 0.5), 0.5, makers)

    return [
        Candidates("first", 100, 100.0, (pruned("block:16x1", maker),), work),
        Candidates("second", 100, 100.0, (pruned("column", loss, ("first",)),), work),
    ]


def test_rows_go_with_the_columns_that_they_make() -> None:
    found = Solver(chain(0.1), None, Objective.WORK).for_loss(0.1)
    first, second = found.plans
    assert (found.work, found.loss, found.bytes) == (100.0, 0.1, 100.0)
    assert first.pruning == Pruning(Pattern("row"), follows="second")
    assert (first.method, first.bytes, first.loss) == (Method.PRUNE, 50.0, 0.0)
    assert second.pruning == Pruning(Pattern("column"), 0.5)


def test_rows_stay_where_both_pruned_alone_cost_less() -> None:
    """Dropping the columns costs so much that the first layer's own blocks are the better deal."""
    found = Solver(chain(0.9, maker=0.1), None, Objective.WORK).for_loss(0.5)
    assert [plan.method for plan in found.plans] == [Method.PRUNE, Method.LOSSLESS]
    assert found.plans[0].pruning == Pruning(Pattern("block:16x1"), 0.5)
    assert found.work == 150.0


def test_rows_of_what_can_not_be_changed_stay() -> None:
    first, second = chain(0.1)
    found = Solver([replace(first, curves=()), second], None, Objective.WORK).for_loss(0.1)
    assert [plan.method for plan in found.plans] == [Method.LOSSLESS, Method.PRUNE]
    assert found.work == 150.0


def test_of_decisions_that_exclude_each_other_the_better_one_is_taken() -> None:
    """The middle layer can lead the first or follow the last, which has much more to give."""

    def layer(name: str, makers: tuple[str, ...], work: int) -> Candidates:
        pruning = Pruning(Pattern("column"), 0.5)
        curve = Curve(None, NONE, np.array([50.0]), np.array([0.2]), pruning, 0.5, makers)
        return Candidates(name, 100, 100.0, (curve,), work)

    tensors = [layer("a", (), 10), layer("b", ("a",), 100), layer("c", ("b",), 1000)]
    found = Solver(tensors, None, Objective.WORK).for_loss(0.2)
    assert [plan.pruning and plan.pruning.follows for plan in found.plans] == [None, "c", None]
    assert found.work == 560.0


def test_what_is_kept_whole_makes_up_for_what_is_not() -> None:
    """Where anything is dropped at all, and only where it can."""
    drops = Curve(None, np.zeros(1, np.int64), np.array([50.0]), np.array([0.01]), Pruning(Pattern("column"), 0.5), 0.5)
    pruned = Candidates("a", 100, 100.0, (drops,), work=10)
    whole, other = Candidates("b", 100, 100.0, (), work=10, absorbs=True), Candidates("c", 100, 100.0, (), work=10)
    solver = Solver([pruned, whole, other], objective=Objective.WORK)
    first, second, third = solver.for_loss(0.02).plans
    assert first.pruning == drops.pruning
    assert second.pruning == Pruning(Pattern("column"), 1.0, compensation=Compensation.SEQUENTIAL)
    assert (second.method, second.bytes, third.method) == (Method.PRUNE, 100.0, Method.LOSSLESS)
    assert {plan.method for plan in solver.for_loss(0.0).plans} == {Method.LOSSLESS}
    both = Solver([pruned, whole, other], objective=Objective.BOTH).for_loss(0.02)
    assert [plan.method for plan in both.plans] == [Method.PRUNE, Method.LOSSLESS, Method.LOSSLESS]


def test_each_tensor_may_make_up_for_itself_alone() -> None:
    how = Pruning(Pattern("column"), 0.5, compensation=Compensation.SEQUENTIAL)
    drops = Curve(None, np.zeros(1, np.int64), np.array([50.0]), np.array([0.01]), how, 0.5)
    tensors = [Candidates("a", 100, 100.0, (drops,), work=10), Candidates("b", 100, 100.0, (), work=10, absorbs=True)]
    solver = Solver(tensors, objective=Objective.WORK)
    assert [plan.pruning and plan.pruning.compensation for plan in solver.for_loss(0.02).plans] == ["sequential"] * 2
    solver.sequential = False
    assert [plan.pruning for plan in solver.for_loss(0.02).plans] == [Pruning(Pattern("column"), 0.5), None]


def test_work_alone_rounds_nothing() -> None:
    rounded = Curve(Cell("row"), np.arange(1), np.array([10.0]), np.array([1e-9]))
    tensors = [Candidates("a", 100, 100.0, (rounded,), 50)]
    for objective, method in ((Objective.WORK, Method.LOSSLESS), (Objective.BOTH, Method.QUANTIZE)):
        assert Solver(tensors, None, objective).for_loss(1.0).plans[0].method is method


def test_what_is_minimized() -> None:
    tensors = [Candidates("a", 100, 200.0, (), 50), Candidates("b", 100, 300.0, (), 150)]
    costs = {objective: Solver(tensors, None, objective).cost(100.0, 20.0) for objective in Objective}
    assert costs == {
        Objective.BYTES: 100.0,
        Objective.LATENCY: 100.0,
        Objective.WORK: 20.0,
        Objective.BOTH: 100 / 500 + 20 / 200,
    }
