"""`regrain bench`: every layout is timed beside torch, and a wrong one is not."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from regrain.core.errors import ServingError, UnsupportedModelError
from regrain.pipelines import bench as module
from regrain.pipelines.bench import CONTENDERS, bench


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "ROUND", 1e-5)


@pytest.fixture
def model(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.normal(size=(33, 40)).astype(np.float32),
        "b": rng.normal(size=(33, 40)).astype(np.float16),
        "c": rng.normal(size=(64, 20)).astype(np.float32),
        "small": np.ones((4, 400), np.float32),
        "bias": np.ones(33, np.float32),
        "names": np.ones((50, 50), np.int64),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_every_layout_that_serves_so_many_tokens(model, quick):
    found = list(bench(model, tokens=(1, 9)))
    assert [(t.rows, t.columns, t.tokens) for t in found if t.name == "torch"] == [
        (33, 40, 1), (33, 40, 9), (64, 20, 1), (64, 20, 9),
    ]  # fmt: skip
    for tokens in (1, 9):
        names = [t.name for t in found if (t.rows, t.tokens) == (33, tokens)]
        assert names == ["torch", *(c.name for c in CONTENDERS if c.tokens[0] <= tokens <= c.tokens[1])]
    assert all(t.seconds > 0 and t.ratio > 0 and 0 <= t.error < 0.02 for t in found)
    assert all(t.ratio == 1.0 for t in found if t.name == "torch")


def test_a_wrong_result_is_no_figure(model, quick, monkeypatch):
    dense = CONTENDERS[0]

    def wrong(weights):
        product, kept = dense.make(weights)
        return product, kept * np.float32(1.001)

    broken = module.Contender("broken", wrong, dense.tokens, dense.tolerance)
    monkeypatch.setattr(module, "CONTENDERS", (broken,))
    with pytest.raises(ServingError, match=r"broken must be within 1e-05 of the right result, and is 0\.001"):
        list(bench(model, tokens=(3,)))


def test_a_model_without_matrices(tmp_path):
    save_file({"bias": np.ones(3, np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(UnsupportedModelError, match="must have a matrix of 16 x 16 weights or more"):
        list(bench(tmp_path / "m.safetensors"))
