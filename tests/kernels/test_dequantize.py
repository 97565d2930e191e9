"""Dequantizing: every instruction set equals NumPy, whatever the runs, the type and the place."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.codecs.grid import HIGHEST, LOWEST, scales_of
from regrain.kernels.fault import PayloadFault

TYPES = [ml_dtypes.bfloat16, np.float16, np.float32]


@pytest.fixture
def every_set():
    before = kernels.instruction_set()
    yield kernels.instruction_sets()
    kernels.use_instruction_set(before)


def expected(indices, scales, cell, columns, dtype, first=0):
    rows, places = np.divmod(np.arange(first, first + indices.size), columns)
    with np.errstate(over="ignore"):
        return (indices.astype(np.float32) * scales[rows // cell[0], places // cell[1]]).astype(TYPES[dtype])


@pytest.mark.parametrize("dtype", range(3))
def test_every_index_at_many_scales(every_set, dtype):
    codes = np.arange(LOWEST, HIGHEST + 1, 3)
    scales = scales_of(codes).reshape(-1, 1)
    short = np.tile(np.arange(-128, 128).astype(np.int8), codes.size)
    ends = np.array([-32768, -32767, -4097, -1, 0, 1, 255, 2049, 4095, 9999, 32767], np.int16)
    for indices in (short, np.tile(ends, codes.size)):
        columns = indices.size // codes.size
        grid = kernels.Grid(scales, codes.size, columns, (1, columns), dtype)
        wanted = expected(indices, scales, (1, columns), columns, dtype).tobytes()
        for name in every_set:
            kernels.use_instruction_set(name)
            out = np.zeros(len(wanted), np.uint8)
            kernels.dequantize(indices, grid, out)
            assert out.tobytes() == wanted, name


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 15, 16, 17, 64, 100, 333]))
    cell = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    if draw(st.booleans()):
        cell = draw(st.sampled_from([(1, columns), (rows, columns), (1, 1), (rows, 1)]))
    first = draw(st.integers(0, rows * columns))
    return rows, columns, cell, first, draw(st.integers(0, rows * columns - first))


@settings(max_examples=150)
@given(matrices(), st.integers(0, 2), st.sampled_from([np.int8, np.int16]), st.integers(0, 2**32 - 1))
def test_every_cell_and_place(matrix, dtype, kind, seed):
    rows, columns, cell, first, count = matrix
    rng = np.random.default_rng(seed)
    scales = scales_of(rng.integers(-100, 60, (-(-rows // cell[0]), -(-columns // cell[1]))))
    indices = rng.integers(-128, 128, count).astype(kind)
    wanted = expected(indices, scales, cell, columns, dtype, first).tobytes()
    before = kernels.instruction_set()
    try:
        for name in kernels.instruction_sets():
            kernels.use_instruction_set(name)
            out = np.full(len(wanted) + 64, 7, np.uint8)
            kernels.dequantize(
                indices, kernels.Grid(scales, rows, columns, cell, dtype), out[: len(wanted)], first=first
            )
            assert out[: len(wanted)].tobytes() == wanted, name
            assert (out[len(wanted) :] == 7).all(), name
    finally:
        kernels.use_instruction_set(before)


def payload_of(indices, row, seed=3):
    words = indices.reshape(-1).view(f"u{indices.itemsize}")
    return kernels.encode(words, family=kernels.INTEGER, mantissa_bits=0, row_words=row, seed=seed)


def blocks_of_each_kind(kind=np.int8):
    """(2000, 256) indices: coded blocks, stored and constant ones."""
    rng = np.random.default_rng(5)
    indices = np.rint(rng.normal(0, 3, (2000, 256)) * np.where(np.arange(2000) % 7, 1, 9)[:, None]).astype(kind)
    limits = np.iinfo(kind)
    indices[500:1050] = rng.integers(limits.min, limits.max, (550, 256), endpoint=True)
    indices[1200:1750] = -3
    return indices


@pytest.mark.parametrize("kind", [np.int8, np.int16])
@pytest.mark.parametrize("dtype", range(3))
def test_payloads_of_indices(every_set, kind, dtype, tmp_path):
    indices = blocks_of_each_kind(kind)
    payload = payload_of(indices, 256)
    kinds = {block[0] for block in kernels.info(payload, seed=3).blocks}
    assert kinds == {0, 1, 2}
    scales = scales_of(np.random.default_rng(6).integers(-90, -10, (2000, 2)))
    grid = kernels.Grid(scales, 2000, 256, (1, 200), dtype)
    wanted = expected(indices.reshape(-1), scales, (1, 200), 256, dtype)
    path = tmp_path / "payload"
    path.write_bytes(b"12345" + payload.tobytes())
    size = wanted.itemsize
    for name in every_set:
        kernels.use_instruction_set(name)
        for first, count in ((0, 512_000), (1, 511_998), (179_000, 130_001), (511_999, 1), (70_000, 0)):
            for threads in (1, 3):
                out = np.zeros(count * size, np.uint8)
                kernels.decode_weights([(payload, indices.itemsize, 3, grid, first, out)], threads)
                assert out.tobytes() == wanted[first : first + count].tobytes(), (name, first)
        with path.open("rb") as file:
            out = np.zeros(wanted.nbytes, np.uint8)
            job = ((5, payload.size), indices.itemsize, 3, grid, 0, out)
            kernels.decode_weights_file(file.fileno(), [job, job], 2)
            assert out.tobytes() == wanted.tobytes()


def test_damage_and_the_wrong_kind_are_faults():
    indices = blocks_of_each_kind()
    payload = payload_of(indices, 256)
    grid = kernels.Grid(np.ones((1, 1), np.float32), 2000, 256, (2000, 256), 2)
    out = np.zeros(4 * indices.size, np.uint8)
    damaged = payload.copy()
    damaged[-100] ^= 1
    with pytest.raises(PayloadFault, match="checksum is wrong"):
        kernels.decode_weights([(damaged, 1, 3, grid, 0, out)])
    with pytest.raises(PayloadFault, match="word size"):
        kernels.decode_weights([(payload, 2, 3, grid, 0, out)])
    floats = kernels.encode(indices.reshape(-1).view(np.uint8), family=0, mantissa_bits=3, row_words=0, seed=3)
    with pytest.raises(PayloadFault, match="family must be"):
        kernels.decode_weights([(floats, 1, 3, grid, 0, out)])
    other = kernels.Grid(np.ones((1, 1), np.float32), 1999, 256, (1999, 256), 2)
    with pytest.raises(PayloadFault, match="number of words is not the tensor's") as caught:
        kernels.decode_weights([(payload, 1, 3, grid, 0, out), (payload, 1, 3, other, 0, out[: 4 * 1999 * 256])])
    assert caught.value.job == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": 3}, "a grid must have a scale for each cell"),
        ({"rows": 0}, "a grid must have a scale for each cell"),
        ({"rows": 2**40, "columns": 2**40}, "a grid must have a scale for each cell"),
        ({"cell": (0, 3)}, "a grid must have a scale for each cell"),
        ({"cell": (2, 2**63)}, "a grid must have a scale for each cell"),
        ({"cell": (1, 3)}, "a grid must have a scale for each cell"),
        ({"rows": 2, "cell": (1, 3)}, "out must hold whole weights of the matrix"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(change, reason):
    fields = {"scales": np.ones((2, 2), np.float32), "rows": 4, "columns": 6, "cell": (2, 3), "dtype": 2} | change
    with pytest.raises(ValueError, match=reason):
        kernels.dequantize(np.zeros(24, np.int8), kernels.Grid(**fields), np.zeros(96, np.uint8))


def test_indices_must_fit_the_weights():
    grid = kernels.Grid(np.ones((1, 1), np.float32), 4, 6, (4, 6), 2)
    for indices, size in ((np.zeros(23, np.int8), 96), (np.zeros(24, np.int32), 96)):
        with pytest.raises(ValueError, match="indices must be int8 or int16, one for each weight"):
            kernels.dequantize(indices, grid, np.zeros(size, np.uint8))
    with pytest.raises(ValueError, match="out must hold whole weights"):
        kernels.dequantize(np.zeros(24, np.int8), grid, np.zeros(95, np.uint8))
    with pytest.raises(ValueError, match="out must hold whole weights"):
        kernels.dequantize(np.zeros(24, np.int8), grid, np.zeros(96, np.uint8), first=1)
    with pytest.raises(ValueError, match="an index must have 1 or 2 bytes"):
        kernels.decode_weights([(b"", 4, 0, grid, 0, np.zeros(96, np.uint8))])
