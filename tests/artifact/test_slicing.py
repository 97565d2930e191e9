"""Indexing equals NumPy's on a whole array."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.artifact.slicing import narrow


@st.composite
def keys(draw):
    """A shape and an index that NumPy takes."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    parts = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        ends = st.none() | st.integers(-8, 8)
        cut = st.builds(slice, ends, ends, st.none() | st.integers(1, 3))
        parts.append(draw(cut | st.integers(-size, size - 1) if size else cut))
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), ...)
        # an ellipsis moves what follows it to the last axes: keep only numbers that fit there
        for at, part in enumerate(parts):
            if isinstance(part, int):
                parts[at] = slice(part, None)
    return shape, parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)


@given(keys())
def test_a_run_holds_what_numpy_selects(example):
    shape, key = example
    whole = np.arange(math.prod(shape)).reshape(shape)
    run = narrow(key, shape)
    part = whole.reshape(-1)[run.first : run.first + math.prod(run.shape)].reshape(run.shape)
    np.testing.assert_array_equal(part[(*run.rest, ...)], whole[(*key, ...) if key == () else key])


@pytest.mark.parametrize(
    ("key", "shape", "run"),
    [
        (3, (5, 10), (30, (10,))),
        (slice(1, 3), (5, 10), (10, (2, 10))),
        ((2, slice(4, 6)), (5, 10), (24, (2,))),
        ((-1, -1), (5, 10), (49, ())),
        ((slice(2, 4), 7), (5, 10), (20, (2, 10))),
        ((1, slice(2, 3), slice(None)), (2, 4, 8), (48, (1, 8))),
    ],
)
def test_only_what_is_needed_is_read(key, shape, run):
    assert narrow(key, shape)[:2] == run


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (5, IndexError, "index must be within axis 0 of size 5, not 5"),
        ((0, -11), IndexError, "index must be within axis 1 of size 10, not -11"),
        ((slice(None), 10), IndexError, "index must be within axis 1 of size 10, not 10"),
        ((0, 0, 0), IndexError, "index must have at most 2 items, not 3"),
        ((..., ...), IndexError, "index must have at most one ellipsis"),
        (None, TypeError, "index must be a whole number, a slice or an ellipsis, not NoneType"),
        ([1, 2], TypeError, "index must be a whole number, a slice or an ellipsis, not list"),
        (np.array([1, 2]), TypeError, "index must be a whole number, a slice or an ellipsis, not ndarray"),
        (slice(None, None, -1), ValueError, "step must be at least 1, not -1"),
        ((0, slice(None, None, 0)), ValueError, "step must be at least 1, not 0"),
        ((slice(1, 2), slice(None, None, -2)), ValueError, "step must be at least 1, not -2"),
    ],
)
def test_other_indices_are_refused(key, error, text):
    with pytest.raises(error, match=text):
        narrow(key, (5, 10))
