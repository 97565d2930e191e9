"""The ladder: each notch looser loses less, each notch tighter saves more, and it has ends."""

from __future__ import annotations

import pytest
import torch

from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.training.choices import effect
from regrain.training.levels import COARSEST, FINEST, looser, tighter
from regrain.training.masks import mask_of

WEIGHTS = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))


def quantized(step: float, pruning: Pruning | None = None) -> LayerPlan:
    return LayerPlan("w", Method.QUANTIZE, Cell("row"), step, pruning=pruning)


def pruned(pattern: str, density: float) -> LayerPlan:
    return LayerPlan("w", Method.PRUNE, pruning=Pruning(Pattern(pattern), density))


def cost(plan: LayerPlan) -> tuple[float, float]:
    mask = None if plan.pruning is None else mask_of(WEIGHTS, plan.pruning)
    found = effect(WEIGHTS, plan, mask, None)
    return found.bits, found.damage


@pytest.mark.parametrize(
    "plan", [quantized(0.5), quantized(0.3, Pruning(Pattern("column"), 0.5)), pruned("row", 0.25), pruned("2:4", 0.5)]
)
def test_looser_loses_less_and_tighter_saves_more(plan: LayerPlan) -> None:
    bits, damage = cost(plan)
    for other in looser(plan, 1.0):
        assert cost(other)[1] < damage, other
    for other in tighter(plan, plan, 1.0):
        assert cost(other)[0] < bits, other


def test_a_notch_is_half_a_bit() -> None:
    (finer,) = looser(quantized(1.0), 1.0)
    assert finer.step == pytest.approx(2**-0.5)
    (coarser,) = tighter(quantized(1.0), quantized(1.0), 1.0)
    assert coarser.step == pytest.approx(2**0.5)


def test_the_ladder_goes_up_to_lossless_and_back_to_the_recipe() -> None:
    plan = origin = quantized(1.0)
    steps = []
    while plan.method is not Method.LOSSLESS:
        steps.append(plan.step)
        (plan,) = looser(plan, 1.0)
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] >= FINEST
    assert looser(plan, 1.0) == ()
    while True:
        options = tighter(plan, origin, 1.0)
        if not options:
            break
        (plan,) = options
        assert plan.cell == origin.cell
    assert COARSEST / 1.5 < plan.step <= COARSEST


def test_what_the_recipe_leaves_alone_stays_alone() -> None:
    plan = LayerPlan("w", Method.LOSSLESS)
    assert tighter(plan, plan, 1.0) == ()
    assert tighter(pruned("fine", 0.5), plan, 1.0) == ()


def test_patterns_become_finer_at_the_same_density_and_coarser_again() -> None:
    plan = origin = pruned("column", 0.5)
    seen = []
    for expected in ("block:16x1", "fine"):
        plan = next(one for one in looser(plan, 1.0) if one.pruning.pattern != plan.pruning.pattern)
        assert plan.pruning.density == 0.5
        assert plan.pruning.pattern.name == expected
        seen.append(plan)
    back = next(one for one in tighter(plan, origin, 1.0) if one.pruning.pattern != plan.pruning.pattern)
    assert back.pruning == seen[0].pruning
    again = next(one for one in tighter(back, origin, 1.0) if one.pruning.pattern != back.pruning.pattern)
    assert again.pruning == origin.pruning


@pytest.mark.parametrize(("density", "denser", "sparser"), [(0.5, 0.6, 0.4), (0.245, 0.3, 0.2), (0.9, None, 0.8)])
def test_densities_are_those_of_the_ladder(density: float, denser: float | None, sparser: float) -> None:
    plan = pruned("fine", density)
    up = [one.pruning and one.pruning.density for one in looser(plan, 1.0)]
    assert up == [denser]
    assert [one.pruning.density for one in tighter(plan, plan, 1.0)] == [sparser]
    if denser is None:
        assert looser(plan, 1.0)[0].method is Method.LOSSLESS


def test_followers_follow() -> None:
    plan = LayerPlan("w", Method.PRUNE, pruning=Pruning(Pattern("row"), follows="v"))
    assert looser(plan, 1.0) == tighter(plan, plan, 1.0) == ()
