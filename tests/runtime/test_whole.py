"""Modules that are convolutions from end to end are served as one, on eight bits."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

import regrain.torch
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.codecs.sparse import Sparse
from regrain.core.errors import AttachError, ServingError
from regrain.models.statedict import lazy_tensors
from regrain.runtime import attach, stretches


class Block(nn.Module):
    """Two convolutions, normalized, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs, affine=affine)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)) + self.shortcut(x))


class Net(nn.Module):
    """Two blocks between folded pixels and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 16, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 24, 2, affine=False))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(24, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.blocks(self.stem(images))))


def trained(model: nn.Module) -> nn.Module:
    """As training leaves it: no two channels have the same statistics."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return trained(Net())


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


def run(model: nn.Module, shape: tuple[int, ...] = (6, 1, 12, 12)):
    """Batches of calibration data, the last one smaller. How they are made is nobody's business."""

    def calls():
        data = torch.rand(2 * shape[0] + 2, *shape[1:], generator=torch.Generator().manual_seed(0))
        for batch in data.split(shape[0]):
            yield model(batch * 1.0)

    return calls


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found - wanted).square().mean()) < 1e-3 * float(wanted.var())


def test_a_network_is_served_as_one(net):
    before = copy.deepcopy(net.state_dict())
    whole = stretches(net, run(net))
    assert list(whole) == [""]
    assert whole[""].head == "head.weight"
    assert whole[""].folded == 2
    assert [(link.source, link.added, link.rectified) for link in whole[""].links] == [
        (0, None, True), (1, None, True), (2, 1, True), (3, None, True), (4, None, False), (3, 5, True),
    ]  # fmt: skip
    with torch.inference_mode():
        wanted = net(images())
        with attach(net, whole=whole) as attachment:
            assert list(attachment.whole) == [""]
            assert not attachment.engines
            assert attachment.nbytes > 0
            found = net(images())
            assert net(images(1)).shape == (1, 5)
            assert net(images(0)).shape == (0, 5)
            assert torch.equal(net(images().to(memory_format=torch.channels_last)), found)
            assert torch.allclose(net(images()[2:3])[0], found[2], rtol=1e-5)
        assert not torch.equal(found, wanted)
        assert close(found, wanted)
        assert torch.equal(net(images()), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_without_a_head_it_gives_maps_or_means(net):
    whole = stretches(net.blocks, run(net.blocks, (6, 16, 6, 6)))
    assert (list(whole), whole[""].means) == ([""], False)
    pooled = nn.Sequential(net.blocks, net.pool).eval()
    means = stretches(pooled, run(pooled, (6, 16, 6, 6)))
    assert (list(means), means[""].means, means[""].head) == ([""], True, None)
    x = torch.rand(3, 16, 6, 6)
    for model, found in ((net.blocks, whole), (pooled, means)):
        with torch.no_grad():
            wanted = model(x)
            with attach(model, whole=found, threads=2):
                assert close(model(x), wanted)


class Around(nn.Module):
    """A network with something else in it, between or after two blocks."""

    def __init__(self, between=None, after=None) -> None:
        super().__init__()
        self.first, self.second = Block(4, 16, 1), Block(16, 16, 1)
        self.first.shortcut = nn.Conv2d(4, 16, 1)
        self.between, self.after = between or (lambda y: y), after or (lambda first, y: y)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.between(self.first(x))
        return self.after(y, self.second(y))


@pytest.mark.parametrize(
    "options",
    [
        {"between": torch.sigmoid},
        {"between": lambda y: max_pool2d(y, 2)},
        {"between": lambda y: y + 1},
        {"between": lambda y: y * 2 if float(y.detach().sum()) > -1e9 else y},
        {"between": lambda y: y.clone()},
        {"after": lambda first, y: torch.add(first, y, alpha=2)},
        {"after": lambda first, y: y[:, :8]},
        {"after": lambda first, y: y.mean((1, 2))},
        {"after": lambda first, y: y - y.mean()},
        {"after": lambda first, y: y + 1.0},
        {"after": lambda first, y: torch.relu_(y).mean(dim=-1)},
        {"after": lambda first, y: y.mean((2, 3), dtype=torch.float64)},
    ],
)
def test_what_is_something_else_is_not_taken_over(options):
    model = trained(Around(**options))
    whole = stretches(model, run(model, (6, 4, 6, 6)))
    assert list(whole) == ["first", "second"]
    x = torch.rand(3, 4, 6, 6)
    with torch.no_grad():
        wanted = model(x)
        with attach(model, whole=whole) as attachment:
            assert sorted(attachment.whole) == ["first", "second"]
            assert close(model(x), wanted)


class Odd(nn.Module):
    """Two convolutions, and one of many things between them that can't be folded."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.one = nn.Conv2d(4, 4, 1, groups=2 if kind == "groups" else 1)
        self.two = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4, track_running_stats=kind != "statistics")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        match self.kind:
            case "norm first":
                y = self.norm(x)
            case "norm after relu":
                y = self.norm(relu(y))
            case "norm of two users":
                return self.two(self.norm(y)) + y
            case "relu of two users":
                return self.two(relu(y)) + y
            case "twice":
                return self.one(self.two(y)) + relu(x)
            case "other stride":
                return nn.functional.conv2d(y, self.two.weight, self.two.bias, stride=2)
            case "other bias":
                return nn.functional.conv2d(y, self.two.weight, self.one.bias)
            case "other epsilon":
                norm = self.norm
                y = nn.functional.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=0.5)
            case "other factors":
                y = nn.functional.batch_norm(y, self.norm.running_mean, self.norm.running_var, self.norm.bias)
            case "one number":
                return self.two(y).mean((2, 3), keepdim=True)
            case "in place":
                return x.add_(self.two(y))
            case "other weights":
                y = nn.functional.conv2d(y, self.two.weight * 2)
            case _:
                y = self.norm(y)
        return self.two(y)


OTHER = ("other weights", "other stride", "other bias", "other epsilon", "other factors")
ODD = (
    *OTHER,
    "one number",
    "in place",
    "groups",
    "statistics",
    "norm first",
    "norm after relu",
    "norm of two users",
    "relu of two users",
    "twice",
)


@pytest.mark.parametrize("kind", ODD)
def test_what_can_not_be_folded(kind):
    model = trained(Odd(kind))
    assert stretches(model, run(model, (6, 4, 5, 5))) == {}
    usual = trained(Odd("usual"))
    assert list(stretches(usual, run(usual, (6, 4, 5, 5)))) == [""]


def test_calls_that_differ_hooks_and_other_users(net):
    turn = iter(range(9))
    model = nn.Sequential(Around(between=lambda y: relu(y) if next(turn) % 2 else y))
    assert stretches(trained(model), run(model, (6, 4, 6, 6))) == {}
    assert stretches(net, lambda: ()) == {}
    assert stretches(net, lambda: [net(torch.full((1, 1, 12, 12), torch.nan))]) == {}
    seen = []
    net.blocks[1].conv2.register_forward_hook(lambda *_: seen.append(1))
    assert list(stretches(net, run(net))) == ["blocks.0"]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(4, 4, 1)

        def forward(self, x):
            return self.block(self.block(x))

    both = trained(Both())
    assert list(stretches(both, run(both, (6, 4, 6, 6)))) == [""]


def test_calls_that_are_not_served(net):
    whole = stretches(net, run(net))
    with torch.no_grad():
        larger, bad = torch.rand(2, 1, 14, 12), images()
        bad[3, 0, 5, 5] = torch.nan
        wanted, wrong = net(larger), net(bad)
        with attach(net, whole=whole):
            assert torch.equal(net(larger), wanted)
            assert torch.allclose(net(bad), wrong, equal_nan=True)
            assert net(images=images()).shape == (6, 5)
            with pytest.raises(RuntimeError):
                net(torch.rand(2, 3, 12, 12))
            assert torch.vmap(net)(images()[None]).shape == (1, 6, 5)
            told = pytest.warns(RuntimeWarning, match="the model goes on without regrain where autocast is on")
            with told, torch.autocast("cpu", torch.bfloat16):
                net(images())
    with attach(net, whole=whole):
        with pytest.raises(ServingError, match="the model gives no gradients while it is served"):
            net(images())
        net.blocks[0].norm1.train()
        with torch.no_grad(), pytest.raises(ServingError, match="the model must be in eval mode while it is served"):
            net(images())
        net.eval()
    with torch.no_grad(), attach(net, whole=whole):
        net.blocks[0].norm1.running_mean.add_(3.0)
        wanted = copy.deepcopy(net)(images())
        with pytest.warns(RuntimeWarning, match="its weights have changed since it was attached"):
            assert torch.equal(net(images()), wanted)
    with torch.no_grad(), attach(net, whole=whole):
        net.head.weight = nn.Parameter(net.head.weight * 2)
        with pytest.warns(RuntimeWarning, match="its weights have changed since it was attached"):
            net(images())


def test_other_dtypes_are_left(net):
    net.double()
    assert stretches(net, lambda: [net(images().double())]) == {}


def test_calls_from_several_threads(net):
    with torch.no_grad(), attach(net, whole=stretches(net, run(net)), threads=2), ThreadPoolExecutor(4) as pool:
        wanted = [net(images(5, seed)) for seed in range(40)]
        found = list(pool.map(lambda seed: _silent(net, images(5, seed)), range(40)))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def _silent(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():  # a thread has its own setting
        return model(x)


def test_copies_and_pickles_have_the_original(net):
    with torch.no_grad():
        wanted = net(images())
        with attach(net, whole=stretches(net, run(net))):
            assert torch.equal(copy.deepcopy(net)(images()), wanted)
            assert torch.equal(pickle.loads(pickle.dumps(net))(images()), wanted)


def test_stretches_of_another_model(net):
    whole = stretches(net, run(net))
    with pytest.raises(AttachError, match="the model has no such layer"):
        attach(trained(nn.Sequential(Block(4, 4, 1))), whole=whole)
    with pytest.raises(AttachError, match="the model must have a module 'blocks.0'"):
        attach(trained(Block(4, 4, 1)), whole={"blocks.0": whole[""]})
    other = trained(Net())
    other.blocks[0].conv2 = nn.Conv2d(16, 16, 5, padding=1)
    with pytest.raises(AttachError, match="a stretch must be of this model: "):
        attach(other.eval(), whole=whole)
    with attach(net, whole=whole):
        with pytest.raises(AttachError, match="it must not be attached twice"):
            attach(net)
        assert stretches(net, run(net)) == {}


def test_consistent_calls(net):
    with torch.no_grad():
        wanted = net(images())
        with attach(net, whole=stretches(net, run(net)), consistent="model"):
            assert close(net(images()), wanted)
            assert not torch.equal(net(images()), wanted)


@pytest.mark.parametrize("pruned", [False, True])
def test_weights_of_an_artifact(tmp_path, net, quantize, pruned):
    random, forms = np.random.default_rng(0), {}
    for name, tensor in net.state_dict().items():
        if tensor.dim() == 4 and pruned:
            rows, columns = len(tensor), tensor[0].numel()
            forms[name] = Sparse.of(tensor.numpy(), random.random((-(-rows // 16), columns // 4)) < 0.5, (16, 4))
        elif tensor.dim() == 4:
            forms[name] = quantize(tensor.numpy(), (1, tensor[0].numel()), 0.01)
    path = tmp_path / "model.regrain.safetensors"
    with output_file(path, force=True) as sink:
        write_packed(from_tensors(lazy_tensors(net.state_dict()), None, "test"), sink, forms, version="0", receipt={})
    loaded = trained(Net())
    regrain.torch.load_model(loaded, path)
    net.load_state_dict({name: tensor for name, tensor in loaded.state_dict().items() if "norm" in name}, strict=False)
    with torch.no_grad():
        whole = stretches(loaded, run(loaded))
        with attach(net, path, whole=whole), attach(loaded, whole=whole):
            found, wanted = net(images()), loaded(images())
    assert torch.equal(found, wanted)
