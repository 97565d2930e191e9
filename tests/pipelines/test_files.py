"""compress, restore, verify and inspect on one file."""

import dataclasses
import hashlib
import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy

import regrain
from regrain.artifact.header import file_head


def test_there_and_back(model, weights):
    result = regrain.compress(model)
    assert result.path == model.with_name("model.regrain.safetensors")
    assert result.notes == ()
    report = regrain.verify(result.path, against=model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert report.sha256 == {"model.safetensors": digest}
    assert report.tensors == 7
    assert report.nbytes == model.stat().st_size
    restored = regrain.restore(result.path, model.with_name("again.safetensors"))
    assert restored.path.read_bytes() == model.read_bytes()
    assert restored.sha256 == {"again.safetensors": digest}
    assert restored.nbytes == model.stat().st_size


def test_sizes_count_everything(model):
    result = regrain.compress(model)
    artifact = regrain.inspect(result.path)
    assert artifact == result.artifact
    assert artifact.nbytes == result.path.stat().st_size
    assert artifact.original_bytes == model.stat().st_size
    assert artifact.weights == 90 * 64 + 64 * 64 + 64 * 64 + 5  # lm_head is tied, integers are no weights
    assert artifact.bits_per_weight == 8 * artifact.nbytes / artifact.weights
    assert artifact.original_bits_per_weight == 8 * artifact.original_bytes / artifact.weights
    assert artifact.bits_per_weight < artifact.original_bits_per_weight
    by_name = {tensor.descriptor.name: tensor for tensor in artifact.tensors}
    assert sum(tensor.nbytes for tensor in artifact.tensors) < artifact.original_bytes
    assert by_name["lm_head"].stored == 0
    assert by_name["lm_head"].descriptor.tied == "h.1.w"
    assert by_name["lm_head"].descriptor.stages == by_name["h.1.w"].descriptor.stages
    assert str(by_name["wte"].descriptor.scheme) == "dense, none, rans"
    assert by_name["wte"].bits_per_element < 14
    assert by_name["b"].descriptor.scheme.coder == "raw"
    assert by_name["e"].bits_per_element == 0
    assert [tensor.descriptor.name for tensor in artifact.tensors] == list(
        safetensors.safe_open(model, "np").offset_keys()
    )


@pytest.mark.parametrize("verb", ["compress", "inspect", "verify", "restore"])
def test_results_are_json(model, tmp_path, verb):
    artifact = regrain.compress(model).path
    result = {
        "compress": lambda: regrain.compress(model, tmp_path / "out"),
        "inspect": lambda: regrain.inspect(artifact),
        "verify": lambda: regrain.verify(artifact, model),
        "restore": lambda: regrain.restore(artifact, tmp_path / "out"),
    }[verb]()
    document = json.loads(json.dumps(result.to_json()))
    assert document["path"]
    assert document["bytes"] > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, dataclasses.fields(result)[0].name, None)


