"""Convolutions are served like linear layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import regrain
import regrain.torch
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.codecs.sparse import Sparse
from regrain.models.statedict import lazy_tensors
from regrain.runtime import attach, calibrate
from regrain.runtime.host import Host


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (nn.Conv2d(5, 20, 3), [(2, 5, 9, 7), (5, 9, 7), (0, 5, 9, 7), (1, 5, 3, 3)]),
        (nn.Conv2d(5, 20, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3), bias=False), [(2, 5, 11, 10)]),
        (nn.Conv2d(16, 33, 1), [(3, 16, 4, 4)]),
        (nn.Conv2d(4, 8, 3, padding="same"), [(2, 4, 6, 5)]),
        (nn.Conv2d(4, 8, 3, padding="valid"), [(2, 4, 6, 5)]),
        (nn.Conv1d(6, 18, 5, stride=2, padding=2), [(2, 6, 21), (6, 21), (3, 6, 5)]),
        (nn.Conv1d(6, 18, 3, padding="same", dilation=2), [(2, 6, 21)]),
    ],
)
def test_gives_the_same(layer, shapes):
    layer.eval()
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            wanted = layer(x)
            with attach(layer) as attachment:
                assert list(attachment.engines) == ["weight"]
                for given in (x, x.to(memory_format=torch.channels_last) if x.dim() == 4 else x.double().float()):
                    found = layer(given)
                    assert found.shape == wanted.shape
                    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_served_is_left():
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 8, 2, padding="same"),
        nn.ConvTranspose2d(4, 8, 3),
        nn.Conv3d(4, 8, 3),
        nn.Conv2d(4, 8, 3),
    ).eval()
    with attach(model) as attachment:
        padded = "its padding is not one of zeros, as wide on both sides"
        assert attachment.left == {"0": "its channels are in groups", "1": padded, "2": padded}
        assert list(attachment.engines) == ["5.weight"]


def test_wrong_inputs_get_torchs_own_error():
    layer = nn.Conv2d(4, 8, 3).eval()
    with attach(layer), torch.no_grad():
        for shape in ((2, 5, 9, 9), (4, 9), (2, 4, 2, 9)):
            with pytest.raises(RuntimeError):
                layer(torch.randn(shape))


@pytest.mark.parametrize("unit", ["column", "16x1", "9x9"])
def test_pruned_artifacts(tmp_path, unit):
    model = nn.Sequential(nn.Conv2d(6, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 10, 3)).eval()
    random, forms = np.random.default_rng(0), {}
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 4:
            rows, columns = len(tensor), tensor[0].numel()
            size = {"column": (rows, 9), "16x1": (min(rows, 16), 1), "9x9": (9, 9)}[unit]
            forms[name] = Sparse.of(
                tensor.numpy(), random.random((-(-rows // size[0]), columns // size[1])) < 0.6, size
            )
    path = tmp_path / "model.regrain.safetensors"
    with output_file(path, force=True) as sink:
        write_packed(from_tensors(lazy_tensors(model.state_dict()), None, "test"), sink, forms, version="0", receipt={})
    x = torch.randn(2, 6, 8, 8)
    with torch.no_grad():
        with attach(model, path) as attachment:
            found = model(x)
            assert attachment.engines["0.weight"].layout.few.density < 0.95
        regrain.torch.load_model(model, path)
        assert torch.allclose(found, model(x), rtol=1e-4, atol=1e-5)


def test_lossless_and_quantized_artifacts(tmp_path, quantize):
    model, other = nn.Conv2d(6, 32, 3).eval(), nn.Conv2d(6, 32, 3).eval()
    path = tmp_path / "model.regrain.safetensors"
    x = torch.randn(2, 6, 8, 8)
    for forms in ({}, {"weight": quantize(model.weight.detach().numpy(), (1, 54), 0.01)}):
        source = from_tensors(lazy_tensors(model.state_dict()), None, "test")
        with output_file(path, force=True) as sink:
            write_packed(source, sink, forms, version="0", receipt={})
        with torch.no_grad():
            with attach(other, path):
                found = other(x)
            regrain.torch.load_model(model, path)
            assert torch.allclose(found, model(x), rtol=1e-4, atol=1e-5)


def test_maps_that_drift():
    torch.manual_seed(0)
    model = nn.Conv2d(12, 32, 3, padding=1).eval()

    def images(kind, seed):
        scale = torch.from_numpy(np.roll(np.geomspace(4, 0.05, 12), 6 * kind)).float()
        return (torch.randn(4, 12, 6, 6, generator=torch.Generator().manual_seed(seed)) + 0.5) * scale[:, None, None]

    known = calibrate(model, lambda: (model(images(0, seed)) for seed in range(8)), density=0.5)
    assert known["weight"].inputs.mean.shape == (12,)
    losses = {}
    for policy in ("static", "ranked"):
        with attach(model, policy=policy, calibration=known) as attachment, torch.no_grad():
            for seed in range(300):
                model(images(1, 100 + seed))
                attachment.settle()
            engine = attachment.engines["weight"]
            assert engine.layout.few.density == pytest.approx(0.5, abs=0.01)
            x = images(1, 7)
            found = model(x)
        with torch.no_grad():
            losses[policy] = float((model(x) - found).square().mean())
    assert losses["ranked"] < 0.6 * losses["static"]


def test_banks_of_patches():
    torch.manual_seed(0)
    model = nn.Conv1d(6, 32, 3).eval()
    runs = [lambda seed=seed: [model(torch.randn(8, 6, 30))] for seed in range(2)]
    known = calibrate(model, runs, density=0.5, pattern="column")
    candidates = known["weight"].candidates
    assert len(candidates) == 3
    assert {candidate.units.shape for candidate in candidates} == {(18,)}
    with attach(model, policy="bank", calibration=known) as attachment, torch.no_grad():
        assert attachment.engines["weight"].layout.few.density == 0.5
        model(torch.randn(2, 6, 30))


def test_the_original_goes_on_where_it_is_faster():
    class Slow(Host):
        asked = 0

        def prefers_original(self, *_):
            self.asked += 1
            return self.asked == 1

    layer, host = nn.Conv2d(5, 20, 3).eval(), Slow()
    with attach(layer, host=host) as attachment, torch.no_grad():
        small, large = torch.randn(1, 5, 4, 4), torch.randn(1, 5, 40, 40)
        wanted = nn.functional.conv2d(small, layer.weight, layer.bias)
        assert torch.equal(layer(small), wanted)
        assert torch.equal(layer(small), wanted)
        engine = attachment.engines["weight"]
        layer(large)
        assert host.asked == 2
        assert engine.exact
    measured = Host()
    with attach(layer, host=measured), torch.no_grad():
        layer(large)
    assert any("Window" in name for name in measured._times)


@pytest.mark.parametrize(("shape", "positions"), [((3, 4, 6, 5), 30), ((3, 4, 6), 6)])
def test_positions_of_an_image_are_counted_as_a_monitor_does(shape, positions):
    kind = nn.Conv2d if len(shape) == 4 else nn.Conv1d
    model = nn.Sequential(kind(4, 16, 3, padding=1, stride=2), nn.ReLU(), kind(16, 8, 1)).eval()

    def run():
        return (model(torch.randn(shape, generator=torch.Generator().manual_seed(seed))) for seed in range(6))

    known = calibrate(model, run, density=0.5)
    assert known["0.weight"].positions == positions
    with attach(model, policy="ranked", calibration=known) as attachment:
        attachment.acquaint(run)
        matrix = attachment.engines["0.weight"].adaptation.master.matrix
        assert matrix.positions == positions
        assert matrix.served.count == 6 * 3 * positions
        x = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(6)])
        rows = x.movedim(1, -1).reshape(-1, 4).double().numpy()
        seen = type(matrix.served)(len(rows), rows.mean(0), rows.var(0))
        taken = matrix.undisturbed(seen)  # calibration looks at padding, too, the monitor doesn't
        assert np.allclose(taken.mean, matrix.mean, atol=1e-4)
        assert np.allclose(taken.variance, matrix.variance, rtol=1e-3)
