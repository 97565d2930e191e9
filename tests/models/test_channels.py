"""Channels that can be removed together: which are found, which are refused and why, and that nothing else happens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from regrain.models.channels import Found, Group, channel_groups

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def found(model: nn.Module, *shape: int) -> Found:
    torch.manual_seed(0)
    x = torch.randn(shape)
    result = channel_groups(model, lambda: model(x))
    makers = [name for group in result.groups for name in group.makers]
    layers = [f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert sorted([*makers, *result.why]) == sorted(layers)  # each layer is in a group, or there is a reason
    return result


def linear(forward: Forward, *, out: int = 3, **more: nn.Module) -> Net:
    """Two layers with four channels between them; a batch is (n, 5)."""
    torch.manual_seed(0)
    return Net(forward, a=nn.Linear(5, 4), b=nn.Linear(4, out), **more)


def conv(forward: Forward, **more: nn.Module) -> Net:
    """Two convolutions with four channels between them; a batch is (n, 2, 6, 6)."""
    torch.manual_seed(0)
    return Net(forward, a=nn.Conv2d(2, 4, 3, padding=1), b=nn.Conv2d(4, 4, 3, padding=1), **more)


def test_channels_of_a_gated_layer_have_two_makers() -> None:
    model = linear(lambda m, x: m.b(functional.silu(m.a(x)) * m.gate(x)), gate=nn.Linear(5, 4, bias=False))
    assert found(model, 2, 7, 5) == Found(
        (Group(("a.weight", "gate.weight"), ("a.bias",), ("b.weight",), (1,), 4),),
        {"b.weight": "its channels reach the output"},
    )


def test_a_residual_stream_is_one_group() -> None:
    """Its channels pass convolutions, batch norms and pooling, and each of them is four columns of the last layer."""
    model = conv(
        lambda m, x: m.head(functional.max_pool2d(m.a(x) + m.norm(m.b(m.a(x).relu())), 3).flatten(1)),
        norm=nn.BatchNorm2d(4),
        head=nn.Linear(16, 3),
    )
    (group,) = found(model, 3, 2, 6, 6).groups
    vectors = ("a.bias", "b.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    assert group == Group(("a.weight", "b.weight"), vectors, ("b.weight", "head.weight"), (1, 4), 4)


def test_flattened_channels_may_meet_others() -> None:
    """Which joins sets of channels of which one has two positions for each of the other's."""
    model = conv(
        lambda m, x: m.head(m.wide(m.a(x).mean(3).flatten(1)).relu() + m.a(x).amax(3).flatten(1)),
        wide=nn.Linear(24, 24),
        head=nn.Linear(24, 3),
    )
    reasons = found(model, 2, 2, 6, 6).why
    assert reasons["a.weight"] == reasons["wide.weight"] == "'wide.weight' has 6 numbers for each of its channels"


def test_squeeze_and_excitation() -> None:
    model = conv(
        lambda m, x: m.b(m.a(x) * m.up(m.down(m.a(x).mean((2, 3), keepdim=True)).relu()).sigmoid()).mean((2, 3)),
        down=nn.Conv2d(4, 2, 1),
        up=nn.Conv2d(2, 4, 1),
    )
    assert [(group.makers, group.users) for group in found(model, 2, 2, 6, 6).groups] == [
        (("a.weight", "up.weight"), ("b.weight", "down.weight")),
        (("down.weight",), ("up.weight",)),
    ]


