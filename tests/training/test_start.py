"""Recipes to start with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.errors import RecipeError
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Method
from regrain.training import starting_recipe


def test_matrices_get_coarse_steps_vectors_fine_ones_buffers_none(net) -> None:
    plans = starting_recipe(net, step=0.5).by_name()
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 1:
            spread = float(tensor.square().mean().sqrt())
            assert plans[name].step == pytest.approx(0.5 * spread, rel=0.05)
            assert scales_of(codes_of([plans[name].step]))[0] == plans[name].step
    assert plans["4.bias"].step < 0.02 * float(net[4].bias.detach().abs().max())
    assert plans["1.running_var"].method is plans["1.weight"].method is Method.LOSSLESS, "all ones need no step"
    assert plans["1.weight"].method is Method.LOSSLESS, "all ones need no step"
    assert "1.num_batches_tracked" not in plans


def test_running_statistics_get_finer_steps_still(net, images) -> None:
    net.train()
    net(images)
    plans = starting_recipe(net).by_name()
    variance = net[1].running_var
    assert plans["1.running_var"].step == pytest.approx(float(variance.square().mean().sqrt()) / 256, rel=0.05)
    other = nn.Module()
    other.register_buffer("table", torch.arange(9.0))
    assert starting_recipe(other).plan("table").method is Method.LOSSLESS


def test_steps_go_with_the_gradients(net, images) -> None:
    plain, found = (
        starting_recipe(net, backward=backward).by_name()
        for backward in (None, lambda: net(images).square().mean().backward())
    )
    names = ["0.weight", "4.weight", "6.weight"]
    counts = np.array([net.state_dict()[name].numel() for name in names])
    ratios = np.log2([found[name].step / plain[name].step for name in names])
    assert abs((ratios * counts).sum() / counts.sum()) < 0.07
    assert np.ptp(ratios) > 0.5
    assert found["4.bias"] == plain["4.bias"]


def test_unused_matrices_get_middling_steps(net, images) -> None:
    net.add_module("unused", nn.Linear(8, 8))
    plans = starting_recipe(net, backward=lambda: net[:7](images).square().mean().backward()).by_name()
    spread = float(net.unused.weight.detach().square().mean().sqrt())
    assert plans["unused.weight"].step == pytest.approx(spread / 16, rel=0.05)


def test_prunings_join(net) -> None:
    pruning = Pruning(Pattern("row"), 0.5)
    assert starting_recipe(net, prunings={"4.weight": pruning}).plan("4.weight").pruning == pruning
    only = starting_recipe(net, step=None, prunings={"4.weight": pruning})
    assert [plan.name for plan in only.layers if plan.method is not Method.LOSSLESS] == ["4.weight"]
    with pytest.raises(RecipeError, match="has no tensor 'nowhere'"):
        starting_recipe(net, prunings={"nowhere": pruning})


def test_weights_without_numbers_stay_lossless() -> None:
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.zero_()
    assert starting_recipe(model).plan("weight").method is Method.LOSSLESS
