"""Removed channels: the smaller model computes what the masked one does, and its state makes the same model again."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from regrain import TaskError
from regrain.models.channels import Group, channel_groups
from regrain.models.slim import fit, multiply_adds, positions, slim

TASKS = Path(__file__).parents[2] / "examples" / "tasks"


class Residual(nn.Module):
    """A stem and blocks as in a small ResNet, flattened before its head; images are (n, 2, 6, 6)."""

    def __init__(self, width: int, inner: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, width, 3, 2, padding=1), nn.BatchNorm2d(width), nn.PReLU(width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, n, 1, bias=False), nn.BatchNorm2d(n), nn.SiLU(), nn.Conv2d(n, width, 1))
            for n in inner
        )
        self.head = nn.Linear(width * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        y: torch.Tensor = self.head(x.flatten(1))
        return y


def residual(width: int = 4, inner: Sequence[int] = (3,), seed: int = 0) -> Residual:
    """In eval mode, with statistics and factors that are not 0 and 1."""
    torch.manual_seed(seed)
    model = Residual(width, inner).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if "var" in name else value.normal_(0.0, 0.5)
    return model


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def groups_of(model: nn.Module, *inputs: torch.Tensor) -> tuple[Group, ...]:
    return channel_groups(model, lambda: model(*inputs)).groups


def masked(model: nn.Module, kept: Mapping[Group, Sequence[int]]) -> nn.Module:
    """A copy in which nothing uses the other channels."""
    result = copy.deepcopy(model)
    state = result.state_dict()
    for group, numbers in kept.items():
        gone = torch.tensor(sorted(set(range(group.channels)) - set(numbers)), dtype=torch.int64)
        for name, span in zip(group.users, group.spans, strict=True):
            state[name][:, positions(gone, span)] = 0.0
    return result


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape
    assert float((one - other).detach().abs().max()) <= 1e-5 * max(float(one.detach().abs().max()), 1e-6)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_slim_model_is_the_masked_one(data: st.DataObject) -> None:
    width = data.draw(st.integers(2, 5))
    inner = data.draw(st.lists(st.integers(2, 4), max_size=2))
    model = residual(width, inner, data.draw(st.integers(0, 99)))
    groups = groups_of(model, images())
    assert [group.channels for group in groups] == [width, *inner]
    kept = {
        group: sorted(data.draw(st.sets(st.integers(0, group.channels - 1), min_size=1)))
        for group in data.draw(st.sets(st.sampled_from(groups)))
    }
    expected = masked(model, kept)(images())
    slim(model, kept)
    assert_close(model(images()), expected)
    fitted = residual(width, inner, 100)
    fit(fitted, model.state_dict())
    assert torch.equal(fitted(images()), model(images()))


def test_sizes_dtypes_and_gradients() -> None:
    model = residual().double()
    model.stem[0].weight.requires_grad_(False)
    stream, inner = groups_of(model, images().double())
    slim(model, {stream: [1, 3], inner: [0]})
    sizes = (model.stem[0].out_channels, model.stem[1].num_features, model.stem[2].num_parameters)
    assert sizes == (2, 2, 2)
    assert (model.blocks[0][0].in_channels, model.blocks[0][0].out_channels, model.head.in_features) == (2, 1, 18)
    assert {name: tuple(value.shape) for name, value in model.head.named_parameters()} == {
        "weight": (3, 18),
        "bias": (3,),
    }
    assert {value.dtype for value in model.state_dict().values()} == {torch.float64, torch.int64}
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ["stem.0.weight"]
    assert {name for name, _ in model.named_buffers()} == {name for name, _ in residual().named_buffers()}
    model.train()(images().double()).sum().backward()
    assert model.head.weight.grad.shape == (3, 18)


@pytest.mark.parametrize("kept", [[1, 2], [3]])
def test_depth_wise_convolutions(kept: list[int]) -> None:
    def make() -> nn.Sequential:
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()

    model = make()
    (group,) = groups_of(model, images())
    expected = masked(model, {group: kept})(images())
    slim(model, {group: kept})
    assert model[1].groups == model[1].in_channels == len(kept)
    assert_close(model(images()), expected)
    fitted = make()
    fit(fitted, model.state_dict())
    assert torch.equal(fitted(images()), model(images()))


def test_a_group_can_be_removed_after_another() -> None:
    model = residual()
    stream, inner = groups_of(model, images())
    expected = masked(model, {stream: [0, 2], inner: [1, 2]})(images())
    slim(model, {stream: [0, 2]})
    slim(model, {inner: [1, 2]})
    assert_close(model(images()), expected)
    assert [group.channels for group in groups_of(model, images())] == [2, 2]


@pytest.mark.parametrize("numbers", [[], [4], [-1, 2], [2, 1], [1, 1]])
def test_channels_that_cannot_be_kept(numbers: list[int]) -> None:
    model = residual()
    stream, inner = groups_of(model, images())
    with pytest.raises(
        TaskError, match=r"'stem.0.weight' to keep must be ascending numbers from 0 to 3, one or more, n"
    ):
        slim(model, {inner: [0], stream: numbers})
    assert torch.equal(model(images()), residual()(images()))


def test_groups_of_another_model() -> None:
    stream, _ = groups_of(residual(), images())
    with pytest.raises(
        TaskError, match=r"'stem.0.weight' must have 4 rows for its group, not the shape \(5, 2, 3, 3\)"
    ):
        slim(residual(5), {stream: [0]})
    with pytest.raises(TaskError, match=r"'head.weight' must have 36 columns for its group, not the shape \(3, 9\)"):
        model = residual()
        model.head = nn.Linear(9, 3)
        slim(model, {stream: [0]})
    with pytest.raises(TaskError, match=r"'stem.0.weight' must have 4 rows for its group, not the shape \(\)"):
        slim(nn.Linear(2, 2), {stream: [0]})


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight


def test_tied_weights_keep_their_shapes() -> None:
    group = Group(("a.weight",), ("a.bias",), ("b.weight",), (1,), 4)
    with pytest.raises(TaskError, match=r"'[ab].weight' must keep its shape: it is tied to '[ab].weight'"):
        slim(Tied(), {group: [0]})
    with pytest.raises(TaskError, match=r"'a.weight' must keep its shape: it is tied to 'b.weight'"):
        fit(Tied(), {"a.weight": (2, 4), "a.bias": (2,)})


def test_one_name_of_tied_weights_is_enough() -> None:
    model, state = Tied(), Tied().state_dict()
    del state["b.weight"]
    fit(model, state)
    assert torch.equal(model.b.weight, state["a.weight"])


def test_a_file_of_a_slim_model(tmp_path: Path) -> None:
    model = residual()
    stream, inner = groups_of(model, images())
    slim(model, {stream: [1, 2, 3], inner: [2]})
    save_file(model.state_dict(), tmp_path / "slim.safetensors")
    fitted = residual(seed=5)
    fit(fitted, load_file(tmp_path / "slim.safetensors"))
    assert torch.equal(fitted(images()), model(images()))
    assert fitted.stem[1].num_features == 3


def test_shapes_alone() -> None:
    model = residual()
    fit(model, {"blocks.0.3.weight": (4, 2, 1, 1), "blocks.0.0.weight": [2, 4, 1, 1], "head.bias": torch.Size([3])}
        | {f"blocks.0.1.{leaf}": (2,) for leaf in ("weight", "bias", "running_mean", "running_var")})  # fmt: skip
    assert model(images()).shape == (2, 3)
    assert model.blocks[0][0].out_channels == 2


@pytest.mark.parametrize(
    ("shapes", "fault"),
    [
        (
            {"stem.0.weight": (3, 2, 3, 3)},
            "'stem.0.weight' and 'stem.0.bias' must have the same number of channels, not",
        ),
        (
            {"stem.1.bias": (3,)},
            r"'stem.1.bias' and 'stem.1.weight' must have the same number of channels, not \[3, 4\]",
        ),
        (
            {"head.weight": (3, 37)},
            r"'head.weight' must have the model's shape \(3, 36\), or fewer channels where .* not",
        ),
        ({"head.weight": (3, 0)}, r"'head.weight' must have the model's shape"),
        ({"head.weight": (3,)}, r"'head.weight' must have the model's shape"),
        ({"stem.0.weight": (4, 2, 1, 3)}, r"'stem.0.weight' must have the model's shape \(4, 2, 3, 3\)"),
        ({"deep.weight": (2, 1)}, r"'deep.weight' must have the model's shape"),
        ({"norm.weight": (2,)}, r"'norm.weight' must have the model's shape \(4,\)"),
        ({"grouped.weight": (2, 1, 1)}, r"'grouped.weight' must have the model's shape \(4, 2, 1\)"),
        ({"head.weight": "3"}, "'head.weight' must be a torch tensor or a shape in the slim state, not str"),
        ({}, "the slim state must have every weight of the model, and lacks 'stem.0.weight'"),
        (
            {"head.bias": torch.zeros(3)},
            "the slim state must have every weight of the model, and lacks 'stem.0.weight'",
        ),
    ],
)
def test_shapes_that_cannot_be(shapes: dict[str, tuple[int, ...]], fault: str) -> None:
    model = residual()
    model.norm, model.deep, model.grouped = nn.LayerNorm(4), nn.Embedding(4, 1), nn.Conv1d(4, 4, 1, groups=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TaskError, match=fault):
        fit(model, shapes)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_multiply_adds() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2),  # 3 x 3 positions
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Flatten(2),
        nn.Linear(9, 5),  # 4 positions
        nn.Flatten(),
        nn.Linear(20, 3),
    )
    model.add_module("unused", nn.Linear(2, 2))
    model.forward = lambda x: model[5](model[4](model[3](model[2](model[1](model[0](x))))))
    expected = {"0.weight": 9 * 4 * 18, "1.weight": 9 * 4 * 2, "3.weight": 4 * 45, "5.weight": 60, "unused.weight": 0}
    for n in (1, 3):
        x = torch.ones(n, 2, 7, 7)
        assert multiply_adds(model, lambda x=x: model(x)) == expected
    with pytest.raises(TaskError, match=r"the call must give back a tensor with a row for each example, not None"):
        multiply_adds(model, lambda: None)


def test_multiply_adds_of_calls_inside_other_modules() -> None:
    """Attention uses the weight of its last layer, never the layer; what it multiplies besides isn't counted."""
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.ones(3, 5, 8)
    assert multiply_adds(layer, lambda: layer(x)) == {
        "self_attn.out_proj.weight": 5 * 64,
        "linear1.weight": 5 * 128,
        "linear2.weight": 5 * 128,
    }


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(TASKS)
    monkeypatch.syspath_prepend(TASKS / "fashion_mnist")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("resnet", "minilm"):
            del sys.modules[name]