@pytest.mark.parametrize(
    "between",
    [
        lambda h: functional.hardswish(h).clamp_(0, 6).mul_(2),
        lambda h: h[:, 1:] * 0.5 + h.amax(1, keepdim=True),
        lambda h: torch.where(h > 0, h, torch.zeros_like(h)).double().float(),
        lambda h: h.unflatten(1, (1, -1)).squeeze(1).transpose(0, 1).contiguous(),
        lambda h: torch.cat([h, -h], dim=1),
        lambda h: torch.stack([h, h.abs()]).softmax(0)[1],
        lambda h: h[torch.arange(2), torch.tensor([0, 3])],
        lambda h: h[torch.tensor([[True] * 7, [False] * 7])].expand(5, -1, -1).sum(0),
        lambda h: torch.cat([part.mean(1, keepdim=True) for part in h.split([3, 4], dim=1)], dim=1),
    ],
)
def test_what_keeps_channels_apart(between: Callable[[torch.Tensor], torch.Tensor]) -> None:
    (group,) = found(linear(lambda m, x: m.b(between(m.a(x)))), 2, 7, 5).groups
    assert group == Group(("a.weight",), ("a.bias",), ("b.weight",), (1,), 4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_mode_of_the_call_does_not_matter(mode: Callable[[], object]) -> None:
    model, x = linear(lambda m, x: m.b(torch.relu_(m.a(x)).flatten(0, 1))), torch.randn(2, 7, 5)

    def call() -> torch.Tensor:
        with mode():  # type: ignore[attr-defined]
            return model(x)

    assert len(channel_groups(model, call).groups) == 1


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda h: h.view(2, 2, 2).flatten(1), "used by an operation that mixes them: aten.view"),
        (lambda h: h.reshape(1, 8)[:, :4], "used by an operation that mixes them: aten.view"),
        (lambda h: h.softmax(1), "used by an operation that mixes them: aten._softmax"),
        (lambda h: h[:, [1, 0, 2, 3]], "used by an operation that mixes them: aten.index"),
        (lambda h: h.index_select(1, torch.tensor([1, 0, 2, 3])), "used by an operation that mixes them: aten.index_s"),
        (lambda h: h.flip(1), "used by an operation that mixes them: aten.flip"),
        (lambda h: torch.cat([h[:, :2], h[:, :2]], 1), "used by an operation that mixes them: aten.slice"),
        (lambda h: torch.cat([h, h], 0)[:2] + h[:, :1], "used by an operation that mixes them: aten.slice"),
        (lambda h: h.std(1, keepdim=True) * h, "used by an operation that mixes them: aten.std"),
        (lambda h: functional.pad(h[:, None], (1, 0))[:, 0, 1:], "used by an operation that mixes them: aten.constant"),
        (lambda h: h if h.sum() > 0 else -h, "used by an operation that mixes them: aten.sum"),
        (lambda h: h * torch.arange(4), "they meet values that are not channels of a layer: aten.mul"),
        (lambda h: torch.zeros(2, 4).copy_(h), "they meet values that are not channels of a layer: aten.copy_"),
        (lambda h: (h @ h.T) @ torch.ones(2, 4), "they are multiplied with each other and summed: aten.mm"),
        (lambda h: functional.layer_norm(h, (4,)), "used by an operation that mixes them: aten.native_layer_norm"),
    ],
)
def test_what_mixes_channels(between: Callable[[torch.Tensor], torch.Tensor], reason: str) -> None:
    result = found(linear(lambda m, x: m.b(between(m.a(x)))), 2, 5)
    assert not result.groups
    assert result.why["a.weight"].startswith(reason)


