"""Layers as matrices: products of rows are what torch gives, for every shape of layer that is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regrain.hw.networks.layers import PIECE, layers_of

LAYERS = [
    (nn.Linear(7, 5), (3, 4, 7)),
    (nn.Linear(7, 5, bias=False), (7,)),
    (nn.Conv2d(3, 5, 3), (2, 3, 8, 9)),
    (nn.Conv2d(3, 5, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 3, 9, 8)),
    (nn.Conv2d(3, 5, 3, padding="same"), (3, 8, 9)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 11)),
    (nn.Conv1d(4, 6, 5, padding="valid", bias=False), (4, 11)),
]


@pytest.mark.parametrize(("module", "shape"), LAYERS)
def test_products_of_rows_are_the_layers(module, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    (layer,), left = layers_of(module)
    assert not left
    examples = layer.examples(x)
    rows = torch.cat(list(layer.pieces(examples)))
    assert rows.shape == (layer.tokens(examples), layer.shape[1]) and layer.matrix().shape == layer.shape
    made = rows @ torch.from_numpy(layer.matrix()).T
    bias = layer.bias()
    found = layer.outputs(made if bias is None else made + bias, x)
    wanted = module(x)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-5)
    assert layer.span * layer.weight.shape[1] == layer.shape[1]


def test_pieces_are_small(monkeypatch):
    layer = layers_of(nn.Conv2d(2, 3, 3))[0][0]
    x = torch.randn(5, 2, 6, 6)
    whole = torch.cat(list(layer.pieces(x)))
    monkeypatch.setattr("regrain.hw.networks.layers.PIECE", 2 * 16 * 18)
    pieces = list(layer.pieces(x))
    assert [len(piece) for piece in pieces] == [32, 32, 16] and torch.equal(torch.cat(pieces), whole)
    assert not list(layer.pieces(x[:0])) and PIECE > 1 << 20


def test_hugging_faces_conv1d():
    utils = pytest.importorskip("transformers.pytorch_utils")
    module = utils.Conv1D(6, 4)
    nn.init.normal_(module.weight)
    (layer,), _ = layers_of(module)
    x = torch.randn(2, 3, 4)
    assert layer.turned and layer.shape == (6, 4) and layer.span == 1
    made = layer.rows(layer.examples(x)) @ torch.from_numpy(layer.matrix()).T + module.bias
    assert torch.allclose(layer.outputs(made, x), module(x), atol=1e-5)


def without_numbers():
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(0, 2))
    return layer


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Own(2, 2), "its class Own has a forward of its own"),
        (nn.Conv3d(1, 1, 1), "it is a convolution in three dimensions"),
        (nn.Conv2d(4, 4, 1, groups=2), "its channels are in groups"),
        (nn.Conv2d(4, 4, 2, padding="same"), "its padding is not one of zeros, as wide on both sides"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "its padding is not one of zeros"),
        (nn.ConvTranspose2d(2, 2, 1), "it is a transposed convolution"),
        (nn.LSTM(2, 2), "it is recurrent"),
        (without_numbers(), "its weight has no numbers"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "its weight is parametrized|has a forward"),
    ],
)
def test_what_is_left(module, reason):
    model = nn.Sequential(nn.Linear(2, 2), module)
    layers, left = layers_of(model)
    assert [layer.path for layer in layers] == ["0"] and list(left) == ["1"]
    import re

    assert re.match(reason, left["1"])


def test_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Conv1d(2, 2, 1)))
    assert [layer.name for layer in layers_of(model)[0]] == ["0.weight", "1.1.weight"]
    assert layers_of(nn.Linear(2, 2))[0][0].name == "weight"
    assert np.array_equal(layers_of(model)[0][0].matrix(), model[0].weight.detach().numpy())
