"""What the verbs print of a lossy artifact."""

import json

import numpy as np
import pytest

from regrain.artifact.output import output_file
from regrain.artifact.packed import write_packed
from regrain.models import open_any


@pytest.fixture
def artifact(model, quantize):
    source = open_any(model, 1)
    choice = {}
    for name, entry in source.header.entries.items():
        if entry.dtype == "F32" and len(entry.shape) == 2:
            array = source.read(name).view(np.float32).reshape(entry.shape)
            choice[name] = quantize(array, (1, 32), 0.1)
        elif entry.dtype == "F16":
            array = source.read(name).view(np.float16).reshape(entry.shape)
            choice[name] = quantize(array, (16, 16), 0.1)
    path = model.with_name("model.regrain.safetensors")
    with output_file(path, force=False) as sink:
        write_packed(source, sink, choice, version="0", receipt={"note": "mine"})
    return path


def text(result):
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_inspect_shows_what_shares_a_scale(artifact, run):
    for width in (80, 120):
        printed = text(run("inspect", artifact, width=width))
        assert "group 32" in printed and "block 16x16" in printed
        assert "lossy, restores sha256" in printed
    found = json.loads(run("inspect", artifact, "--json").stdout)
    assert found["files"][0]["lossless"] is False
    assert found["files"][0]["receipt"]["note"] == "mine"


def test_restore_says_that_it_is_not_the_original(artifact, run):
    printed = text(run("restore", artifact, "-o", artifact.with_name("dense.safetensors")))
    assert "lossy: quantized or pruned weights are not the original's" in printed
    assert "byte-identical" not in printed


def test_verify_says_lossy_and_how_far_it_is(artifact, model, run):
    assert "lossy: quantized or pruned weights are not the original's; --against MODEL measures" in text(
        run("verify", artifact)
    )
    printed = text(run("verify", artifact, "--against", model))
    assert "lossy: 3 tensors differ from" in printed and "2 have its every bit" in printed
    assert "largest in steps" in printed and "0.50" in printed
    assert len(json.loads(run("verify", artifact, "--against", model, "--json").stdout)["differences"]) == 3