class RootNorm(nn.Module):
    """A normalization as language models have it, written out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), RootNorm()])
def test_channels_that_are_normalized_together(norm: nn.Module) -> None:
    result = found(linear(lambda m, x: m.b(m.norm(m.a(x)) + m.a(x)), norm=norm), 2, 5)
    assert not result.groups
    assert result.why["a.weight"] == "they are normalized together by 'norm'"


def test_norms_over_other_axes_keep_channels_apart() -> None:
    model = conv(lambda m, x: m.b(m.norm(m.a(x))).mean((2, 3)), norm=nn.LayerNorm((6, 6)))
    assert [group.makers for group in found(model, 2, 2, 6, 6).groups] == [("a.weight",)]


def test_depth_wise_convolutions() -> None:
    """A row makes a channel of the channel of the same number."""
    model = conv(lambda m, x: m.b(m.deep(m.a(x).relu())).mean((2, 3)), deep=nn.Conv2d(4, 4, 3, groups=4))
    (group,) = found(model, 2, 2, 6, 6).groups
    assert group == Group(("a.weight", "deep.weight"), ("a.bias", "deep.bias"), ("b.weight",), (1,), 4)
    assert (model.deep.in_channels, model.deep.out_channels, model.deep.groups) == (4, 4, 4)


@pytest.mark.parametrize(("groups", "out"), [(2, 4), (4, 8)])
def test_grouped_convolutions(groups: int, out: int) -> None:
    model = conv(
        lambda m, x: m.c(m.deep(m.a(x))).mean((2, 3)) + m.b(m.a(x)).mean((2, 3)),
        deep=nn.Conv2d(4, out, 3, groups=groups),
        c=nn.Conv2d(out, 4, 1),
    )
    result = found(model, 2, 2, 6, 6)
    assert not result.groups
    reason = "they meet a grouped convolution 'deep.weight'"
    output = "its channels reach the output"
    assert result.why == {"a.weight": reason, "deep.weight": reason, "b.weight": output, "c.weight": output}


def test_transposed_convolutions() -> None:
    model = conv(lambda m, x: m.up(m.b(m.a(x))), up=nn.ConvTranspose2d(4, 2, 2))
    result = found(model, 2, 2, 6, 6)
    assert [group.makers for group in result.groups] == [("a.weight",)]
    assert result.why == {"b.weight": "they meet a transposed convolution: aten.convolution in 'up'"}


def test_a_layer_that_is_called_twice() -> None:
    """Both calls' channels are the same; and where its inputs are its outputs, its rows and columns are, too."""
    twice = linear(lambda m, x: m.b(m.a(x).relu()) + m.b(m.a(-x).tanh()))
    assert [group.makers for group in found(twice, 2, 5).groups] == [("a.weight",)]
    again = linear(lambda m, x: m.b(m.loop(m.loop(m.a(x)).relu())), loop=nn.Linear(4, 4))
    (group,) = found(again, 2, 5).groups
    assert group == Group(("a.weight", "loop.weight"), ("a.bias", "loop.bias"), ("b.weight", "loop.weight"), (1, 1), 4)
    other = linear(lambda m, x: m.b(m.a(x)) + m.b(x[:, :4]))
    assert found(other, 2, 5).why["a.weight"] == "they meet values that are not channels of a layer: aten.addmm in 'b'"


def test_tied_weights() -> None:
    model = linear(lambda m, x: m.b(m.a(x)) + m.c(m.a(x)), c=nn.Linear(4, 3))
    model.c.weight = model.b.weight
    x = torch.ones(2, 5)
    assert channel_groups(model, lambda: model(x)).why == {
        "a.weight": "tied to 'c.weight'",
        "b.weight": "tied to 'c.weight'",
        "c.weight": "tied to 'b.weight'",
    }
    words = Net(lambda m, x: m.head(m.embed(x)), embed=nn.Embedding(7, 4), head=nn.Linear(4, 7))
    words.head.weight = words.embed.weight
    ids = torch.tensor([[1, 2]])
    assert channel_groups(words, lambda: words(ids)).why == {"head.weight": "tied to 'embed.weight'"}


def test_layers_without_a_part_in_the_call() -> None:
    more = {"unused": nn.Linear(4, 4), "idle": nn.Linear(4, 4), "one": nn.Linear(4, 1)}
    model = linear(lambda m, x: (m.idle(m.a(x)), m.b(m.a(x)) * m.one(m.a(x)))[1], **more)
    result = found(model, 2, 5)
    assert result.groups[0].users == ("b.weight", "idle.weight", "one.weight")
    assert result.why == {
        "b.weight": "its channels reach the output",
        "unused.weight": "not used in this call",
        "idle.weight": "no layer uses its channels in this call",
        "one.weight": "it has one channel only",
    }


