"""Files for the tests of the facades."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import regrain


@pytest.fixture(scope="session")
def tensors():
    """Tensors of many kinds, by name."""
    rng = np.random.default_rng(2)
    weight = rng.normal(0, 0.02, (300, 768)).astype(np.float32)
    return {
        "bf16": weight.astype(ml_dtypes.bfloat16),
        "f16": weight[:100].astype(np.float16),
        "f32": weight[:50],
        "f64": weight[:3].astype(np.float64),
        "cube": weight[:64].reshape(8, 96, 64).astype(ml_dtypes.bfloat16),
        "vector": weight[0],
        "ids": np.arange(512).reshape(1, 512),
        "bytes": rng.integers(0, 9, (40, 50)).astype(np.uint8),
        "mask": rng.random((4, 4)) < 0.5,
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 7), np.float16),
        "none": np.zeros((5, 0, 2), np.int32),
        "tied": weight.astype(ml_dtypes.bfloat16),
    }


@pytest.fixture(scope="session")
def plain(tmp_path_factory, tensors):
    """A plain safetensors file of them."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "pt", "made": "here"})
    return path


@pytest.fixture(scope="session")
def artifact(plain):
    """Its artifact."""
    return regrain.compress(plain).path


@pytest.fixture(params=["plain", "artifact"])
def file(request):
    """Both of them: a reader must not see the difference."""
    return request.getfixturevalue(request.param)
