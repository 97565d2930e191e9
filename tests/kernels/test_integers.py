"""Products of integers: every instruction set gives what the reference gives, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import _native, kernels
from regrain.kernels import reference_integers
from regrain.kernels.integers import COLUMNS, ROWS, Integers


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.2, 1, shape).astype(np.float32)


def product(matrix: Integers, x: np.ndarray, threads: int = 1) -> np.ndarray:
    out = np.full((len(x), matrix.rows), 7, np.float32)
    matrix.multiply(x, out, threads)
    return out


def indices_of(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (rows, columns)).astype(np.int8)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, np.ndarray | None]:
    rows, columns, tokens = draw(st.integers(1, 70)), draw(st.integers(1, 75)), draw(st.integers(0, 30))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    shape = draw(st.sampled_from([None, (columns,), (-(-rows // ROWS), -(-columns // COLUMNS))]))
    kept = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    x = normal(seed, tokens, columns) * np.float32(draw(st.sampled_from([1.0, 1e-30, 1e30])))
    return {
        "indices": indices_of(seed, rows, columns),
        "scales": rng.uniform(0.001, 1, rows).astype(np.float32),
        "x": np.maximum(x, 0) if draw(st.booleans()) else x,
        "keep": None if shape is None else rng.random(shape) < kept,
        "bias": normal(seed + 1, rows),
    }


@given(problems())
@settings(max_examples=150)
def test_every_instruction_set_equals_the_reference(problem: dict[str, np.ndarray]) -> None:
    expected = reference_integers.multiply(**problem)
    x = problem.pop("x")
    matrix = Integers.from_indices(**problem)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert np.array_equal(product(matrix, x), expected), name


@pytest.mark.parametrize("tokens", [1, 2, 11, 12, 13, 25, 36])
@pytest.mark.parametrize("keep", [None, "columns", "blocks"])
def test_threads_change_nothing(tokens: int, keep: str | None) -> None:
    rows, columns = 2065, 1031
    shape = {"columns": (columns,), "blocks": (-(-rows // ROWS), -(-columns // COLUMNS))}
    mask = None if keep is None else normal(1, *shape[keep]) > 0
    indices, scales, bias = indices_of(2, rows, columns), np.abs(normal(3, rows)), normal(4, rows)
    matrix, x = Integers.from_indices(indices, scales, keep=mask, bias=bias), normal(5, tokens, columns)
    alone = product(matrix, x)
    assert np.array_equal(product(matrix, x, threads=3), alone)
    assert np.array_equal(alone, reference_integers.multiply(indices, scales, x, keep=mask, bias=bias))


def test_the_largest_sums_do_not_overflow() -> None:
    columns = 65536
    x = np.zeros((2, columns), np.float32)
    x[:, 1:] = np.array([[1], [-1]])
    indices, scales = np.full((1, columns), -128, np.int8), np.ones(1, np.float32)
    matrix = Integers.from_indices(indices, scales)
    expected = reference_integers.multiply(indices, scales, x, bias=np.zeros(1, np.float32))
    assert expected[0, 0] == pytest.approx(-128 * (columns - 1), rel=1e-6)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert np.array_equal(product(matrix, x), expected), name


def test_many_tokens_are_quantized_in_several_passes() -> None:
    rows, columns, tokens = 3, 4099, 600
    indices, scales, bias = indices_of(1, rows, columns), np.ones(rows, np.float32), normal(2, rows)
    x = normal(3, tokens, columns)
    expected = reference_integers.multiply(indices, scales, x, bias=bias)
    assert np.array_equal(product(Integers.from_indices(indices, scales, bias=bias), x), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16, 34, 36])
@pytest.mark.parametrize("tokens", [1, 6])
def test_numbers_that_are_not_finite_spoil_their_token_alone(value: float, place: int, tokens: int) -> None:
    matrix, x = Integers.pack(normal(1, 20, 37), bias=normal(2, 20)), normal(3, tokens, 37)
    right = product(matrix, x)
    x[0, place] = value
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        found = product(matrix, x)
        assert np.isnan(found[0]).all()
        assert np.array_equal(found[1:], right[1:])


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-45])
def test_tokens_of_almost_nothing_give_the_bias(size: float) -> None:
    bias = normal(2, 20)
    matrix = Integers.pack(normal(1, 20, 37), bias=bias)
    x = np.full((3, 37), size, np.float32)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert np.array_equal(product(matrix, x), np.tile(bias, (3, 1)))


def test_the_largest_numbers_have_finite_scales() -> None:
    most = np.finfo(np.float32).max
    matrix = Integers.from_indices(np.ones((1, 2), np.int8), np.ones(1, np.float32))
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert np.isfinite(product(matrix, np.array([[most, -most]], np.float32))).all()


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 90))
@settings(max_examples=50)
def test_packed_weights_are_off_by_half_a_step_of_weights_and_tokens(seed: int, rows: int, columns: int) -> None:
    weights, x = normal(seed, rows, columns).astype(np.float64), normal(seed + 1, 5, columns).astype(np.float64)
    found = product(Integers.pack(weights.astype(np.float32)), x.astype(np.float32))
    weight_step = np.abs(weights).max(axis=1) / 127
    token_step = (np.maximum(x.max(axis=1), 0) - np.minimum(x.min(axis=1), 0)) / 255
    # a token's numbers are off by half a step, and by half of one more where the greatest would be 256
    bound = np.outer(np.abs(x).sum(axis=1), weight_step) / 2 + np.outer(token_step, np.abs(weights).sum(axis=1))
    bound += columns * np.outer(token_step, weight_step) / 2
    assert (np.abs(found - x @ weights.T) <= bound * (1 + 1e-4) + 1e-6).all()


def test_rows_of_zeros_are_packed() -> None:
    weights = normal(1, 3, 5)
    weights[1] = 0
    assert (product(Integers.pack(weights), normal(2, 4, 5))[:, 1] == 0).all()


def test_addresses_with_strides() -> None:
    matrix, x = Integers.pack(normal(1, 20, 37), bias=normal(2, 20)), normal(3, 5, 50)
    out = np.zeros((5, 30), np.float32)
    matrix.multiply_at(x[:, 4:].ctypes.data, 5, 50, out[:, 3:].ctypes.data, 30)
    assert np.array_equal(out[:, 3:23], product(matrix, np.ascontiguousarray(x[:, 4:41])))
    out[:, 3:23] = 0
    assert not out.any()


def test_another_bias_shares_the_weights() -> None:
    weights, bias, x = normal(1, 20, 37), normal(2, 20), normal(3, 5, 37)
    matrix = Integers.pack(weights)
    other = matrix.with_bias(bias)
    assert other.arrays.values is matrix.arrays.values
    assert np.array_equal(product(other, x), product(Integers.pack(weights, bias=bias), x))
    assert np.array_equal(product(other.with_bias(None), x), product(matrix, x))


def test_bytes_and_density() -> None:
    weights = normal(1, 64, 64)
    keep = np.arange(4 * 16).reshape(4, 16) % 2 == 0
    dense, half = Integers.pack(weights), Integers.pack(weights, keep=keep)
    assert (dense.density, half.density) == (1.0, 0.5)
    assert dense.nbytes == 64 * 64 + 3 * 64 * 4
    assert half.nbytes == 32 * 64 + 3 * 64 * 4 + 2 * 32 + 4 * 5
    assert dense.arrays.values.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": np.ones(3, np.float32)}, r"scales must be of shape \(5,\), not \(3,\)"),
        ({"bias": np.ones((5, 1), np.float32)}, r"bias must be of shape \(5,\), not \(5, 1\)"),
        ({"keep": np.ones(8, bool)}, r"keep must be bool of shape \(9,\) or \(1, 3\), not bool of \(8,\)"),
        ({"keep": np.ones(9, np.uint8)}, r"keep must be bool of shape \(9,\) or \(1, 3\), not uint8 of \(9,\)"),
        ({"indices": np.ones((0, 9), np.int8), "scales": np.ones(0, np.float32)}, "must have rows and at most 65536"),
        ({"indices": np.ones((5, 0), np.int8)}, "must have rows and at most 65536"),
        ({"indices": np.ones((5, 65537), np.int8)}, "must have rows and at most 65536"),
    ],
)
def test_what_cannot_be_packed_is_refused(arguments: dict[str, np.ndarray], message: str) -> None:
    right = {"indices": np.ones((5, 9), np.int8), "scales": np.ones(5, np.float32)}
    with pytest.raises(ValueError, match=message):
        Integers.from_indices(**(right | arguments))


@pytest.mark.parametrize(("x", "out"), [((2, 8), (2, 5)), ((2, 9), (2, 4)), ((3, 9), (2, 5))])
def test_products_of_other_shapes_are_refused(x: tuple[int, int], out: tuple[int, int]) -> None:
    matrix = Integers.pack(normal(1, 5, 9))
    with pytest.raises(ValueError, match="x must have the matrix's columns, and out its rows for each row of x"):
        matrix.multiply(np.zeros(x, np.float32), np.zeros(out, np.float32))


def native(**changed: object) -> _native.IntegerMatrix:
    """Of (20, 9): two panels of three groups."""
    arguments: dict[str, object] = {
        "rows": 20,
        "columns": 9,
        "gathered": None,
        "starts": np.array([0, 2, 5], np.uint32),
        "lists": np.array([0, 2, 0, 1, 2], np.uint16),
        "values": np.ones((5, 16, 4), np.int8),
        "scales": np.ones(32, np.float32),
        "bias": np.zeros(32, np.float32),
    }
    return _native.IntegerMatrix(**(arguments | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lists": None}, "starts and lists must be given together"),
        ({"starts": None}, "starts and lists must be given together"),
        ({"starts": np.array([0, 5], np.uint32)}, "starts must have one place for each panel"),
        ({"starts": np.array([1, 2, 5], np.uint32)}, "starts must have one place for each panel"),
        ({"starts": np.array([0, 6, 5], np.uint32)}, "starts must not fall"),
        ({"starts": np.array([0, 1, 5], np.uint32)}, "a panel must have each group once at most"),
        ({"starts": np.array([0, 2, 4], np.uint32)}, "lists must name a group for each block"),
        ({"lists": np.array([0, 2, 0, 1, 3], np.uint16)}, "lists must name groups of four inputs"),
        ({"values": np.ones((4, 16, 4), np.int8)}, r"values must be \(blocks, 16, 4\)"),
        ({"values": np.ones((5, 4, 16), np.int8)}, r"values must be \(blocks, 16, 4\)"),
        ({"scales": np.ones(20, np.float32)}, "scales and bias must have a value for each row of a panel"),
        ({"bias": np.ones(20, np.float32)}, "scales and bias must have a value for each row of a panel"),
        ({"gathered": np.array([0, 9], np.uint16)}, "gathered must name columns of the matrix, ascending"),
        ({"gathered": np.array([3, 3], np.uint16)}, "gathered must name columns of the matrix, ascending"),
        ({"starts": None, "lists": None}, r"values must be \(blocks, 16, 4\)"),
    ],
)
def test_lists_that_lie_are_refused(changed: dict[str, object], message: str) -> None:
    native()
    with pytest.raises(ValueError, match=message):
        native(**changed)