def test_what_no_operation_shows_is_found_by_trying() -> None:
    def hidden(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = m.a(x).relu()
        return m.b(h) + torch.from_numpy(h.detach().numpy().sum(1, keepdims=True))

    def counted(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = m.a(x)
        return m.b(h / h.shape[1])

    def random(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.b(functional.dropout(m.a(x), 0.5, training=True))

    def fixed(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.head(m.a(x).view(-1, 4 * 6 * 6))

    assert found(linear(hidden), 2, 5).why["a.weight"] == (
        "the outputs depend on its channels even where no layer uses them"
    )
    for forward in (counted, random):
        assert found(linear(forward), 2, 5).why["a.weight"] == (
            "the model computes something else with fewer of its channels"
        )
    why = found(conv(fixed, head=nn.Linear(144, 3)), 2, 2, 6, 6).why
    assert why["a.weight"].startswith("the model can't run with fewer of its channels: RuntimeError")


def test_weights_may_be_converted_for_a_call() -> None:
    model, x = linear(lambda m, x: m.b(m.a(x))), torch.randn(2, 5)

    def call() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x)

    assert [group.makers for group in channel_groups(model, call).groups] == [("a.weight",)]


class Counter(nn.Linear):
    """A layer whose state isn't all tensors."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 0}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_a_state_with_more_than_tensors() -> None:
    model = linear(lambda m, x: m.c(m.b(m.a(x))), out=6, c=Counter(6, 2))
    assert len(found(model, 2, 5).groups) == 2


def test_a_group_that_fails_leaves_the_others() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = m.b(m.a(x).relu())
        return m.c(h / h.shape[1])

    result = found(linear(forward, out=6, c=nn.Linear(6, 2)), 2, 5)
    assert [group.makers for group in result.groups] == [("a.weight",)]
    assert set(result.why) == {"b.weight", "c.weight"}


def test_no_exception_but_a_reason() -> None:
    model = linear(lambda m, x: m.b(m.a(x)))
    for call, reason in (
        (lambda: model(torch.zeros(2, 3)), "RuntimeError: mat1 and mat2"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: model(torch.zeros(2, 5)).sum().item(), "TypeError: the call gives back no tensor but float"),
    ):
        result = channel_groups(model, call)
        assert not result.groups
        assert result.why.keys() == {"a.weight", "b.weight"}
        assert all(why.startswith(f"graph could not be traced: {reason}") for why in result.why.values())


def test_outputs_are_found_in_whatever_holds_them() -> None:
    class Result:
        def __init__(self, h: torch.Tensor, y: torch.Tensor) -> None:
            self.hidden, self.logits = {"last": [h]}, y

    model = linear(lambda m, x: m.b(m.a(x)))
    result = channel_groups(model, lambda: Result(model.a(torch.ones(2, 5)), model(torch.ones(2, 5))))
    assert result.why == dict.fromkeys(("a.weight", "b.weight"), "its channels reach the output")


def test_the_model_stays_as_it_was() -> None:
    model = conv(lambda m, x: m.b(m.norm(m.a(x))).mean((2, 3)), norm=nn.BatchNorm2d(4), drop=nn.Dropout())
    model.drop.eval()
    model.a.weight.requires_grad_(False)
    before = {name: (value, value.detach().clone()) for name, value in model.state_dict(keep_vars=True).items()}
    random, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    assert channel_groups(model, lambda: model(torch.ones(2, 2, 6, 6))).groups
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert model.norm.num_features == model.a.out_channels == model.b.in_channels == 4
    assert torch.backends.mha.get_fastpath_enabled()
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
        assert value.requires_grad == (name != "a.weight" and isinstance(value, nn.Parameter))
