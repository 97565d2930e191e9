"""Models served from artifacts: what is stored is what counts, and it must fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import regrain
import regrain.torch
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse
from regrain.models.statedict import lazy_tensors
from regrain.runtime import attach, calibrate
from regrain.runtime.stored import panel_units

NAMES = tuple(f"layers.{number}.weight" for number in range(3))


@pytest.fixture
def stored(tmp_path):
    """Write an artifact of a model's state: forms, and names of what may change."""

    def write(state, forms=None, dynamic=()):
        path = tmp_path / "model.regrain.safetensors"
        source = from_tensors(lazy_tensors(state), None, "test")
        with output_file(path, force=True) as sink:
            write_packed(source, sink, forms or {}, version="0", receipt={}, dynamic=dynamic)
        return path

    return write


def forms_of(kind, model, quantize):
    """Each weight in a form of that kind."""
    random = np.random.default_rng(3)
    found = {}
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 2:
            weights = tensor.numpy()
            rows, columns = weights.shape
            cell = {"row": (1, columns), "group": (1, 16), "tensor": (rows, columns), "block": (8, 8)}.get(kind)
            unit = {"column": (rows, 1), "16x1": (16, 1), "32x2": (32, 2), "24x1": (24, 1), "fine": (1, 1)}.get(kind)
            unit = (1, columns) if kind == "rows" else (16, 1) if kind == "quantized 16x1" else unit
            if kind == "wide":
                found[name] = quantize(weights, (1, columns), 1e-4)
            elif cell is not None:
                found[name] = quantize(weights, cell, 0.01)
            else:
                unit = min(unit[0], rows), unit[1]
                mask = random.random((-(-rows // unit[0]), -(-columns // unit[1]))) < 0.6
                if kind.startswith("quantized"):
                    grid = quantize(weights, (1, columns), 0.01)
                    whole = np.repeat(np.repeat(mask, unit[0], axis=0)[:rows], unit[1], axis=1)[:, :columns]
                    found[name] = Sparse.quantized(Quantized(grid.indices * whole, grid.codes, grid.cell), mask, unit)
                else:
                    found[name] = Sparse.of(weights, mask, unit)
    return found


@pytest.mark.parametrize(
    "kind",
    ["row", "group", "tensor", "block", "wide", "column", "16x1", "32x2", "24x1", "rows", "fine", "quantized 16x1"],
)
@pytest.mark.parametrize("value", [None, "f32"])
def test_serves_what_is_stored(mlp, stored, quantize, kind, value):
    path = stored(mlp.state_dict(), forms_of(kind, mlp, quantize))
    x = torch.randn(9, 40)
    with torch.no_grad():
        with attach(mlp, path, value=value) as attachment:
            found = mlp(x)
            kinds = {engine.layout.few.value for engine in attachment.engines.values()}
            density = attachment.engines[NAMES[0]].layout.few.density
        regrain.torch.load_model(mlp, path)
        assert torch.allclose(found, mlp(x), rtol=1e-4, atol=1e-5)
    eight = kind in ("row", "group", "tensor", "block", "quantized 16x1") and value is None
    assert kinds == {"i8" if eight else "f32"}
    assert density == 1.0 or kind in ("column", "16x1", "32x2", "24x1", "rows", "fine", "quantized 16x1")


def test_units_become_lists(mlp, stored, quantize):
    path = stored(mlp.state_dict(), forms_of("16x1", mlp, quantize))
    with regrain.open(path) as file, attach(mlp, path) as attachment:
        for name, engine in attachment.engines.items():
            assert engine.layout.few.density == pytest.approx(file.sparse(name).mask.mean())


def test_plain_files_and_lossless_artifacts(mlp, tmp_path):
    other = type(mlp)().eval()
    safe, coded = tmp_path / "model.safetensors", tmp_path / "coded.safetensors"
    import safetensors.torch

    safetensors.torch.save_file(mlp.state_dict(), safe)
    regrain.torch.save_file(mlp.state_dict(), coded)
    x = torch.randn(9, 40)
    for path in (safe, coded):
        with torch.no_grad(), attach(other, path):
            assert torch.allclose(other(x), mlp(x), rtol=1e-4, atol=1e-5)


def test_types_of_half_width(mlp, stored):
    mlp.bfloat16()
    path = stored(mlp.state_dict())
    mlp.float()
    other = type(mlp)().eval()
    x = torch.randn(9, 40)
    with torch.no_grad(), attach(other, path):
        assert torch.allclose(other(x), mlp(x), rtol=1e-4, atol=1e-5)


def test_tied_weights_have_one_name(llama, stored):
    state = {name: value for name, value in llama.state_dict().items() if name != "lm_head.weight"}
    ids = torch.arange(7)[None]
    with torch.no_grad():
        wanted = llama(ids).logits
        with attach(llama, stored(state)):
            assert torch.allclose(llama(ids).logits, wanted, rtol=1e-4, atol=1e-5)


def test_turned_weights(gpt2, stored, quantize):
    state = {name: value.clone() for name, value in gpt2.state_dict().items() if name != "lm_head.weight"}
    name = "transformer.h.0.attn.c_attn.weight"
    forms = {name: quantize(state[name].numpy(), (1, 16), 0.01)}
    ids = torch.arange(7)[None]
    path = stored(state, forms)
    with torch.no_grad():
        with attach(gpt2, path):
            found = gpt2(ids).logits
        regrain.torch.load_model(gpt2, path)
        assert torch.allclose(found, gpt2(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop(NAMES[1]), f"tensor '{NAMES[1]}': it must be in .*, which has no weight of this name: attach"),
        (
            lambda s: s.update({NAMES[1]: s[NAMES[1]].T}),
            rf"'{NAMES[1]}': shape must be \(37, 48\) as in the mod.*\(48, 37\)",
        ),
        (
            lambda s: s.update({NAMES[2]: s[NAMES[2]].double()}),
            f"'{NAMES[2]}': dtype must be one of BF16, F16, F32, not F64",
        ),
        (
            lambda s: s.update({"layers.0.bias": torch.zeros(3)}),
            r"'layers.0.bias': shape must be \(48,\) as in the model",
        ),
    ],
)
def test_artifacts_that_are_not_the_models(mlp, stored, change, text):
    state = dict(mlp.state_dict())
    change(state)
    with pytest.raises(regrain.AttachError, match=text):
        attach(mlp, stored(state))
    assert "forward" not in vars(mlp.layers[0])


def test_damage_is_found(mlp, stored):
    path = stored(mlp.state_dict())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(regrain.CorruptArtifactError):
        attach(mlp, path)
    assert "forward" not in vars(mlp.layers[0])


def test_only_what_is_dynamic_changes(mlp, stored, stream, quantize):
    path = stored(mlp.state_dict(), forms_of("16x1", mlp, quantize), dynamic=[NAMES[1]])
    known = calibrate(mlp, lambda: (mlp(stream(0, seed=seed)) for seed in range(8)))
    with attach(mlp, path, "ranked", calibration=known) as attachment:
        assert [attachment.engines[name].watching for name in NAMES] == [False, True, False]
        assert attachment.engines[NAMES[0]].adaptation is None
    with attach(mlp, path, "static", calibration=known) as attachment:
        assert not any(engine.watching for engine in attachment.engines.values())


def test_a_stored_pattern_is_the_first_candidate(mlp, stored, stream, quantize):
    path = stored(mlp.state_dict(), forms_of("16x1", mlp, quantize), dynamic=NAMES)
    known = calibrate(mlp, lambda: (mlp(stream(0, seed=seed)) for seed in range(8)))
    other = type(mlp)().eval()
    regrain.torch.load_model(other, path)
    x = stream(0, seed=9)
    with attach(mlp, path, "bank", calibration=known) as attachment, torch.no_grad():
        found = mlp.layers[0](x)
        assert attachment.engines[NAMES[0]].layout.decision.candidate == 0
    with torch.no_grad():
        lost = mlp.layers[0].weight - other.layers[0].weight
        folded = mlp.layers[0].bias + lost @ torch.from_numpy(known[NAMES[0]].inputs.mean).float()
        assert torch.allclose(found, nn.functional.linear(x, other.layers[0].weight, folded), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(1, 80), st.integers(1, 12), st.integers(0, 99))
def test_a_panel_keeps_every_column_with_a_weight_in_it(rows, columns, high, wide, seed):
    unit = min(high, rows), min(wide, columns)
    mask = np.random.default_rng(seed).random((-(-rows // unit[0]), -(-columns // unit[1]))) < 0.3
    whole = np.repeat(np.repeat(mask, unit[0], axis=0)[:rows], unit[1], axis=1)[:, :columns]
    found = np.broadcast_to(panel_units(mask, unit, rows, columns), (-(-rows // 16), columns))
    assert np.array_equal(found, np.logical_or.reduceat(whole, np.arange(0, rows, 16), axis=0))
