"""Models on disk for the tests of the verbs."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy


@pytest.fixture
def weights():
    """Two shards' worth of tensors."""
    rng = np.random.default_rng(4)

    def normal(*shape):
        return rng.normal(0, 0.02, shape).astype(np.float32)

    first = {"wte": normal(90, 64).astype(ml_dtypes.bfloat16), "h.0.w": normal(64, 64).astype(ml_dtypes.bfloat16)}
    second = {
        "h.1.w": normal(64, 64).astype(np.float16),
        "ids": np.arange(300),
        "b": normal(5),
        "e": np.zeros((0, 2), np.int8),
    }
    second["lm_head"] = second["h.1.w"].copy()
    return first, second


@pytest.fixture
def model(tmp_path, weights):
    """One file."""
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(weights[0] | weights[1], path, {"format": "pt"})
    return path


@pytest.fixture
def folder(tmp_path, weights):
    """A directory as a hub serves it: two shards, an index, a configuration, and a model of its own further down."""
    folder = tmp_path / "hub"
    (folder / "onnx" / "deep").mkdir(parents=True)
    weight_map = {}
    for number, tensors in enumerate(weights, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        safetensors.numpy.save_file(tensors, folder / name, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2)
    )
    (folder / "config.json").write_text('{"model_type": "tiny"}\n')
    (folder / "onnx" / "deep" / "tokenizer.bin").write_bytes(bytes(range(256)))
    safetensors.numpy.save_file(weights[0], folder / "onnx" / "part.safetensors")
    return folder


@pytest.fixture
def tree():
    """The bytes of every file below a folder."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
