"""Sharded checkpoints and model directories go in and out as such."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

import regrain
import regrain.numpy
from regrain.artifact.layout import artifact_name, find_weights, original_name
from regrain.core.errors import OutputError


def test_a_directory_there_and_back(folder, tree, tmp_path):
    result = regrain.compress(folder)
    assert result.path == tmp_path / "hub.regrain"
    assert tree(result.path).keys() == {
        "model-00001-of-00002.regrain.safetensors",
        "model-00002-of-00002.regrain.safetensors",
        "onnx/part.regrain.safetensors",
        *("model.safetensors.index.json", "config.json", "onnx/deep/tokenizer.bin"),
    }
    assert regrain.verify(result.path, against=folder).tensors == 9
    assert regrain.verify(result.path, against=result.path).against == result.path
    restored = regrain.restore(result.path, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder)
    assert len(restored.sha256) == 3
    sizes = [path.stat().st_size for path in result.path.rglob("*.safetensors")]
    assert result.artifact.nbytes == sum(sizes)
    assert os.listdir(tmp_path) and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_an_index_there_and_back(folder, tree, tmp_path):
    index = folder / "model.safetensors.index.json"
    result = regrain.compress(index)
    assert result.path == folder / "model.regrain"
    assert len(tree(result.path)) == 3
    for artifact in (result.path, result.path / index.name):
        regrain.verify(artifact, against=index)
        regrain.restore(artifact, tmp_path / "again", force=True)
        wanted = tree(folder)
        assert tree(tmp_path / "again") == {name: wanted[name] for name in tree(tmp_path / "again")}
        assert len(tree(tmp_path / "again")) == 3


def test_shards_load_as_one(folder, weights, tmp_path):
    wanted = weights[0] | weights[1]
    packed = regrain.compress(folder).path
    for path in (folder, packed, folder / "model.safetensors.index.json", packed / "model.safetensors.index.json"):
        found = regrain.numpy.load_file(path)
        assert found.keys() == wanted.keys()
        assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())
        out = {name: np.empty_like(array) for name, array in wanted.items()}
        regrain.numpy.load_file(path, out=out)
        assert all(out[name].tobytes() == array.tobytes() for name, array in wanted.items())


def test_force_replaces_a_directory_at_once(folder, tree):
    packed = regrain.compress(folder).path
    (packed / "stale").touch()
    before = tree(packed)
    with pytest.raises(regrain.OutputExistsError):
        regrain.compress(folder)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        regrain.compress(folder, force=True, progress=stop)
    assert tree(packed) == before
    regrain.compress(folder, force=True)
    assert tree(packed).keys() == before.keys() - {"stale"}


def test_force_does_not_delete_what_is_no_model(folder, tmp_path, tree):
    """A slip of the output's name must not cost a directory."""
    before = tree(folder)
    for out in (folder, tmp_path, folder.parent / "hub" / "onnx" / ".."):
        with pytest.raises(regrain.OutputExistsError, match="out must not hold the directory .*hub', which is read"):
            regrain.compress(folder, out, force=True)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "one.jpg").touch()
    with pytest.raises(
        regrain.OutputExistsError, match="output must not replace a directory without weights, .*: remove it"
    ):
        regrain.compress(folder, other, force=True)
    with pytest.raises(regrain.OutputExistsError, match="output must be a directory or not there, but .* is a file"):
        regrain.compress(folder, other / "one.jpg", force=True)
    (other / "one.jpg").unlink()
    packed = regrain.compress(folder, other, force=True).path
    with pytest.raises(regrain.OutputExistsError, match="out must not hold the directory .*photos', which is read"):
        regrain.restore(packed, packed, force=True)
    with pytest.raises(OutputError, match="choose a path that is no directory"):
        regrain.compress(folder / "onnx" / "part.safetensors", packed, force=True)
    assert tree(folder) == before
    assert sorted(os.listdir(tmp_path)) == ["hub", "photos"]


