"""What the verbs print of pruned tensors."""

import json

import numpy as np
import pytest

from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.codecs.sparse import Sparse
from regrain.models import open_any

NAME = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def artifact(model):
    source = open_any(model, 1)
    array = source.read(NAME).view(np.float32).reshape(96, 96)
    forms = {NAME: Sparse.of(array, np.arange(96)[None] % 4 < 3, (96, 1))}
    path = model.with_name("model.regrain.safetensors")
    with output_file(path, force=False) as sink:
        write_packed(source, sink, forms, version="0", receipt={})
    return path


def text(result):
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_inspect_shows_pattern_and_density(artifact, run):
    for width in (80, 120):
        printed = text(run("inspect", artifact, width=width))
        assert "scales kept MB" in printed and "F32 rans - column 75.0 %" in printed
    found = {one["name"]: one for one in json.loads(run("inspect", artifact, "--json").stdout)["tensors"]}
    assert (found[NAME]["scheme"]["pattern"], found[NAME]["density"]) == ("column", 0.75)
    assert found["ids"]["density"] is None


def test_inspect_of_dense_tensors_has_no_such_column(model, run):
    path = model.with_name("dense.regrain.safetensors")
    with output_file(path, force=False) as sink:
        write_packed(open_any(model, 1), sink, {}, version="0", receipt={})
    assert "kept" not in text(run("inspect", path))


def test_verify_and_restore(artifact, model, run):
    assert text(run("verify", artifact))
    assert "lossy: 1 tensor" in text(run("verify", artifact, "--against", model))
    dense = artifact.with_name("dense.safetensors")
    text(run("restore", artifact, "-o", dense))
    found = open_any(dense, 1).read(NAME).view(np.float32).reshape(96, 96)
    wanted = open_any(model, 1).read(NAME).view(np.float32).reshape(96, 96)
    assert (found == np.where(np.arange(96) % 4 < 3, wanted, 0)).all()