ODD = [
    b'{"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    b'{ "a" : {"shape":[2,1],"data_offsets":[ 0,8 ],"dtype":"F32"},\n\t'
    b'"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}   ',
    b'{"__metadata__":{"z":"1","a":"\\u00e4\\ud83d\\ude00","regrai":"n"},'
    b'"\\u0061":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}} \n ',
    b'{"b":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},"__metadata__":null,'
    b'"e":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}',
    b'{"x":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]},"y":{"dtype":"BOOL","shape":[13],"data_offsets":[3,16]}}',
]


@pytest.mark.parametrize("head", ODD)
def test_odd_files_come_back_to_the_byte(tmp_path, head):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(file_head(head) + bytes(range(100, 116)))
    regrain.compress(path)
    regrain.verify(tmp_path / "odd.regrain.safetensors", against=path)
    regrain.restore(tmp_path / "odd.regrain.safetensors", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_without_tensors(tmp_path):
    path = tmp_path / "none.safetensors"
    path.write_bytes(file_head(b"{}"))
    result = regrain.compress(path)
    assert result.artifact.bits_per_weight is None
    assert result.to_json()["bits_per_weight"] is None
    regrain.restore(result.path, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_noise_costs_little(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1_000_000).astype(np.uint8)
    path = tmp_path / "noise.safetensors"
    safetensors.numpy.save_file({"noise": noise}, path)
    assert regrain.compress(path).artifact.nbytes < path.stat().st_size + 1500


def test_nothing_is_overwritten_unasked(model, tmp_path):
    artifact = regrain.compress(model).path
    before = artifact.read_bytes()
    with pytest.raises(regrain.OutputExistsError, match="overwrite it with --force"):
        regrain.compress(model)
    with pytest.raises(regrain.OutputExistsError, match="overwrite it with --force"):
        regrain.restore(artifact, model)
    assert regrain.compress(model, force=True).path.read_bytes() == before
    os.link(model, tmp_path / "same")
    for out in (model, tmp_path / "same"):
        with pytest.raises(regrain.OutputExistsError, match="out must be another file than .*model.safe.*, which is"):
            regrain.compress(model, out, force=True)


def test_progress_reaches_the_end(model, folder):
    for path in (model, folder):
        for verb in (
            lambda path, progress: regrain.compress(path, force=True, progress=progress),
            lambda path, progress: regrain.verify(regrain.compress(path, force=True).path, progress=progress),
            lambda path, progress: regrain.restore(
                regrain.compress(path, force=True).path, path.with_name("r"), force=True, progress=progress
            ),
        ):
            calls = []
            verb(path, lambda *call, calls=calls: calls.append(call))
            assert calls == sorted(calls)
            assert calls[-1][0] == calls[-1][1]
        regrain.restore(regrain.compress(path, force=True).path, path.with_name(f"r{path.name}"))
        (path.with_name("r")).unlink() if path is model else None


def test_plain_weights_are_no_artifact_and_the_reverse(model):
    artifact = regrain.compress(model).path
    for verb in (regrain.inspect, regrain.verify, lambda path: regrain.restore(path, path.with_name("out"))):
        with pytest.raises(
            regrain.UnsupportedModelError, match="artifact must be a file that regrain wrote, not .*: compress"
        ):
            verb(model)
    with pytest.raises(
        regrain.UnsupportedModelError, match="model must be plain weights, not the artifact .*: restore it"
    ):
        regrain.compress(artifact)
    assert not artifact.with_name("out").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.update(wte=-t["wte"]), "tensor 'wte': element 0 must be as in .*, but differs"),
        (lambda t: t["wte"].__setitem__((3, 5), 9), "tensor 'wte': element 197 must be as in .*, but differs"),
        (lambda t: t["lm_head"].__setitem__((-1, -1), 9), "tensor 'lm_head': element 4095 must be as in"),
        (
            lambda t: t.update(ids=t["ids"].astype(np.int32)),
            r"tensor 'ids': must be I32 \[300\] as in .*, not I64 \[300\]",
        ),
        (lambda t: t.update(b=t["b"][:4]), r"tensor 'b': must be F32 \[4\] as in .*, not F32 \[5\]"),
        (lambda t: t.pop("e"), "tensor 'e': tensor must be in both the artifact and"),
        (lambda t: t.update(new=t["b"]), "tensor 'new': tensor must be in both the artifact and"),
    ],
)
def test_verify_against_names_what_differs(model, tmp_path, weights, change, text):
    artifact, other = regrain.compress(model).path, tmp_path / "other.safetensors"
    tensors = weights[0] | weights[1]
    safetensors.numpy.save_file(tensors, other)  # another order of names and no metadata: the same bits
    regrain.verify(artifact, against=other)
    regrain.verify(artifact, against=artifact)
    change(tensors)
    safetensors.numpy.save_file(tensors, other)
    for against in (other, regrain.compress(other).path):
        with pytest.raises(regrain.CorruptArtifactError, match=text):
            regrain.verify(artifact, against=against)


def test_verify_sees_every_byte_of_the_file(model):
    """Damage anywhere is found, whatever it would take to notice it while loading."""
    artifact = regrain.compress(model).path
    data = artifact.read_bytes()
    rng = np.random.default_rng(0)
    for at in {*rng.integers(0, len(data), 150).tolist(), 0, len(data) - 1}:
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.integers(0, 8)
        artifact.write_bytes(damaged)
        with pytest.raises(regrain.CorruptArtifactError):
            regrain.verify(artifact)
        out = artifact.with_name("out")
        try:
            regrain.restore(artifact, out, force=True)
        except regrain.CorruptArtifactError:
            assert not out.exists()
        else:
            assert out.read_bytes() == model.read_bytes()  # the receipt takes no part in it
            out.unlink()


def test_errors_say_which_file(model):
    artifact = regrain.compress(model).path
    data = bytearray(artifact.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    data[8 + size + 200] ^= 1
    artifact.write_bytes(data)
    with pytest.raises(regrain.CorruptArtifactError, match=r"tensor '[^']+'(, block \d+)?: ") as caught:
        regrain.verify(artifact)
    assert any("model.regrain.safetensors" in note for note in caught.value.__notes__)
