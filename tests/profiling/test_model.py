"""The verb: a whole model, its ties, its totals, its JSON."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from regrain.core.errors import CorruptArtifactError
from regrain.core.granularity import Granularity
from regrain.core.selection import SelectionRule
from regrain.pipelines.compress import compress
from regrain.pipelines.profile import profile

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(64, 96)).astype(np.float32)
SPARSE = np.where(RNG.random((64, 96)) < 0.8, 0, DENSE).astype(np.float32)
SPIKED = DENSE.copy()
SPIKED[:, 0] = 1000.0
TENSORS = {
    "bias": np.ones(96, np.float32),
    "dense": DENSE,
    "sparse": SPARSE,
    "spiked": SPIKED,
    "tied": DENSE,
    "ids": np.arange(96, dtype=np.int64),
    "none": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def model(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_the_rule_picks_each_of_the_three(model):
    found = profile(model)
    choices = {tensor.name: found.choice(tensor) for tensor in found.tensors}
    picked = {name: choice.granularity for name, choice in choices.items() if choice is not None}
    assert picked == {
        "dense": Granularity.FINE,
        "tied": Granularity.FINE,
        "sparse": Granularity.COARSE,  # 80 % zeros leave 2 bits of entropy
        "spiked": Granularity.COARSE,
    }
    strict = profile(model, rule=SelectionRule(high_entropy=7.9, low_entropy=0.0))
    assert {c.granularity for t in strict.tensors if (c := strict.choice(t))} == {Granularity.MEDIUM}


def test_ties_count_once(model):
    found = profile(model)
    by_name = {tensor.name: tensor for tensor in found.tensors}
    tied = [tensor for tensor in found.tensors if tensor.tied_to is not None]
    assert [{tensor.name, tensor.tied_to} for tensor in tied] == [{"dense", "tied"}]
    assert tied[0].predicted_bytes == 0
    assert by_name["dense"].int8_entropy == by_name["tied"].int8_entropy
    assert found.weights == 96 + 3 * 64 * 96
    assert found.bytes == sum(array.nbytes for array in TENSORS.values())


def test_json_is_plain_and_the_same_each_time(model):
    found = profile(model).to_json()
    assert profile(model).to_json() == found
    text = json.dumps(found, sort_keys=True, allow_nan=False)
    again = json.loads(text)
    assert set(again) == {"format", "block", "rule", "tensors", "totals"}
    assert again["rule"] == {"high_entropy": 6.0, "low_entropy": 4.0, "max_sparsity": 0.3}
    assert again["block"] == [16, 1]
    assert again["totals"]["bytes"] == sum(tensor["bytes"] for tensor in again["tensors"])
    assert {tensor["name"]: tensor["choice"] for tensor in again["tensors"]}["bias"] is None


def test_a_model_without_weights_has_no_bits_per_weight(tmp_path):
    save_file({"ids": np.arange(9)}, tmp_path / "ids.safetensors")
    found = profile(tmp_path / "ids.safetensors")
    assert math.isnan(found.bits_per_weight)
    assert found.to_json()["totals"]["bits_per_weight"] is None


def test_an_artifact_has_the_profile_of_its_original(model):
    artifact = compress(model).path
    original = {tensor.name: tensor for tensor in profile(model).tensors}
    found = {tensor.name: tensor for tensor in profile(artifact).tensors}
    assert found.keys() == original.keys()
    assert found["sparse"] == original["sparse"]


def test_progress_ends_with_everything_done(model):
    seen = []
    profile(model, progress=lambda done, total: seen.append((done, total)))
    total = sum(array.nbytes for array in TENSORS.values())
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    assert len(seen) == len(TENSORS)


def test_tensors_may_start_at_any_byte(tmp_path):
    header = {
        "flags": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]},
        "w": {"dtype": "F32", "shape": [64, 96], "data_offsets": [3, 3 + DENSE.nbytes]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\1\0\1" + DENSE.tobytes())
    save_file({"w": DENSE}, tmp_path / "even.safetensors")
    assert profile(path).tensors[1] == profile(tmp_path / "even.safetensors").tensors[0]


def test_errors(tmp_path, model):
    with pytest.raises(FileNotFoundError):
        profile(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match=r"^block must be at least 1x1 weights, not 0x4$"):
        profile(model, block=(0, 4))
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CorruptArtifactError):
        profile(model)
