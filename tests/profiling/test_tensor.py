"""profile_tensor against the definitions, computed the slow and obvious way."""

import math
from collections import Counter
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.dtypes import numpy_dtype
from regrain.profiling import pieces as pieces_module
from regrain.profiling import profile_tensor
from regrain.profiling.pieces import matrix_shape, pieces

FLOATS = ["F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]
INTEGERS = ["I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL"]


def profile(array, dtype, block=(16, 1)):
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
    return profile_tensor("w", dtype, array.shape, words, block)


def entropy(symbols):
    counts = Counter(symbols)
    total = sum(counts.values())
    return sum(-n / total * math.log2(n / total) for n in counts.values()) if total else 0.0


def indices(rows, steps):
    for row in rows:
        finite = [w for w in row if math.isfinite(w)]
        absmax = max(map(abs, finite), default=0.0)
        for w in finite:
            yield round(w / absmax * steps) if absmax else 0  # Python and NumPy both round ties to even


def brute_force(array, block):
    """Everything that TensorProfile says of floats, from Python numbers."""
    rows, columns = matrix_shape(array.shape)
    table = [[float(w) for w in row] for row in array.reshape(rows, columns)]
    everything = [w for row in table for w in row]
    finite = [w for w in everything if math.isfinite(w)]
    magnitudes = [abs(w) for w in finite if w]
    found = {
        "sparsity": sum(w == 0 for w in everything) / len(everything),
        "nans": sum(map(math.isnan, everything)),
        "infinities": sum(map(math.isinf, everything)),
        "int8_entropy": entropy(indices(table, 127)),
        "int4_entropy": entropy(indices(table, 7)),
        "dynamic_range": math.log2(max(magnitudes)) - math.log2(min(magnitudes)) if magnitudes else None,
        "absmax": max(map(abs, finite), default=None),
    }
    if array.ndim > 1:
        corners = list(product(range(0, rows, block[0]), range(0, columns, block[1])))
        empty = sum(all(w == 0 for row in table[r : r + block[0]] for w in row[c : c + block[1]]) for r, c in corners)
        found["zero_blocks"] = empty / len(corners)
        found["zero_rows"] = sum(not any(row) for row in table) / rows
        channels = np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)
        found["zero_columns"] = sum(not channel.any() for channel in channels != 0) / array.shape[1]
    return found, finite


def float_words(dtype):
    """Words of a float type: mostly common values, zeros of both signs, and any bits at all."""
    size = numpy_dtype(dtype).itemsize
    common = [np.array(v, numpy_dtype(dtype)).view(f"u{size}").item() for v in (0.0, -0.0, 1.0, -0.5, 0.03, 2.0)]
    return st.one_of(st.sampled_from(common), st.integers(0, 256**size - 1))


@st.composite
def float_tensors(draw):
    dtype = draw(st.sampled_from(FLOATS))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=0, max_size=4)))
    count = math.prod(shape)
    words = draw(st.lists(float_words(dtype), min_size=count, max_size=count))
    size = numpy_dtype(dtype).itemsize
    return dtype, np.array(words, f"u{size}").view(numpy_dtype(dtype)).reshape(shape)


@settings(max_examples=300, deadline=None)
@given(
    tensor=float_tensors(),
    block=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    limit=st.sampled_from([1, 2, 7, 1 << 17]),
)
def test_floats_agree_with_the_definitions_however_they_are_cut(tensor, block, limit):
    dtype, array = tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces_module.pieces, "__defaults__", (1, limit))
        found = profile(array, dtype, block)
    expected, finite = brute_force(array, block)
    for field, value in expected.items():
        exact = value is None or isinstance(value, int)
        assert getattr(found, field) == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-9)), field
    if finite and max(map(abs, finite)) < 1e30:
        assert found.mean == pytest.approx(math.fsum(finite) / len(finite), rel=1e-9, abs=1e-9 * found.absmax)
        variance = math.fsum((w - found.mean) ** 2 for w in finite) / len(finite)
        assert found.std == pytest.approx(math.sqrt(variance), rel=1e-6, abs=1e-9 * found.absmax)


