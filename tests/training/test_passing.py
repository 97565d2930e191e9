"""Weights pass through a recipe: what is seen, where gradients go, and that nobody else notices."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.errors import RecipeError, TrainingError
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe
from regrain.kernels.feedback import round_with_feedback
from regrain.training import Passing, mask_of
from regrain.training.views import View

HALF = Pruning(Pattern("fine"), 0.5)


def quantized(name: str, step: float, **more: object) -> LayerPlan:
    return LayerPlan(name, Method.QUANTIZE, Cell("tensor"), step, **more)


@given(
    hnp.arrays(np.float32, (5, 7), elements=st.floats(-3, 3, width=32)),
    st.floats(1e-4, 2.0),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_indices_are_those_of_the_kernel(weights: np.ndarray, step: float, dead_zone: float) -> None:
    scale = scales_of(codes_of([[step]]))
    ones = np.ones(7, np.float32)
    expected, _ = round_with_feedback(
        weights, scale, (5, 7), columns=None, rows=None,
        weight_rows=ones[:5], weight_columns=ones, dead_zone=dead_zone,
    )  # fmt: skip
    view = View(quantized("w", step, dead_zone=dead_zone), None)
    assert np.array_equal(view.indices(torch.from_numpy(weights)).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_seen_is_what_indices_restore(dtype: torch.dtype) -> None:
    layer = nn.Linear(40, 24).to(dtype)
    mask = mask_of(layer.weight, HALF)
    plan = quantized("weight", 1e-4, pruning=HALF)
    passing = Passing(layer, Recipe((plan,)), {"weight": mask})
    found = passing.quantized("weight")
    name = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[dtype]
    seen = layer.weight.detach()
    assert seen.contiguous().view(torch.uint8).numpy().tobytes() == found.dequantized(name).tobytes()
    assert not seen[~mask].view(torch.int32 if dtype is torch.float32 else torch.int16).any(), "no -0.0 either"


def test_network_sees_rounded_weights_and_the_optimizer_does_not(net, images, quantized) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    reference = copy.deepcopy(net)
    scale = float(scales_of(codes_of([0.05]))[0])
    with torch.no_grad():
        reference[0].weight.copy_((reference[0].weight / scale).round() * scale)
    passing = Passing(net, Recipe((quantized("0.weight", 0.05),)))
    assert torch.equal(net(images), reference(images))
    assert torch.equal(net[0].weight, reference[0].weight)
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in ("0.weight", "4.weight"))
    assert torch.equal(next(net.parameters()), before["0.weight"])
    assert isinstance(net[0], nn.Conv2d)
    assert repr(net) == repr(reference)
    passing.detach()
    assert type(net[0]) is nn.Conv2d
    assert net[0].weight is next(net.parameters())


def test_gradient_goes_straight_through_and_not_to_what_is_dropped(net, images, labels, recipe) -> None:
    masks = {plan.name: mask_of(net.get_parameter(plan.name), plan.pruning) for plan in recipe.layers if plan.pruning}
    seen = copy.deepcopy(net)
    passing = Passing(net, recipe, masks)
    seen.load_state_dict(net.state_dict())
    with torch.no_grad():
        for plan in recipe.layers:
            seen.get_parameter(plan.name).copy_(passing.values(plan.name))
    for model in (net, seen):
        nn.functional.cross_entropy(model(images), labels).backward()
    for name, parameter in net.named_parameters():
        expected = seen.get_parameter(name).grad
        if name in masks:
            assert not parameter.grad[~masks[name]].any()
            expected = expected * masks[name]
        assert torch.equal(parameter.grad, expected), name


def test_folded_is_what_fold_leaves_and_ends(net, images, recipe) -> None:
    masks = {plan.name: mask_of(net.get_parameter(plan.name), plan.pruning) for plan in recipe.layers if plan.pruning}
    before = copy.deepcopy(net.state_dict())
    passing = Passing(net, recipe, masks)
    with pytest.raises(KeyError), passing.folded():
        inside = copy.deepcopy(net.state_dict())
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))
    passing.fold()
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), inside.values(), strict=True))
    assert not torch.equal(net.state_dict()["4.weight"], before["4.weight"])
    assert not passing.attached


def test_bypassed_sees_the_weights_behind(net, images, quantized) -> None:
    net.eval()
    plain = net(images)
    passing = Passing(net, Recipe((quantized("0.weight", 0.2),)))
    with passing.bypassed():
        assert torch.equal(net(images), plain)
    assert not torch.equal(net(images), plain)


def test_buffers_change_only_where_they_are_looked_at(net, images, quantized) -> None:
    Passing(net, Recipe((quantized("1.running_mean", 0.25),)))
    net(images)
    assert net[1].running_mean.abs().max() > 0
    with Passing(net, Recipe((quantized("1.running_var", 0.5),))).folded():
        assert set((2 * net[1].running_var).tolist()) <= {2.0, 3.0, 1.0, 0.0}


def test_copies_and_state_dicts_are_independent(net, images, quantized) -> None:
    Passing(net, Recipe((quantized("0.weight", 0.1),)))
    other = copy.deepcopy(net)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert not torch.equal(other[0].weight, net[0].weight)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=True)["0.weight"], next(net.parameters()))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


def test_tied_weights_are_seen_alike_everywhere() -> None:
    model = Tied()
    passing = Passing(model, Recipe((quantized("embed.weight", 0.5),)))
    assert torch.equal(model.head.weight, model.embed.weight)
    assert not torch.equal(model.head.weight, next(model.parameters()))
    passing.fold()
    assert model.head.weight is model.embed.weight
    with pytest.raises(TrainingError, match="'head.weight' must be planned as 'embed.weight', which it is tied to"):
        Passing(model, Recipe((quantized("head.weight", 0.5),)))


def test_attention_reads_its_output_weights_through_the_view() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    passing = Passing(attention, Recipe((quantized("out_proj.weight", 0.3), quantized("in_proj_weight", 0.3))))
    seen = attention(x, x, x)[0]
    passing.fold()
    assert torch.equal(attention(x, x, x)[0], seen)


def test_what_cannot_pass_is_refused(net, quantized) -> None:
    row = Pruning(Pattern("row"), 0.5)
    for plan, text in (
        (LayerPlan("1.weight", Method.PRUNE, pruning=row), "'1.weight' must be a matrix to be pruned, not a vector"),
        (LayerPlan("1.running_var", Method.PRUNE, pruning=row), "must be a matrix to be pruned, not a buffer"),
        (LayerPlan("4.weight", Method.PRUNE, pruning=row), "'4.weight' must have a mask if and only if"),
    ):
        with pytest.raises(TrainingError, match=text):
            Passing(net, Recipe((plan,)))
    with pytest.raises(RecipeError, match="no tensor 'x.weight'"):
        Passing(net, Recipe((quantized("x.weight", 0.1),)))
    with pytest.raises(TrainingError, match="LSTM keeps its weights to itself"):
        Passing(nn.LSTM(4, 4), Recipe((quantized("weight_ih_l0", 0.1),)))
    with pytest.raises(TrainingError, match="without sparse gradients and max_norm"):
        Passing(nn.Embedding(4, 4, sparse=True), Recipe((quantized("weight", 0.1),)))
    with pytest.raises(TrainingError, match="must be float32, float16 or bfloat16 to pass, not torch.float64"):
        Passing(nn.Linear(4, 4).double(), Recipe((quantized("weight", 0.1),)))
    assert type(net[4]) is nn.Linear


def test_masks_must_fit(net) -> None:
    plan = LayerPlan("4.weight", Method.PRUNE, pruning=HALF)
    for mask, text in (
        (torch.ones(3, 3, dtype=torch.bool), r"must be boolean of shape \(32, 256\), not torch.bool of \(3, 3\)"),
        (torch.ones(32, 256), "must be boolean of shape"),
        (torch.ones(32, 256, dtype=torch.bool, device="meta"), "must be on the model's device cpu, not on meta"),
    ):
        with pytest.raises(TrainingError, match=text):
            Passing(net, Recipe((plan,)), {"4.weight": mask})


def test_model_stays_where_its_masks_are(net, images) -> None:
    plan = LayerPlan("4.weight", Method.PRUNE, pruning=HALF)
    Passing(net, Recipe((plan,)), {"4.weight": mask_of(net[4].weight, HALF)})
    net.to("meta")
    with pytest.raises(TrainingError, match="model must be on cpu, where its masks are, not on meta: move it before"):
        net(images.to("meta"))


def test_one_recipe_at_a_time(net, quantized) -> None:
    first = Passing(net, Recipe((quantized("0.weight", 0.1),)))
    with pytest.raises(TrainingError, match="must pass through one recipe at a time: detach the other one first"):
        Passing(net, Recipe((quantized("4.weight", 0.1), quantized("0.weight", 0.2))))
    first.detach()
    Passing(net, Recipe((quantized("0.weight", 0.2),)))


def test_double_backward_of_accumulated_batches_adds_up(net, images, labels, quantized) -> None:
    net.eval()
    Passing(net, Recipe((quantized("0.weight", 0.1),)))
    nn.functional.cross_entropy(net(images), labels, reduction="sum").backward()
    whole = next(net.parameters()).grad.clone()
    net.zero_grad()
    for half in (slice(0, 32), slice(32, 64)):
        nn.functional.cross_entropy(net(images[half]), labels[half], reduction="sum").backward()
    torch.testing.assert_close(next(net.parameters()).grad, whole, rtol=1e-4, atol=1e-4)