def halved(model: nn.Module, groups: Sequence[Group], *inputs: object) -> None:
    kept = {group: range(0, group.channels, 2) for group in groups}
    expected = masked(model, kept)
    slim(model, kept)
    before = sum(value.numel() for value in expected.parameters())
    assert sum(value.numel() for value in model.parameters()) < before
    with torch.no_grad():
        assert_close(model(*inputs), expected(*inputs))


def test_a_real_encoder(examples: None) -> None:
    from minilm import model as minilm

    encoder, batch = minilm.load(), {"input_ids": torch.arange(100, 114).view(2, 7)}
    batch["attention_mask"] = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    found = channel_groups(encoder, lambda: minilm.embed(encoder, batch))
    layers = [f"encoder.layer.{number}" for number in range(6)]
    assert [(group.makers, group.users, group.channels) for group in found.groups] == [
        ((f"{layer}.intermediate.dense.weight",), (f"{layer}.output.dense.weight",), 1536) for layer in layers
    ]
    assert found.why["encoder.layer.0.output.dense.weight"] == "they are normalized together by 'embeddings.LayerNorm'"
    assert found.why["encoder.layer.5.attention.self.value.weight"].startswith("used by an operation that mixes them")
    work = multiply_adds(encoder, lambda: minilm.embed(encoder, batch))
    assert work["encoder.layer.3.output.dense.weight"] == 7 * 384 * 1536
    kept = {group: range(0, 1536, 3) for group in found.groups}
    expected = masked(encoder, kept)
    slim(encoder, kept)
    with torch.no_grad():
        assert_close(minilm.embed(encoder, batch), minilm.embed(expected, batch))


