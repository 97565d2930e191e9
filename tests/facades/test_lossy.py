"""Both facades over a lossy artifact: dense weights in the original's type, by every way there is to them."""

import ml_dtypes
import numpy as np
import pytest
import torch

import regrain
import regrain.numpy
import regrain.torch
from regrain import kernels
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.core.dtypes import from_numpy


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(8)
    return {
        "row": rng.normal(0, 1, (400, 300)).astype(ml_dtypes.bfloat16),
        "group": rng.normal(0, 1, (900, 128)).astype(np.float32),
        "half": rng.normal(0, 1, (16, 8, 3, 3)).astype(np.float16),
        "bias": rng.normal(0, 1, 48).astype(np.float32),
        "exact": rng.normal(0, 1, (30, 40)).astype(np.float32),
        "ids": np.arange(20),
    }


@pytest.fixture(scope="module")
def choice(model, quantize):
    cells = {"row": (1, 300), "group": (1, 32), "half": (2, 9), "bias": (1, 48)}
    return {name: quantize(model[name], cell, 0.15) for name, cell in cells.items()}


@pytest.fixture(scope="module")
def wanted(model, choice):
    found = dict(model)
    for name, how in choice.items():
        dtype = model[name].dtype
        data = how.dequantized(from_numpy(dtype).name)
        found[name] = data.view(dtype).reshape(model[name].shape)
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory, model, choice):
    path = tmp_path_factory.mktemp("lossy") / "model.regrain.safetensors"
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in model.items()
    }
    with output_file(path, force=False) as sink:
        write_packed(from_tensors(lazy, {"made": "here"}, "test"), sink, choice, version="0", receipt={})
    return path


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        one = found[name]
        assert (one.dtype, one.shape, one.tobytes()) == (array.dtype, array.shape, array.tobytes()), name


def as_numpy(tensors):
    return {
        name: tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        if tensor.dtype == torch.bfloat16
        else tensor.numpy()
        for name, tensor in tensors.items()
    }


def test_load(path, wanted):
    for threads in (1, 2, None):
        same(regrain.numpy.load_file(path, threads=threads), wanted)
        same(as_numpy(regrain.torch.load_file(path, threads=threads)), wanted)
    same(regrain.numpy.load(path.read_bytes()), wanted)
    same(as_numpy(regrain.torch.load(path.read_bytes())), wanted)


def test_every_instruction_set_loads_the_same(path, wanted):
    before = kernels.instruction_set()
    try:
        for name in kernels.instruction_sets():
            kernels.use_instruction_set(name)
            same(regrain.numpy.load_file(path), wanted)
    finally:
        kernels.use_instruction_set(before)


def test_load_into_existing_arrays(path, wanted):
    out = {name: np.ones_like(array) for name, array in wanted.items()}
    found = regrain.numpy.load_file(path, out=out)
    assert all(found[name] is out[name] for name in out)
    same(out, wanted)
    tensors = {name: torch.ones_like(tensor) for name, tensor in regrain.torch.load_file(path).items()}
    regrain.torch.load_file(path, out=tensors)
    same(as_numpy(tensors), wanted)


def test_one_by_one_and_by_slices(path, wanted):
    with regrain.open(path) as opened:
        assert opened.keys() == sorted(wanted)
        assert opened.metadata() == {"made": "here"}
        same({name: opened.get_tensor(name) for name in opened.keys()}, wanted)  # noqa: SIM118 - not a dictionary
        for name, array in wanted.items():
            part = opened.get_slice(name)
            assert part.get_shape() == list(array.shape)
            for key in (slice(3, 11), slice(None, None, 7), 5, slice(0, 0), (slice(2, 9), ...)):
                found = part[key]
                assert found.tobytes() == array[key].tobytes() and found.shape == array[key].shape
        assert opened.get_slice("group")[100:300, 5:90:3].tobytes() == wanted["group"][100:300, 5:90:3].tobytes()
    with regrain.torch.safe_open(path) as opened:
        assert torch.equal(opened.get_slice("half")[3:7, 2], torch.from_numpy(wanted["half"][3:7, 2].copy()))


def test_indices_and_scales(path, model, choice):
    with regrain.open(path) as opened:
        for name in model:
            found = opened.quantized(name)
            if name not in choice:
                assert found is None
                continue
            assert found.cell == choice[name].cell
            np.testing.assert_array_equal(found.codes, choice[name].codes, strict=True)
            np.testing.assert_array_equal(found.indices, choice[name].indices)
        with pytest.raises(KeyError, match="has no tensor 'none'"):
            opened.quantized("none")


def test_a_plain_file_has_no_quantized_tensors(path, tmp_path):
    plain = tmp_path / "plain.safetensors"
    regrain.restore(path, plain)
    with regrain.open(plain) as opened:
        assert opened.quantized("row") is None
        with pytest.raises(KeyError):
            opened.quantized("none")


def test_a_lossy_artifact_can_be_compressed_again_without_loss(path, wanted, tmp_path):
    regrain.numpy.save_file(regrain.numpy.load_file(path), tmp_path / "again.regrain.safetensors")
    same(regrain.numpy.load_file(tmp_path / "again.regrain.safetensors"), wanted)
