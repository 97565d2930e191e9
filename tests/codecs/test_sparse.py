"""Pruned payloads: masks, values and weights come back, and equal those of the plain reader."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs.front import DTYPES
from regrain.codecs.quantized import Quantized, grid_shape, matrix_shape
from regrain.codecs.sparse import (
    Sparse,
    encode_sparse,
    kept_of_rows,
    least_bytes,
    mask_bytes,
    sparse_size,
)
from regrain.codecs.sparse_front import fill_rows, read_sparse_front
from regrain.core.descriptor import pattern_of
from regrain.core.pattern import Pattern
from regrain.kernels.reference_sparse import decode_sparse

SEED = kernels.crc32c(b"layer.weight")
TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
SHAPES = [(), (1,), (64,), (5000,), (1, 1), (7, 1), (3, 300), (70, 65), (8, 4, 3, 3), (2, 1, 1), (130, 1000)]
PATTERNS = ["fine", "2:4", "block:16x1", "block:4x4", "block:1x300", "column", "row"]


def front_of(payload):
    return read_sparse_front(lambda start, count: payload[start : start + count].tobytes(), payload.size, seed=SEED)


def values_of(payload, front):
    """The kept values, as a reader gets them."""
    listed = front.values
    values = listed.packed
    if values is None:
        values = np.empty(listed.count, listed.kind)
        start, size = listed.coded
        kernels.decode(payload[start : start + size], values.view(f"u{values.itemsize}"), seed=SEED)
    return listed.put_outliers(0, values)


def spread(sparse):
    """The mask of each weight, written another way."""
    rows, columns = matrix_shape(sparse.shape)
    row, column = np.indices((rows, columns))
    return sparse.mask[row // sparse.unit[0], column // sparse.unit[1]]


def make(rng, shape, pattern, density, dtype, quantized=False, spread=6.0):
    """A tensor pruned at random. Values include every special float, zeros of both signs among the kept ones."""
    unit = Pattern(pattern).unit(shape)
    rows, columns = matrix_shape(shape)
    grid = grid_shape(rows, columns, unit)
    mask = rng.random(grid) < density
    if quantized:
        indices = np.rint(np.clip(rng.normal(0, spread, shape), -32768, 32767)).astype(np.int16)
        wide = mask.repeat(unit[0], axis=0)[:rows].repeat(unit[1], axis=1)[:, :columns]
        cell = (1, columns) if rows > 1 else (1, max(1, columns // 2))
        codes = rng.integers(-60, -40, grid_shape(rows, columns, cell)).astype(np.int16)
        return Sparse.quantized(Quantized(indices * wide.reshape(shape), codes, cell), mask, unit)
    array = np.asarray(rng.normal(0, 0.02, shape), np.float32).astype(TYPES[dtype])
    flat = array.reshape(-1)
    for at, special in zip(range(0, flat.size, 7), (0.0, -0.0, np.inf, -np.inf, np.nan), strict=False):
        flat[at] = special
    return Sparse.of(array, mask, unit)


@st.composite
def tensors(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, pattern = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(PATTERNS))
    density = draw(st.sampled_from([0, 0.02, 0.5, 0.9, 1]))
    dtype, quantized = draw(st.sampled_from(DTYPES)), draw(st.booleans())
    return make(rng, shape, pattern, density, dtype, quantized, draw(st.sampled_from([0.3, 6, 60, 900]))), dtype


@settings(max_examples=150)
@given(tensors())
def test_everything_comes_back(made):
    sparse, dtype = made
    payload = encode_sparse(sparse, dtype, seed=SEED)
    assert payload.size == sparse_size(sparse, dtype)
    front = front_of(payload)
    assert (front.dtype, (front.rows, front.columns)) == (dtype, matrix_shape(sparse.shape))
    assert (front.unit, front.cell, front.values.count) == (sparse.unit, sparse.cell, sparse.kept)
    np.testing.assert_array_equal(front.mask, sparse.mask, strict=True)
    values = values_of(payload, front)
    np.testing.assert_array_equal(values, sparse.values)
    whole = sparse.dense(dtype)
    out = np.empty(whole.size, np.uint8)
    fill_rows(front, 0, values, out)
    assert out.tobytes() == whole.tobytes()
    plain = decode_sparse(payload.tobytes(), seed=SEED)
    assert (DTYPES[plain.dtype], plain.unit, plain.cell) == (dtype, sparse.unit, sparse.cell)
    np.testing.assert_array_equal(plain.kept, spread(sparse), strict=True)
    assert plain.words.tobytes() == whole.tobytes()
    assert sparse.codes is None or np.array_equal(plain.codes, sparse.codes)
    again = Sparse(front.mask, front.unit, sparse.shape, values, front.codes, front.cell)
    assert again.digest() == sparse.digest()


@settings(max_examples=60)
@given(tensors(), st.data())
def test_rows_come_back_alone(made, data):
    sparse, dtype = made
    payload = encode_sparse(sparse, dtype, seed=SEED)
    front = front_of(payload)
    first = data.draw(st.integers(0, front.rows - 1))
    last = data.draw(st.integers(first, front.rows))
    values = values_of(payload, front)[front.starts[first] : front.starts[last]]
    size = front.columns * TYPES[dtype](0).itemsize
    out = np.empty((last - first) * size, np.uint8)
    fill_rows(front, first, values, out)
    assert out.tobytes() == sparse.dense(dtype)[first * size : last * size].tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", ["fine", "block:16x1", "column", "row"])
def test_what_is_dropped_is_zero_and_what_is_kept_is_untouched(pattern, dtype):
    rng = np.random.default_rng(4)
    array = rng.normal(0, 1, (50, 12, 3, 3)).astype(TYPES[dtype])
    unit = Pattern(pattern).unit(array.shape)
    mask = rng.random(grid_shape(50, 108, unit)) < 0.6
    sparse = Sparse.of(array, mask, unit)
    found = sparse.dense(dtype).view(array.dtype).reshape(50, 108)
    wide = spread(sparse)
    assert found[wide].tobytes() == array.reshape(50, 108)[wide].tobytes()
    assert not found[~wide].view(np.uint8).any()
    assert sparse.density == wide.mean() and pattern_of(unit, array.shape)[0] == pattern


def test_threads_change_no_byte():
    rng = np.random.default_rng(0)
    for quantized in (False, True):
        sparse = make(rng, (700, 600), "fine", 0.5, "F32", quantized)
        payloads = {encode_sparse(sparse, "F32", seed=SEED, threads=threads).tobytes() for threads in (1, 2, 3)}
        assert len(payloads) == 1


def test_nothing_and_everything_kept_cost_next_to_nothing_beside_the_weights():
    array = np.random.default_rng(0).normal(0, 1, (900, 700)).astype(np.float32)
    for unit in ((1, 1), (16, 1), (900, 1)):
        grid = grid_shape(900, 700, unit)
        empty, full = Sparse.of(array, np.zeros(grid, bool), unit), Sparse.of(array, np.ones(grid, bool), unit)
        assert sparse_size(empty, "F32") <= 200
        assert not empty.dense("F32").any() and (empty.kept, empty.density) == (0, 0.0)
        words = array.reshape(-1).view(np.uint32)
        dense = kernels.encode(words, family=0, mantissa_bits=23, row_words=700, seed=SEED)
        assert sparse_size(full, "F32") <= dense.size + 200
        assert full.dense("F32").tobytes() == array.tobytes() and full.density == 1


def test_masks_cost_their_entropy():
    rng = np.random.default_rng(1)
    random = rng.random((1000, 1000)) < 0.1
    two_of_four = (rng.random((1000, 250, 4)).argsort(axis=2) < 2).reshape(1000, 1000)
    array = np.ones((1000, 1000), np.float32)
    for mask, bits in ((random, 0.469), (two_of_four, np.log2(6) / 4), (rng.random((1000, 1000)) < 0.5, 1)):
        payload = encode_sparse(Sparse.of(array, mask, (1, 1)), "F32", seed=SEED)
        values = front_of(payload).values.coded[1]
        assert (payload.size - values) * 8 / mask.size == pytest.approx(bits, rel=0.03)
        assert mask_bytes(mask) == pytest.approx(payload.size - values, rel=0.02)
    for grid in ((1, 700), (24, 384), (384, 1536)):
        for density in (0, 0.2, 0.8, 1):
            mask = rng.random(grid) < density
            sparse = Sparse.of(np.ones(grid, np.float32), mask, (1, 1))
            payload = encode_sparse(sparse, "F32", seed=SEED)
            values = front_of(payload).values.coded[1]
            assert abs(mask_bytes(mask) - (payload.size - values)) < 250 + mask.size / 8 / 20


def test_a_payload_is_never_too_short_for_its_weights():
    array = np.zeros((3000, 700), np.float16)
    sparse = Sparse.of(array, np.zeros((1, 700), bool), (3000, 1))
    payload = encode_sparse(sparse, "F16", seed=SEED)
    assert payload.size == least_bytes(array.size) == -(-array.size // 65536) * 12
    assert front_of(payload).values.count == 0
    assert (least_bytes(65536), least_bytes(65537)) == (0, 24)


def test_rows_are_counted_as_their_units_say():
    mask = np.array([[True, False, True], [False, True, True]])
    assert kept_of_rows(mask, (2, 4), 3, 10).tolist() == [6, 6, 6]
    assert kept_of_rows(mask, (2, 4), 4, 12).tolist() == [8, 8, 8, 8]
    assert kept_of_rows(mask, (2, 5), 3, 11).tolist() == [6, 6, 6]


def test_a_digest_tells_tensors_apart_and_not_their_integers():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    mask = np.array([[True, False], [True, True]])
    one = Sparse.of(array, mask, (2, 3))
    others = [
        Sparse.of(array, ~mask, (2, 3)),
        Sparse.of(array + 1, mask, (2, 3)),
        Sparse.of(array.reshape(4, 3, 2), mask, (2, 3)),
        Sparse.of(array, np.ones((2, 2), bool), (2, 3)),
        Sparse.of(array, np.ones((2, 1), bool), (2, 6)),
        Sparse.of(array.astype(np.float16), mask, (2, 3)),
    ]
    codes = np.zeros((1, 1), np.int16)
    wide = mask.repeat(2, axis=0).repeat(3, axis=1)
    grids = [
        Sparse.quantized(Quantized(wide.astype(kind), codes, (4, 6)), mask, (2, 3)) for kind in (np.int8, np.int32)
    ]
    assert grids[0].digest() == grids[1].digest()
    assert len({other.digest() for other in (one, *others, grids[0])}) == 8
    assert one.digest() == Sparse.of(array, mask, (2, 3)).digest()


GOOD = {
    "mask": np.array([[True, False], [True, True]]),
    "unit": (2, 3),
    "shape": (4, 6),
    "values": np.arange(18, dtype=np.uint32),
}
CODES = {"codes": np.zeros((1, 1), np.int16), "cell": (4, 6)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (0, 6)}, r"shape must have weights, not \(0, 6\): keep an empty tensor lossless"),
        ({"unit": (0, 3)}, r"unit must be within the 4 x 6 matrix, not \(0, 3\)"),
        ({"unit": (2, 7)}, r"unit must be within the 4 x 6 matrix, not \(2, 7\)"),
        ({"unit": (2, 2)}, r"mask must be bool of shape \(2, 3\), not bool of \(2, 2\)"),
        ({"mask": np.ones((2, 2), np.uint8)}, r"mask must be bool of shape \(2, 2\), not uint8"),
        ({"values": np.arange(17, dtype=np.uint32)}, r"values must have one axis of the 18 weights .*, not \(17,\)"),
        ({"values": np.zeros((2, 9), np.uint32)}, "values must have one axis of the 18 weights"),
        ({"values": np.zeros(18, np.float32)}, "values must be words, uint16 or uint32, not float32"),
        ({"values": np.zeros(18, np.int8)}, "values must be words, .*: quantized ones need codes"),
        ({"codes": CODES["codes"]}, "codes and cell must be given together"),
        (CODES, "indices must be int8, int16 or int32, not uint32"),
        (CODES | {"values": np.full(18, 2**15, np.int32)}, "indices must fit int16, not 32768 to 32768"),
        (CODES | {"values": np.zeros(18, np.int8), "cell": (4, 7)}, "cell must be within the 4 x 6 matrix"),
        (CODES | {"values": np.zeros(18, np.int8), "cell": (1, 6)}, r"codes must be int16 of shape \(4, 1\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        Sparse(**(GOOD | change))


def test_other_element_types_are_refused():
    sparse = Sparse(**GOOD)
    with pytest.raises(ValueError, match="dtype must be one of BF16, F16, F32 to be pruned, not 'F64'"):
        encode_sparse(sparse, "F64", seed=SEED)
    with pytest.raises(ValueError, match="dtype must be one of BF16, F16, F32 to be pruned, not 'F64'"):
        Sparse.of(np.zeros((4, 6)), GOOD["mask"], (2, 3))
    for use in (sparse.dense, lambda dtype: encode_sparse(sparse, dtype, seed=SEED)):
        with pytest.raises(ValueError, match="dtype must have words of 4 bytes, not be BF16"):
            use("BF16")


def test_indices_of_dropped_weights_must_be_zero():
    with pytest.raises(ValueError, match="indices of dropped weights must be 0: multiply them by the mask"):
        Sparse.quantized(Quantized(np.ones((4, 6), np.int8), **CODES), GOOD["mask"], (2, 3))


def test_weights_that_are_not_finite_are_refused_where_they_are_quantized():
    mask = np.array([[True, False]])
    huge = Quantized(np.array([[100, 0]], np.int8), np.full((1, 1), 80, np.int16), (1, 2))
    with pytest.raises(ValueError, match="weights must be finite as F16"):
        Sparse.quantized(huge, mask, (1, 1)).dense("F16")
