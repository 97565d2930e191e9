"""The verbs over a lossy artifact: it restores to what its digest says, and tells how far that is from the original."""

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy

import regrain
from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.core.errors import CorruptArtifactError
from regrain.models import open_any


@pytest.fixture
def weights():
    rng = np.random.default_rng(4)
    first = rng.normal(0, 1, (80, 64)).astype(np.float32)
    return {"first": first, "second": rng.normal(0, 1, (64, 64)).astype(np.float16), "ids": np.arange(300)}


@pytest.fixture
def model(tmp_path, weights):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(weights, path, {"format": "pt"})
    return path


@pytest.fixture
def choice(weights, quantize):
    return {"first": quantize(weights["first"], (1, 64), 0.1), "second": quantize(weights["second"], (1, 16), 0.2)}


@pytest.fixture
def pack(model, choice):
    """Write a lossy artifact of the model."""

    def make(out=None, choice=choice, source=model, **more):
        out = out or model.with_name("model.regrain.safetensors")
        with output_file(out, force=True) as sink:
            write_packed(open_any(source, 1), sink, choice, version="0", receipt={}, **more)
        return out

    return make


def test_restore_writes_the_dense_file(pack, model, weights, choice):
    out = model.with_name("dense.safetensors")
    result = regrain.restore(pack(), out)
    found = safetensors.numpy.load_file(out)
    assert found["first"].tobytes() == choice["first"].dequantized("F32").tobytes()
    assert found["second"].tobytes() == choice["second"].dequantized("F16").tobytes()
    assert found["ids"].tobytes() == weights["ids"].tobytes()
    size = 8 + int.from_bytes(model.read_bytes()[:8], "little")
    assert out.read_bytes()[:size] == model.read_bytes()[:size]
    assert result.sha256 == {"dense.safetensors": hashlib.sha256(out.read_bytes()).hexdigest()}
    assert not result.lossless and result.nbytes == model.stat().st_size
    assert result.to_json()["lossless"] is False


def test_verify(pack):
    artifact = pack()
    result = regrain.verify(artifact)
    assert not result.lossless and result.differences == () and result.against is None
    assert result.sha256["model.safetensors"] == regrain.inspect(artifact).files[0].restored_sha256


def test_verify_measures_how_far_the_weights_are(pack, model, weights, choice):
    result = regrain.verify(pack(), model)
    first, second = sorted(result.differences, key=lambda difference: difference.name)
    for found, name in ((first, "first"), (second, "second")):
        dtype = weights[name].dtype
        dense = choice[name].dequantized({4: "F32", 2: "F16"}[dtype.itemsize]).view(dtype).astype(float).reshape(-1)
        off = np.abs(dense - weights[name].astype(float).reshape(-1))
        assert found.name == name
        assert found.largest == pytest.approx(off.max())
        assert found.relative == pytest.approx(np.sqrt((off**2).sum() / (weights[name].astype(float) ** 2).sum()))
    assert 0.4 < first.steps <= 0.5 + 1e-5
    assert 0.4 < second.steps < 0.51  # halves are rounded once more
    assert {difference["name"] for difference in result.to_json()["differences"]} == {"first", "second"}


def test_verify_compares_exact_tensors_bit_by_bit(pack, model, weights):
    artifact = pack()
    weights["ids"][7] += 1
    safetensors.numpy.save_file(weights, model, {"format": "pt"})
    with pytest.raises(CorruptArtifactError, match="tensor 'ids': element 7 must be as in .*, but differs"):
        regrain.verify(artifact, model)


def test_verify_takes_changed_tensors_for_what_they_are(pack, model, weights):
    artifact = pack(replaced={"ids": weights["ids"] + 2})
    found = {difference.name: difference for difference in regrain.verify(artifact, model).differences}
    assert found["ids"].largest == 2 and found["ids"].steps is None


def test_verify_refuses_another_models_shapes(pack, model, weights):
    artifact = pack()
    safetensors.numpy.save_file(weights | {"first": weights["first"].T.copy()}, model)
    with pytest.raises(CorruptArtifactError, match=r"tensor 'first': must be F32 \[64, 80\] as in"):
        regrain.verify(artifact, model)


def test_verify_wants_finite_weights(pack, model, weights):
    artifact = pack()
    weights["first"][0, 0] = np.nan
    safetensors.numpy.save_file(weights, model)
    with pytest.raises(CorruptArtifactError, match="tensor 'first': weights must be finite where they differ"):
        regrain.verify(artifact, model)


def test_inspect(pack, model, choice):
    found = regrain.inspect(pack())
    file = found.files[0]
    assert file.sha256 == hashlib.sha256(model.read_bytes()).hexdigest() != file.restored_sha256
    assert not file.lossless
    document = found.to_json()
    json.dumps(document, allow_nan=False)
    schemes = {tensor["name"]: (tensor["granularity"], tensor["scheme"]) for tensor in document["tensors"]}
    assert schemes["first"] == (
        "coarse",
        {"pattern": "dense", "quantizer": "row", "cell": [1, 64], "coder": "rans"},
    )
    assert schemes["second"][0] == "medium" and schemes["second"][1]["quantizer"] == "group"
    assert schemes["ids"][1]["quantizer"] == "none"
    sizes = {tensor.descriptor.name: tensor for tensor in found.tensors}
    assert 4 < sizes["first"].bits_per_element < 8
    assert found.bits_per_weight < 10
    assert sum(tensor.stored for tensor in found.tensors) < found.nbytes


def test_large_tensors_are_restored_in_pieces(tmp_path, quantize):
    rng = np.random.default_rng(0)
    big = rng.normal(0, 1, (2300, 1000)).astype(np.float32)
    path = tmp_path / "big.safetensors"
    safetensors.numpy.save_file({"big": big}, path)
    artifact = tmp_path / "big.regrain.safetensors"
    with output_file(artifact, force=True) as sink:
        choice = {"big": quantize(big, (7, 600), 0.5)}
        write_packed(open_any(path, 1), sink, choice, version="0", receipt={}, threads=2)
    assert regrain.verify(artifact, path).differences[0].steps <= 0.5 + 1e-5
    regrain.restore(artifact, tmp_path / "dense.safetensors", threads=2)
    dense = safetensors.numpy.load_file(tmp_path / "dense.safetensors")["big"]
    assert dense.tobytes() == choice["big"].dequantized("F32").tobytes()


def test_a_directory_may_hold_both_kinds(tmp_path, model, pack, weights):
    folder = tmp_path / "model.regrain"
    folder.mkdir()
    pack(folder / "a.regrain.safetensors")
    regrain.compress(model, folder / "b.regrain.safetensors")
    result = regrain.restore(folder, tmp_path / "dense")
    assert not result.lossless
    assert (tmp_path / "dense" / "b.safetensors").read_bytes() == model.read_bytes()
    assert (tmp_path / "dense" / "a.safetensors").read_bytes() != model.read_bytes()
    assert not regrain.verify(folder).lossless
