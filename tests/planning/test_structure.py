"""How layers hang together, by the names that the model's files have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from regrain.models.channels import Group
from regrain.models.network import Network
from regrain.planning.evidence import Evidence
from regrain.planning.layer import Layer
from regrain.planning.structure import Structure, structure
from regrain.profiling.activations import Inputs

Make = Callable[..., Layer]


class Net(nn.Module):
    """Two convolutions with a norm between them, flattened into two linear layers of which the second is tied."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 5, 3)
        self.head, self.out = nn.Linear(5 * 4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        return self.out(self.head(self.second(x).relu().flatten(1)).relu())


@pytest.fixture
def network() -> Network:
    return Network(Net().eval())


@pytest.fixture
def evidence(network: Network, make_layer: Make) -> Evidence:
    layers, inputs = {}, {}
    for place in network.places.values():
        shape = place.shape if len(place.shape) > 1 else (1, *place.shape)
        matrix = shape[0], int(np.prod(shape[1:]))
        layers[place.name] = make_layer(
            *matrix, name=place.name, shape=place.shape, kind=place.kind, bias=place.bias, trace=0.0
        )
        if place.kind in ("linear", "conv"):
            numbers = (np.full(matrix[1], number, np.float32) for number in (0.5, 1, 0, 2))
            inputs[place.name] = Inputs(9, *numbers, None)
    return Evidence(layers, inputs, {}, (), 0, 1)


def found(evidence: Evidence, network: Network, *, groups: bool = True) -> tuple[Evidence, Structure]:
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(1))

    def call() -> object:
        with torch.no_grad():
            return network.model(x)

    with network.frozen():
        return structure(evidence, network, call, groups=groups)


def test_layers_know_their_work(evidence: Evidence, network: Network) -> None:
    after, _ = found(evidence, network, groups=False)
    work = {name: layer.work for name, layer in after.layers.items() if layer.work}
    expected = {"first.weight": 16 * 6 * 18, "second.weight": 4 * 5 * 54, "head.weight": 160, "out.weight": 24}
    assert work == expected
    assert after.work == sum(expected.values())
    assert evidence.work == 0


def test_a_norm_stands_for_a_bias(evidence: Evidence, network: Network) -> None:
    after, _ = found(evidence, network, groups=False)
    first, second = after.layers["first.weight"], after.layers["second.weight"]
    assert (first.bias, first.bias_sign) == ("norm.running_mean", -1)
    assert np.array_equal(first.mean, evidence.inputs["first.weight"].mean)
    assert (second.bias, second.bias_sign, second.mean) == ("second.bias", 1, None)  # as they were


def test_channels_that_one_layer_uses(evidence: Evidence, network: Network) -> None:
    _, whole = found(evidence, network)
    norm = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    assert whole.users.keys() == {"second.weight", "out.weight"}  # those of the head lie in four columns each
    group = whole.users["second.weight"]
    assert (group.makers, set(group.vectors), group.channels) == (("first.weight",), set(norm), 6)
    assert whole.users["out.weight"] == Group(("head.weight",), ("head.bias",), ("out.weight",), (1,), 8)
    assert whole.why == {"out.weight": "its channels reach the output"}


def test_groups_are_looked_for_only_if_they_are_wanted(evidence: Evidence, network: Network) -> None:
    assert found(evidence, network, groups=False)[1] == Structure({}, {})


def test_names_are_those_of_the_files(evidence: Evidence, network: Network) -> None:
    """The files may call a tied weight by its other name."""
    network.same["model.out"] = "out.weight"
    layers = {{"out.weight": "model.out"}.get(name, name): layer for name, layer in evidence.layers.items()}
    renamed = Evidence(layers, evidence.inputs, {}, (), 0, 1)
    after, whole = found(renamed, network)
    assert after.layers["model.out"].work == 24
    assert whole.users["model.out"].users == ("model.out",)
    assert "model.out" in whole.why


def test_layers_that_the_files_do_not_have_are_left_alone(evidence: Evidence, network: Network) -> None:
    layers = {
        name: layer for name, layer in evidence.layers.items() if name not in ("head.weight", "norm.running_mean")
    }
    after, whole = found(Evidence(layers, evidence.inputs, {}, (), 0, 1), network)
    assert whole.users.keys() == {"second.weight"}
    assert after.layers["first.weight"].bias is None