@pytest.mark.parametrize("dtype", FLOATS)
def test_exponents_and_constant_bits_agree_with_the_words(dtype):
    rng = np.random.default_rng(1)
    array = rng.normal(size=(6, 64)).astype(numpy_dtype(dtype))
    size = array.itemsize
    mantissa = {"F32": 23, "F16": 10, "BF16": 7, "F64": 52}.get(dtype, 3 if "E4M3" in dtype else 2)
    words = array.view(f"u{size}").copy()
    words[1:] &= words.dtype.type(2 ** (8 * size) - 4)  # rows 1 to 5 have two low zeros at least
    words[3:] &= words.dtype.type(2 ** (8 * size) - 2**mantissa)  # rows 3 to 5 no mantissa at all
    found = profile(words.view(array.dtype), dtype)
    fields = (words.astype(object) >> mantissa) % 2 ** (8 * size - 1 - mantissa)
    assert found.exponent_entropy == pytest.approx(entropy(fields.reshape(-1).tolist()))
    assert found.low_zero_bits == 0
    assert found.row_low_zero_bits == pytest.approx((0 + 2 + 2 + 3 * mantissa) / 6, abs=0.01)


def test_outliers_and_tails():
    rng = np.random.default_rng(2)
    array = rng.normal(1.0, 0.1, size=200_000).astype(np.float32)
    array[:20] = 11.0
    found = profile(array, "F32")
    distances = array.astype(np.float64) - array.mean(dtype=np.float64)
    assert found.outliers == np.mean(np.abs(distances) > 6 * distances.std()) == 1e-4
    assert found.peak == pytest.approx(distances.max() / distances.std())
    assert found.kurtosis == pytest.approx((distances**4).mean() / (distances**2).mean() ** 2 - 3)


def test_a_normal_distribution_has_the_textbook_figures():
    found = profile(np.random.default_rng(3).normal(size=(2000, 500)), "F64")
    assert found.kurtosis == pytest.approx(0.0, abs=0.02)
    # Differential entropy of a normal is log2(std sqrt(2 pi e)); the largest of 500 lies near 3.2 std.
    assert found.int8_entropy == pytest.approx(math.log2(127 / 3.2 * math.sqrt(2 * math.pi * math.e)), abs=0.05)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype):
    array = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]]).astype(numpy_dtype(dtype))
    found = profile(array, dtype, (2, 1))
    assert found.exponent_entropy is found.int8_entropy is found.int4_entropy is found.low_zero_bits is None
    assert (found.sparsity, found.zero_rows, found.zero_columns, found.zero_blocks) == (7 / 12, 1 / 3, 1 / 4, 3 / 8)
    assert (found.absmax, found.mean, found.dynamic_range) == (1.0, pytest.approx(5 / 12), 0.0)
    assert not found.is_matrix


def test_negative_integers_keep_their_sign():
    found = profile(np.array([-128, 127, 0, -1], np.int8), "I8")
    assert (found.absmax, found.mean) == (128.0, -0.5)


@pytest.mark.parametrize("dtype", ["C64", "F4", "F8_E8M0"])
def test_other_types_are_sized_only(dtype):
    words = np.zeros(16, np.uint8 if dtype != "C64" else np.uint64)
    shape = (32,) if dtype == "F4" else (16,)
    found = profile_tensor("w", dtype, shape, words)
    assert (found.count, found.bytes, found.predicted_bytes) == (shape[0], words.nbytes, words.nbytes)
    assert found.sparsity is found.mean is found.int8_entropy is None


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_empty_tensors(shape):
    found = profile(np.zeros(shape, np.float32), "F32")
    assert (found.count, found.bytes, found.predicted_bytes, found.predicted_bits) == (0, 0, 0, 0.0)
    assert not found.is_matrix


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_nothing_finite_or_nothing_at_all(value):
    found = profile(np.full((4, 4), value, np.float32), "F32")
    assert found.dynamic_range is None
    assert found.int8_entropy == 0.0
    assert found.absmax == (0.0 if value == 0 else None)
    assert found.sparsity == found.zero_blocks == found.zero_rows == (value == 0)


def test_numbers_whose_squares_overflow_leave_the_moments_out():
    found = profile(np.array([1e308, -1e308, 5e-324, 0.0]), "F64")
    assert found.std is found.kurtosis is None
    assert found.absmax == 1e308
    assert found.dynamic_range == pytest.approx(math.log2(1e308) + 1074)


def test_bfloat16_of_ml_dtypes_is_what_bf16_means():
    array = np.array([1.0, -2.5, 3e38, 0.0], ml_dtypes.bfloat16)
    assert profile(array, "BF16").absmax == float(array[2])


@given(rows=st.integers(0, 20), columns=st.integers(0, 40), multiple=st.integers(1, 7), limit=st.integers(1, 64))
def test_pieces_are_the_matrix_in_order(rows, columns, multiple, limit):
    seen = 0
    for piece in pieces(rows, columns, multiple, limit):
        assert piece.first == seen == piece.row * columns + piece.column
        assert piece.columns == columns or (piece.rows == 1 and piece.column % multiple == 0)
        assert 0 < piece.rows * piece.columns <= max(limit, multiple)
        seen += piece.rows * piece.columns
    assert seen == rows * columns
