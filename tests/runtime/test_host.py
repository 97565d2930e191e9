"""What is measured decides what serves; what can't be remembered is measured again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from regrain.kernels.integers import Integers
from regrain.kernels.panels import Panels
from regrain.kernels.rows import Rows
from regrain.runtime import attach, calibrate
from regrain.runtime.host import TOKENS, Host
from regrain.runtime.layout import NEVER


class Told(Host):
    """A host whose times are made up: {kind of product, or torch: seconds for each of TOKENS}."""

    def __init__(self, **times):
        super().__init__()
        self.times = times

    def seconds(self, product, tokens):
        return self.times[type(product).__name__][TOKENS.index(tokens)]

    def torch_seconds(self, shape, tokens):
        return self.times["torch"][TOKENS.index(tokens)]


@pytest.mark.parametrize(
    ("times", "border"),
    [
        ((2, 2, 2), NEVER),
        ((1, 1, 1), NEVER),
        ((2, 1, 0.9), 45),
        ((2, 0.9, 0.9), 4),
        ((0.9, 0.9, 0.9), 0),
        ((0.5, 0.5, 2), NEVER),
    ],
)
def test_torch_goes_on_where_it_is_faster(times, border):
    assert TOKENS == (1, 16, 128)
    panels = Panels.pack(np.ones((4, 4), np.float32))
    assert Told(Panels=(1, 1, 1), torch=times).torch_border(panels) == border


def test_layers_that_pytorch_serves_best_are_left(mlp):
    with attach(mlp, host=Told(Panels=(1, 1, 1), torch=(0.1, 0.1, 0.1))) as attachment:
        assert attachment.left == {f"layers.{number}": "PyTorch is faster here" for number in range(3)}
        assert not attachment.engines
        assert "forward" not in vars(mlp.layers[0])


def test_many_tokens_alone_can_be_left(mlp):
    x = torch.randn(200, 40)
    with attach(mlp, host=Told(Panels=(1, 1, 1), torch=(2, 2, 0.1))) as attachment, torch.no_grad():
        layer = mlp.layers[0]
        assert attachment.engines["layers.0.weight"].layout.border == 45
        assert attachment.engines["layers.0.weight"].layout.description == "f32 panels, torch from 45 tokens"
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
        assert torch.allclose(layer(x[:9]), torch.nn.functional.linear(x[:9], layer.weight, layer.bias), atol=1e-5)


def test_what_loses_something_is_never_left_to_torch(mlp, stream):
    known = calibrate(mlp, lambda: [mlp(stream(0))], density=0.5)
    with attach(mlp, host=Told(Panels=(1, 1, 1), torch=(0.1, 0.1, 0.1)), calibration=known) as attachment:
        assert not attachment.left
    with attach(mlp, value="i8", host=Told(Panels=(1, 1, 1), torch=(0.1, 0.1, 0.1))) as attachment:
        assert not attachment.left


def test_activations_of_eight_bits(mlp):
    x = torch.randn(64, 40)
    host = Told(Panels=(1, 2, 2), Integers=(2, 1, 1), torch=(9, 9, 9))
    with torch.no_grad():
        wanted = mlp(x)
        with attach(mlp, value="i8", activations="i8", host=host) as attachment:
            layout = attachment.engines["layers.0.weight"].layout
            assert isinstance(layout.many, Integers)
            assert layout.border == 4
            assert layout.description == "i8 panels, int8 x int8 from 4 tokens"
            assert 1e-4 < float((mlp(x) - wanted).norm() / wanted.norm()) < 0.05
        host = Told(Panels=(2, 2, 2), Integers=(1, 1, 1))
        with attach(mlp, value="i8", activations="i8", host=host) as attachment:
            assert attachment.engines["layers.0.weight"].layout.many is None
            assert isinstance(attachment.engines["layers.0.weight"].layout.few, Integers)
            assert not attachment.left


def test_single_weights_are_listed_by_rows_for_many_tokens(mlp, stream):
    known = calibrate(mlp, lambda: [mlp(stream(0, seed=seed)) for seed in range(4)], density=0.3, pattern="fine")
    host = Told(Panels=(1, 2, 2), Rows=(2, 1, 1))
    with attach(mlp, policy="static", calibration=known, host=host) as attachment, torch.no_grad():
        layout = attachment.engines["layers.0.weight"].layout
        assert isinstance(layout.many, Rows)
        assert layout.many.density == pytest.approx(0.3, abs=0.02)
        x = stream(0)
        few = torch.cat([mlp(row) for row in x.split(1)])
        assert torch.allclose(mlp(x), few, rtol=1e-3, atol=1e-4)


def test_times_are_remembered(tmp_path, mlp):
    path = tmp_path / "a" / "host.json"
    attach(mlp, host=Host(path)).detach()
    written = json.loads(path.read_text())
    assert any(name.startswith("Panels f32 1.0 48x40") for name in written["seconds"])
    assert any(name.startswith("torch 1 48x40") for name in written["seconds"])
    assert list(path.parent.iterdir()) == [path]
    name = "Panels f32 1.0 48x40 16"
    written["seconds"][name] = 77.0
    path.write_text(json.dumps(written))
    panels = Panels.pack(mlp.layers[0].weight.detach().numpy())
    assert Host(path).seconds(panels, 16) == 77.0
    for text in (
        "",
        "[]",
        "{",
        json.dumps(written | {"machine": "other"}),
        json.dumps({"machine": written["machine"]}),
    ):
        path.write_text(text)
        assert Host(path).seconds(panels, 16) < 1.0


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, mlp):
    blocked = tmp_path / "file"
    blocked.write_text("")
    attach(mlp, host=Host(blocked / "host.json")).detach()