def test_a_language_model() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=30, tie_word_embeddings=True,
    )  # fmt: skip
    model, ids = transformers.LlamaForCausalLM(config).eval(), torch.arange(14).view(2, 7)
    found = channel_groups(model, lambda: model(input_ids=ids))
    paths = [f"model.layers.{number}.mlp" for number in range(2)]
    assert [(group.makers, group.users) for group in found.groups] == [
        ((f"{path}.gate_proj.weight", f"{path}.up_proj.weight"), (f"{path}.down_proj.weight",)) for path in paths
    ]
    norm = "they are normalized together by 'model.layers.0.input_layernorm'"
    assert found.why["model.layers.1.mlp.down_proj.weight"] == norm
    kept = {group: [0, 1, 5, 9, 23] for group in found.groups}
    expected = masked(model, kept)
    slim(model, kept)
    with torch.no_grad():
        assert_close(model(input_ids=ids).logits, expected(input_ids=ids).logits)
    state = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    fitted = transformers.LlamaForCausalLM(config).eval()
    fit(fitted, state)
    assert torch.equal(fitted(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_real_convolutional_network(examples: None) -> None:
    import resnet

    torch.manual_seed(0)
    model, x = resnet.ResNet().eval(), torch.rand(2, 1, 28, 28)
    found = channel_groups(model, lambda: model(x))
    assert sorted(group.channels for group in found.groups) == [32] * 3 + [64] * 3 + [128] * 3
    assert [len(group.makers) for group in found.groups if len(group.makers) > 1] == [3, 3, 3]
    assert found.why == {"head.weight": "its channels reach the output"}
    halved(model, found.groups, x)
