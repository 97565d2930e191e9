"""Quantized payloads: indices, scales and weights come back, and equal those of the plain reader."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs import quantized
from regrain.codecs.grid import HIGHEST, LOWEST
from regrain.codecs.quantized import (
    DTYPES,
    Quantized,
    encode_quantized,
    grid_shape,
    matrix_shape,
    quantized_size,
    read_front,
    read_indices,
    split_outliers,
)
from regrain.kernels.reference_quantized import decode_quantized

SEED = kernels.crc32c(b"layer.weight")
SHAPES = [(), (1,), (64,), (5000,), (1, 1), (7, 1), (3, 300), (70, 65), (8, 4, 3, 3), (2, 1, 1), (130, 1000)]


def front_of(payload):
    return read_front(lambda start, count: payload[start : start + count].tobytes(), payload.size, seed=SEED)


def cell_of(draw, rows, columns):
    return draw(
        st.sampled_from([(rows, columns), (1, columns), (1, 1), (1, min(16, columns)), (min(3, rows), min(5, columns))])
    )


@st.composite
def values(draw):
    shape = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0, 0.3, 2, 30, 50, 8000]))
    indices = np.rint(np.clip(rng.normal(0, spread, shape), -32768, 32767)).astype(
        draw(st.sampled_from([np.int16, np.int32]))
    )
    rows, columns = matrix_shape(shape)
    cell = cell_of(draw, rows, columns)
    middle = draw(st.sampled_from([-300, -40, 0]))
    codes = rng.integers(middle - 20, middle + 20, grid_shape(rows, columns, cell)).astype(np.int16)
    return Quantized(indices, codes, cell)


@settings(max_examples=150)
@given(values(), st.sampled_from(DTYPES))
def test_everything_comes_back(tensor, dtype):
    try:
        weights = tensor.dequantized(dtype)
    except ValueError:  # too large for a half
        assert dtype == "F16"
        return
    payload = encode_quantized(tensor, dtype, seed=SEED)
    front = front_of(payload)
    rows, columns = matrix_shape(tensor.indices.shape)
    assert (front.dtype, front.rows, front.columns, front.cell) == (dtype, rows, columns, tensor.cell)
    np.testing.assert_array_equal(front.codes, tensor.codes, strict=True)
    np.testing.assert_array_equal(read_indices(payload, front, seed=SEED), tensor.indices.reshape(-1))
    plain = decode_quantized(payload.tobytes(), seed=SEED)
    assert (DTYPES[plain.dtype], plain.cell) == (dtype, tensor.cell)
    np.testing.assert_array_equal(plain.codes, tensor.codes, strict=True)
    np.testing.assert_array_equal(plain.indices.reshape(-1), tensor.indices.reshape(-1))
    assert plain.words.tobytes() == weights.tobytes()
    assert quantized_size(tensor.indices, tensor.codes, tensor.cell) == payload.size


def test_threads_change_no_byte():
    rng = np.random.default_rng(0)
    indices = np.rint(rng.normal(0, 20, (700, 600))).astype(np.int16)
    indices[5, 6], indices[699, 599] = 4000, -129
    tensor = Quantized(indices, rng.integers(-60, -30, (700, 38)).astype(np.int16), (1, 16))
    payloads = {encode_quantized(tensor, "F32", seed=SEED, threads=threads).tobytes() for threads in (1, 2, 3)}
    assert len(payloads) == 1


@pytest.mark.parametrize("count", [1, 16, 64])
def test_a_small_tensor_has_little_overhead(count):
    tensor = Quantized(np.arange(count, dtype=np.int16) % 16, np.zeros((1, 1), np.int16), (1, count))
    assert encode_quantized(tensor, "F32", seed=SEED).size <= count // 2 + 24


def test_outliers_stand_apart_only_where_they_are_rare():
    rng = np.random.default_rng(0)
    indices = rng.integers(-128, 128, 10_000).astype(np.int32)
    kept, places, outliers = split_outliers(indices)
    assert kept.dtype == np.int8 and places.size == outliers.size == 0
    indices[[17, 5000]] = 128, -30_000
    kept, places, outliers = split_outliers(indices)
    assert kept.dtype == np.int8 and kept[17] == 127 and kept[5000] == -128
    assert places.tolist() == [17, 5000] and outliers.tolist() == [128, -30_000]
    indices[:10] = 200
    kept, places, outliers = split_outliers(indices)
    assert kept.dtype == np.int16 and places.size == 0
    np.testing.assert_array_equal(kept, indices)


def test_a_range_reads_the_same_as_the_whole():
    rng = np.random.default_rng(1)
    indices = np.rint(rng.normal(0, 25, (300, 500))).astype(np.int16)
    indices[rng.integers(0, 300, 20), rng.integers(0, 500, 20)] = 3000
    tensor = Quantized(indices, rng.integers(-60, -50, (100, 3)).astype(np.int16), (3, 200))
    payload = encode_quantized(tensor, "BF16", seed=SEED)
    front = front_of(payload)
    assert front.indices.places.size and front.indices.packed is None
    coded = payload[front.indices.coded[0] :]
    whole = tensor.dequantized("BF16").view(np.uint16)
    for first, count in ((0, 150_000), (0, 1), (65_535, 2), (65_000, 70_000), (149_999, 1), (12_345, 0)):
        out = np.zeros(2 * count, np.uint8)
        kernels.decode_weights([(coded, 1, SEED, front.grid, first, out)])
        quantized.finish_weights(front, first, out)
        np.testing.assert_array_equal(out.view(np.uint16), whole[first : first + count])


GOOD = {"indices": np.zeros((4, 6), np.int16), "codes": np.zeros((2, 2), np.int16), "cell": (2, 3)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"indices": np.zeros((4, 6))}, "indices must be int8, int16 or int32, not float64"),
        ({"indices": np.zeros((0, 6), np.int8)}, "indices must not be empty: keep an empty tensor lossless"),
        (
            {"indices": np.full((4, 6), 2**15, np.int32)},
            "indices must fit int16, not 32768 to 32768: take larger scales",
        ),
        ({"cell": (0, 3)}, r"cell must be within the 4 x 6 matrix, not \(0, 3\)"),
        ({"cell": (2, 7)}, r"cell must be within the 4 x 6 matrix, not \(2, 7\)"),
        ({"codes": np.zeros((2, 3), np.int16)}, r"codes must be int16 of shape \(2, 2\), not int16 of \(2, 3\)"),
        ({"codes": np.zeros((2, 2), np.int32)}, r"codes must be int16 of shape \(2, 2\), not int32"),
        ({"codes": np.full((2, 2), LOWEST - 1, np.int16)}, "codes must be -1008 to 1023, not -1009 to -1009"),
        ({"codes": np.full((2, 2), HIGHEST + 1, np.int16)}, "codes must be -1008 to 1023, not 1024 to 1024"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        Quantized(**(GOOD | change))


def test_weights_that_are_not_finite_are_refused():
    tensor = Quantized(np.array([0, 100], np.int8), np.full((1, 1), 8 * 10, np.int16), (1, 2))
    assert np.isfinite(tensor.dequantized("F32").view(np.float32)).all()
    with pytest.raises(
        ValueError, match="weights must be finite as F16: take smaller scales, or keep the tensor lossless"
    ):
        tensor.dequantized("F16")
    huge = Quantized(np.array([2], np.int8), np.full((1, 1), HIGHEST, np.int16), (1, 1))
    for dtype in ("F32", "BF16"):
        with pytest.raises(ValueError, match=f"weights must be finite as {dtype}"):
            huge.dequantized(dtype)


def test_other_element_types_are_refused():
    with pytest.raises(ValueError, match="dtype must be one of BF16, F16, F32 to be quantized, not 'F64'"):
        encode_quantized(Quantized(**GOOD), "F64", seed=SEED)


def test_a_digest_tells_tensors_apart_and_not_their_integers():
    one = Quantized(**GOOD)
    assert one.digest() == Quantized(**(GOOD | {"indices": GOOD["indices"].astype(np.int32)})).digest()
    others = [
        {"indices": np.zeros((4, 3, 2), np.int16)},
        {"indices": np.eye(4, 6, dtype=np.int8)},
        {"codes": np.eye(2, dtype=np.int16)},
        {"cell": (3, 5)},
    ]
    assert one.digest() not in [Quantized(**(GOOD | other)).digest() for other in others]
