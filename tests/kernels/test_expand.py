"""Expanding kept values to dense rows: every instruction set equals the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels import reference_sparse


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 15, 16, 17, 64, 100, 333, 1100]))
    unit = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    if draw(st.booleans()):
        unit = draw(st.sampled_from([(1, 1), (rows, 1), (min(16, rows), 1), (1, columns), (rows, min(9, columns))]))
    first = draw(st.integers(0, rows))
    return rows, columns, unit, first, draw(st.integers(0, rows - first))


@settings(max_examples=200)
@given(
    matrices(),
    st.sampled_from([0, 0.1, 0.5, 0.97, 1]),
    st.sampled_from([np.int8, np.int16, np.uint16, np.uint32]),
    st.integers(0, 2**32 - 1),
)
def test_every_unit_and_place(matrix, density, kind, seed):
    rows, columns, unit, first, count = matrix
    rng = np.random.default_rng(seed)
    mask = rng.random((-(-rows // unit[0]), -(-columns // unit[1]))) < density
    row, column = np.indices((rows, columns))
    kept = int(mask[row // unit[0], column // unit[1]][first : first + count].sum())
    values = rng.integers(1, 120, kept).astype(kind)
    wanted = np.full((count, columns), 9, kind)
    reference_sparse.expand(mask, unit, values, wanted, first)
    before = kernels.instruction_set()
    try:
        for name in kernels.instruction_sets():
            kernels.use_instruction_set(name)
            out = np.full((count + 1, columns), 7, kind)
            kernels.expand(mask, unit, values, out[:count], first=first)
            assert (out[:count] == wanted).all() and (out[count] == 7).all(), name
    finally:
        kernels.use_instruction_set(before)


GOOD = {
    "mask": np.ones((2, 2), bool),
    "unit": (2, 3),
    "values": np.ones(18, np.uint16),
    "out": np.empty((3, 6), np.uint16),
    "first": 1,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": (0, 3)}, "a mask must have a byte for each unit"),
        ({"unit": (2, 0)}, "a mask must have a byte for each unit"),
        ({"unit": (2, 2)}, "a mask must have a byte for each unit"),
        ({"unit": (2, 2**63)}, "a mask must have a byte for each unit"),
        ({"unit": (1, 3)}, "a mask must have a byte for each unit"),
        ({"first": 2}, "a mask must have a byte for each unit"),
        ({"first": 2**64 - 1}, "a mask must have a byte for each unit"),
        ({"out": np.empty((3, 0), np.uint16)}, "a mask must have a byte for each unit"),
        ({"values": np.ones(17, np.uint16)}, "values must be those that are kept"),
        ({"values": np.ones(19, np.uint16)}, "values must be those that are kept"),
        ({"values": np.ones(18, np.uint8)}, "values must be those that are kept"),
        ({"values": np.ones(18, np.uint64), "out": np.empty((3, 6), np.uint64)}, "of 1, 2 or 4 bytes as in out"),
    ],
)
def test_what_does_not_fit_is_refused(change, reason):
    kernels.expand(**GOOD)
    with pytest.raises(ValueError, match=reason):
        kernels.expand(**(GOOD | change))
