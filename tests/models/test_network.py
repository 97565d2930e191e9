"""A model as named weights: which there are, reading and replacing them, and what can't be worked with."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from regrain import TaskError
from regrain.models.network import Network


class Tied(nn.Module):
    """An embedding whose weight is the head's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embed.weight


def weights_of(network: Network) -> dict[str, np.ndarray]:
    return {name: network.get(name) for name in network.places}


def test_places() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4, 2, bias=False), nn.Embedding(5, 2))
    places = Network(model).places
    assert {name: (place.kind, place.bias, place.trainable) for name, place in places.items()} == {
        "0.weight": ("conv", "0.bias", True),
        "0.bias": ("vector", None, True),
        "1.weight": ("vector", None, True),
        "1.bias": ("vector", None, True),
        "1.running_mean": ("buffer", None, False),
        "1.running_var": ("buffer", None, False),
        "2.weight": ("linear", None, True),
        "3.weight": ("embedding", None, True),
    }
    assert places["0.weight"].shape == (4, 3, 2, 2)
    assert places["0.weight"].module == "0"


def test_a_single_module_has_no_prefix() -> None:
    assert Network(nn.Linear(3, 2)).places["weight"].bias == "bias"


def test_tied_weights_are_one() -> None:
    network = Network(Tied())
    assert network.same == {"head.weight": "embed.weight"}
    assert set(network.places) == {"embed.weight", "head.bias"}
    network.set("head.weight", np.ones((7, 4), np.float32))
    assert (network.get("embed.weight") == 1).all()


def test_a_module_in_two_places_is_one() -> None:
    layer = nn.Linear(3, 3)
    network = Network(nn.Sequential(layer, nn.ReLU(), layer))
    assert network.same == {"2.weight": "0.weight", "2.bias": "0.bias"}


def test_load_replaces_every_weight() -> None:
    network, other = Network(nn.Linear(3, 2)), Network(nn.Linear(3, 2))
    assert network.load(weights_of(other) | {"spare": np.ones(3, np.float32)}) == ("spare",)
    for name, value in weights_of(other).items():
        assert np.array_equal(network.get(name), value)


@pytest.mark.parametrize("names", [["embed.weight"], ["head.weight"], ["head.weight", "embed.weight"]])
def test_load_takes_either_name_of_tied_weights(names: list[str]) -> None:
    network = Network(Tied())
    value = np.arange(28, dtype=np.float32).reshape(7, 4)
    assert network.load({"head.bias": np.zeros(7, np.float32)} | dict.fromkeys(names, value)) == ()
    assert np.array_equal(network.get("embed.weight"), value)


def test_load_refuses_different_numbers_for_tied_weights() -> None:
    value = np.ones((7, 4), np.float32)
    found = {"embed.weight": value, "head.weight": 2 * value, "head.bias": value[:, 0]}
    with pytest.raises(TaskError, match="'head.weight' must be equal to 'embed.weight' in MODEL"):
        Network(Tied()).load(found)


def test_load_names_what_is_lacking() -> None:
    network = Network(nn.Sequential(nn.Linear(3, 2)))
    found = {f"model.{name}": value for name, value in weights_of(network).items()}
    with pytest.raises(
        TaskError, match=r"lacks 2 of 2, the first '0.weight': .*; MODEL has 'model.0.bias', for example"
    ):
        network.load(found)
    with pytest.raises(TaskError, match="lacks 2 of 2"):
        network.load({})


def test_load_may_lack_buffers() -> None:
    network = Network(nn.BatchNorm1d(2))
    network.load({"weight": np.full(2, 3, np.float32), "bias": np.zeros(2, np.float32)})
    assert (network.get("running_var") == 1).all()


def test_load_refuses_another_shape() -> None:
    network = Network(nn.Linear(3, 2, bias=False))
    with pytest.raises(TaskError, match=r"'weight' must have the shape \(2, 3\) .*, not \(3, 2\) as in MODEL"):
        network.load({"weight": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 2).to(dtype)
    network = Network(model)
    assert network.get("weight").dtype == np.float32
    network.set("weight", np.full((2, 3), 1 / 3, np.float32))
    assert model.weight.dtype is dtype
    assert torch.equal(model.weight, torch.full((2, 3), np.float32(1 / 3).item()).to(dtype))


def test_get_is_a_copy() -> None:
    network = Network(nn.Linear(3, 2))
    network.get("weight")[:] = 7
    assert (network.get("weight") != 7).all()


def test_requires_grad_is_restored() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model.register_buffer("scale", torch.ones(2))
    network = Network(model)
    model[0].bias.requires_grad_(False)
    before = {name: tensor.requires_grad for name, tensor in model.state_dict(keep_vars=True).items()}
    with pytest.raises(KeyError), network.gathering({"0.bias", "scale"}) as tensors:
        assert set(tensors) == {"0.bias", "scale"}
        wanting = {name for name, tensor in model.state_dict(keep_vars=True).items() if tensor.requires_grad}
        assert wanting == {"0.bias", "scale"}
        (tensors["0.bias"].sum() + tensors["scale"].sum()).backward()
        raise KeyError
    with network.frozen():
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {name: tensor.requires_grad for name, tensor in model.state_dict(keep_vars=True).items()} == before
    assert model[0].bias.grad is None
    assert model.scale.grad is None


def test_frozen_parameters_gather_gradients() -> None:
    model = nn.Linear(3, 2).requires_grad_(False)
    Network(model)
    assert model.weight.requires_grad


def sparse() -> nn.Module:
    model = nn.Linear(3, 2)
    model.weight = nn.Parameter(model.weight.detach().to_sparse())
    return model


def sparse_rows() -> nn.Module:
    model = nn.Linear(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that these are in beta
        model.weight = nn.Parameter(model.weight.detach().to_sparse_csr())
    return model


def quantized() -> nn.Module:
    model = nn.Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that these will go
        model.register_buffer("weight", torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8))
    return model


def dynamically_quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this will move
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 2)), {nn.Linear})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (sparse, "weight 'weight' must be a dense tensor of numbers, not one that is sparse"),
        (sparse_rows, "weight 'weight' must be a dense tensor of numbers, not one that is sparse"),
        (quantized, "weight 'weight' must be a dense tensor of numbers, not one that is quantized"),
        (dynamically_quantized, "must be a tensor, not .*: give the model before quantization"),
        (lambda: nn.Linear(3, 2, device="meta"), "weight 'weight' must be .*, not one that is without data"),
    ],
)
def test_what_can_not_be_replaced(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Network(make())


def test_what_modules_keep_beside_tensors_is_left_alone() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: object) -> None:
            raise AssertionError

    assert set(Network(nn.Sequential(Counting(3, 2), nn.BatchNorm1d(2))).places) >= {"0.weight", "1.running_mean"}