def test_a_damaged_shard_is_named(folder, tmp_path):
    packed = regrain.compress(folder).path
    shard = packed / "model-00002-of-00002.regrain.safetensors"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    for verb in (regrain.verify, lambda path: regrain.restore(path, tmp_path / "out"), regrain.numpy.load_file):
        with pytest.raises(regrain.CorruptArtifactError) as caught:
            verb(packed)
        assert any("model-00002-of-00002" in note for note in caught.value.__notes__)
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(folder):
    (folder / "model-00002-of-00002.safetensors").unlink()
    for call in (regrain.compress, regrain.numpy.load_file):
        with pytest.raises(
            FileNotFoundError, match="shard of the index is missing: .*model-00002-of-00002.safetensors"
        ):
            call(folder / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("weight_map", "text"),
    [
        ({"a": "../model.safetensors"}, "index must name .safetensors files below its own directory, not '../model"),
        ({"a": "/etc/model.safetensors"}, "index must name .safetensors files below its own directory, not '/etc"),
        ({"a": "x/../../model.safetensors"}, "index must name .safetensors files below its own directory"),
        ({"a": "config.json"}, "index must name .safetensors files below its own directory, not 'config.json'"),
        ({"a": 5}, "index must map tensors to files in its weight_map"),
        ({}, "index must map tensors to files in its weight_map"),
        ("x", "index must map tensors to files in its weight_map"),
        (None, "index must map tensors to files in its weight_map"),
    ],
)
def test_an_index_that_points_elsewhere(folder, weight_map, text):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(regrain.UnsupportedModelError, match=text):
        regrain.compress(index)


@pytest.mark.parametrize("text", ["", "[", "[]", '{"weight_map":{"a":"b","a":"c"}}', "[" * 100_000, "\xff"])
def test_an_index_that_is_none(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, "latin-1")
    with pytest.raises(regrain.UnsupportedModelError, match="index must"):
        regrain.compress(index)


def test_directories_that_are_not_clear(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(regrain.UnsupportedModelError, match="directory must hold a .safetensors file"):
        regrain.compress(tmp_path / "empty")
    with pytest.raises(
        regrain.UnsupportedModelError, match="directory must have one index or one file of weights, not 0"
    ):
        regrain.numpy.load_file(tmp_path / "empty")
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(
        regrain.UnsupportedModelError, match="directory must have one index or one file of weights, not 2"
    ):
        regrain.numpy.load_file(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model.safetensors")
    assert find_weights(folder) == [folder / "model.safetensors"]
    index = {"a": "model.safetensors", "b": "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(regrain.UnsupportedModelError, match="tensor '.*' must be in one file, not in .* and .*"):
        regrain.numpy.load_file(folder)
    os.symlink(tmp_path / "empty", folder / "link")
    with pytest.raises(regrain.UnsupportedModelError, match="directory must not hold links to directories"):
        regrain.compress(folder)


def test_linked_files_are_followed(folder, tmp_path, tree):
    """As in a hub's cache, where names link to blobs."""
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        os.symlink(folder / name, cache / name)
    regrain.restore(regrain.compress(cache).path, tmp_path / "again")
    assert tree(tmp_path / "again") == {name: (folder / name).read_bytes() for name in os.listdir(cache)}


def test_plain_weights_beside_artifacts_are_kept(folder, tmp_path, tree):
    packed = regrain.compress(folder).path
    safetensors.numpy.save_file({"x": np.ones(3)}, packed / "extra.safetensors")
    regrain.verify(packed)
    assert len(regrain.inspect(packed).files) == 3
    regrain.restore(packed, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(folder) | {"extra.safetensors": (packed / "extra.safetensors").read_bytes()}


def test_names():
    for name in ("model.safetensors", "a.b/x.y.safetensors", "x.regrain.safetensors"):
        assert original_name(artifact_name(name)) == name
    assert artifact_name("dir/pytorch_model.bin") == "dir/pytorch_model.regrain.safetensors"
