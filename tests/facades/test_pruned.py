"""Both facades over an artifact of pruned tensors: dense weights by every way there is to them, and the sparsity."""

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
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse
from regrain.core.dtypes import from_numpy


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(8)
    return {
        "column": rng.normal(0, 1, (400, 300)).astype(np.float32),
        "block": rng.normal(0, 1, (900, 128)).astype(ml_dtypes.bfloat16),
        "grid": rng.normal(0, 1, (320, 200)).astype(np.float32),
        "half": rng.normal(0, 1, (16, 8, 3, 3)).astype(np.float16),
        "bias": rng.normal(0, 1, 48).astype(np.float32),
        "exact": rng.normal(0, 1, (30, 40)).astype(np.float32),
        "ids": np.arange(20),
    }


@pytest.fixture(scope="module")
def forms(model, quantize):
    rng = np.random.default_rng(9)
    mask = rng.random((320, 200)) < 0.5
    grid = quantize(model["grid"], (1, 200), 0.1)
    return {
        "column": Sparse.of(model["column"], rng.random((1, 300)) < 0.8, (400, 1)),
        "block": Sparse.of(model["block"], rng.random((57, 128)) < 0.85, (16, 1)),
        "grid": Sparse.quantized(Quantized(grid.indices * mask, grid.codes, grid.cell), mask, (1, 1)),
        "half": Sparse.of(model["half"], rng.random((1, 8)) < 0.5, (16, 9)),
        "bias": Sparse.of(model["bias"], rng.random((1, 48)) < 0.5, (1, 1)),
    }


@pytest.fixture(scope="module")
def wanted(model, forms):
    found = dict(model)
    for name, how in forms.items():
        dtype = model[name].dtype
        found[name] = how.dense(from_numpy(dtype).name).view(dtype).reshape(model[name].shape)
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory, model, forms):
    path = tmp_path_factory.mktemp("pruned") / "model.regrain.safetensors"
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in model.items()
    }
    with output_file(path, force=False) as sink:
        write_packed(from_tensors(lazy, None, "test"), sink, forms, version="0", receipt={})
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
    assert all(array is out[name] for name, array in regrain.numpy.load_file(path, out=out).items())
    same(out, wanted)


def test_one_by_one_and_by_slices(path, wanted):
    with regrain.open(path) as opened:
        same({name: opened.get_tensor(name) for name in opened.keys()}, wanted)  # noqa: SIM118 - not a dictionary
        for name, array in wanted.items():
            part = opened.get_slice(name)
            assert part.get_shape() == list(array.shape)
            for key in (slice(3, 11), slice(None, None, 7), 5, slice(0, 0), (slice(2, 9), ...)):
                found = part[key]
                assert found.tobytes() == array[key].tobytes() and found.shape == array[key].shape
        assert opened.get_slice("block")[100:300, 5:90:3].tobytes() == wanted["block"][100:300, 5:90:3].tobytes()
        assert opened.get_slice("column")[7, 5:11].tobytes() == wanted["column"][7, 5:11].tobytes()
    with regrain.torch.safe_open(path) as opened:
        assert torch.equal(opened.get_slice("half")[3:7, 2], torch.from_numpy(wanted["half"][3:7, 2].copy()))


def test_masks_and_kept_weights(path, model, forms):
    with regrain.open(path) as opened:
        for name in model:
            found = opened.sparse(name)
            assert (found is None) == (name not in forms) and opened.quantized(name) is None
            if found is None:
                continue
            np.testing.assert_array_equal(found.mask, forms[name].mask, strict=True)
            assert (found.unit, found.cell) == (forms[name].unit, forms[name].cell)
            np.testing.assert_array_equal(found.values, forms[name].values)
            assert opened.descriptor(name).density == found.density
        with pytest.raises(KeyError, match="has no tensor 'none'"):
            opened.sparse("none")


def test_a_plain_file_has_no_pruned_tensors(path, tmp_path, wanted):
    plain = tmp_path / "plain.safetensors"
    regrain.restore(path, plain)
    same(regrain.numpy.load_file(plain), wanted)
    with regrain.open(plain) as opened:
        assert opened.sparse("column") is None
        with pytest.raises(KeyError):
            opened.sparse("none")


def test_verify_says_how_far_it_is(path, model, wanted, tmp_path):
    plain = tmp_path / "plain.safetensors"
    regrain.numpy.save_file(model, tmp_path / "model.regrain.safetensors")
    regrain.restore(tmp_path / "model.regrain.safetensors", plain)
    result = regrain.verify(path, plain)
    assert not result.lossless
    found = {one.name: one for one in result.differences}
    assert found.keys() == {"column", "block", "grid", "half", "bias"}
    assert all(one.steps is None for one in found.values())
    off = np.abs(wanted["column"] - model["column"]).max()
    assert found["column"].largest == pytest.approx(float(off))
