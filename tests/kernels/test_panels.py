"""Matrices in panels: laid out as the reference lays them out, and products within rounding of exact ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import _native, kernels
from regrain.kernels import reference_panels
from regrain.kernels.panels import LIMITS, ROWS, VALUES, Panels, lists_of, rounded

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def spread(keep: np.ndarray | None, rows: int, columns: int) -> np.ndarray:
    """(R, C) True where a weight is kept."""
    if keep is None:
        return np.ones((rows, columns), bool)
    if keep.ndim == 1:
        return np.broadcast_to(keep, (rows, columns))
    return keep.repeat(ROWS, axis=0)[:rows]


def meant(weights: np.ndarray, value: str, group: int | None) -> np.ndarray:
    """The weights that a layout stands for, before any is dropped."""
    if value == "f32":
        return weights.astype(np.float64)
    if value == "f16":
        return weights.astype(np.float16).astype(np.float64)
    indices, scales = rounded(weights, LIMITS[value], group)
    wide = weights.shape[1] if group is None else group
    return indices * scales.astype(np.float64).repeat(wide, axis=1)[:, : weights.shape[1]]


def multiply(layout: Panels, x: np.ndarray, threads: int = 1) -> np.ndarray:
    out = np.full((len(x), layout.rows), np.nan, np.float32)
    layout.multiply(x, out, threads)
    return out


def check(layout: Panels, exact: np.ndarray, bias: np.ndarray, x: np.ndarray, threads: int = 1) -> None:
    """Within what any order of float32 sums allows: n + 2 roundings of each term."""
    wanted = x.astype(np.float64) @ exact.T + bias
    room = (exact.shape[1] + 4) * EPS * (np.abs(x.astype(np.float64)) @ np.abs(exact).T + np.abs(bias)) + 1e-30
    found = multiply(layout, x, threads)
    assert (np.abs(found - wanted) <= room).all()


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["dense", "columns", "blocks"]))
    density = draw(st.sampled_from([0.0, 0.2, 0.9]))
    shape = {"dense": None, "columns": (columns,), "blocks": (-(-rows // ROWS), columns)}[kind]
    value = draw(st.sampled_from(VALUES))
    return {
        "weights": rng.normal(0, 1, (rows, columns)).astype(np.float32),
        "bias": rng.normal(0, 1, rows).astype(np.float32),
        "keep": None if shape is None else rng.random(shape) < density,
        "value": value,
        "group": draw(st.sampled_from([None, 1, 5, 32, 100])) if value in LIMITS else None,
        "x": rng.normal(0, 1, (draw(st.integers(0, 30)), columns)).astype(np.float32),
    }


@settings(max_examples=150, deadline=None)
@given(problems())
def test_products(problem: dict[str, object]) -> None:
    x, options = problem["x"], {key: problem[key] for key in ("keep", "bias", "value", "group")}
    weights, bias = problem["weights"], problem["bias"]
    assert isinstance(weights, np.ndarray) and isinstance(x, np.ndarray) and isinstance(bias, np.ndarray)
    layout = Panels.pack(weights, **options)  # type: ignore[arg-type]
    exact = meant(weights, options["value"], options["group"]) * spread(options["keep"], *weights.shape)  # type: ignore[arg-type]
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        check(layout, exact, bias, x)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_layout_is_the_reference(problem: dict[str, object]) -> None:
    weights, keep, value, group = (problem[key] for key in ("weights", "keep", "value", "group"))
    assert isinstance(weights, np.ndarray)
    if value in LIMITS:
        matrix, scales = rounded(weights, LIMITS[value], group)  # type: ignore[index, arg-type]
    else:
        matrix, scales = weights.astype({"f32": np.float32, "f16": np.float16}[value]), None  # type: ignore[index]
    lists = lists_of(weights.shape, keep, group, even=value == "i4")  # type: ignore[arg-type]
    values = reference_panels.pack(matrix, lists, value)  # type: ignore[arg-type]
    packed = np.empty_like(values)
    panels = -(-len(weights) // ROWS)
    laid = None
    if scales is not None:
        laid = np.zeros((panels * ROWS, lists.segments), np.float32)
        laid[: len(weights)] = scales
        laid = np.ascontiguousarray(laid.reshape(panels, ROWS, -1).transpose(0, 2, 1))
    native = _native.PanelMatrix(
        VALUES.index(value), *weights.shape, lists.segments, lists.shared, lists.starts, lists.columns, packed, laid,
        np.zeros(panels * ROWS, np.float32),
    )  # fmt: skip
    native.pack(np.ascontiguousarray(matrix), packed)
    assert packed.tobytes() == values.tobytes()
    exact = meant(weights, value, group) * spread(keep, *weights.shape)  # type: ignore[arg-type]
    assert np.allclose(reference_panels.dense(packed, laid, lists, weights.shape), exact, rtol=1e-12)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("tokens", [1, 2, 3, 11, 12, 13, 24, 25, 100, 300])
def test_large_ones_and_threads(value: str, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    weights = rng.normal(0, 1, (200, 333)).astype(np.float32)
    bias = rng.normal(0, 1, 200).astype(np.float32)
    x = rng.normal(0, 1, (tokens, 333)).astype(np.float32)
    keep = rng.random((13, 333)) < 0.4
    keep[3] = False
    group = 32 if value in LIMITS else None
    exact = meant(weights, value, group)
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        for mask in (None, keep[0], keep):
            layout = Panels.pack(weights, keep=mask, bias=bias, value=value, group=group)  # type: ignore[arg-type]
            for threads in (1, 2, 5):
                check(layout, exact * spread(mask, 200, 333), bias, x, threads)


def test_what_is_dropped_is_not_read() -> None:
    """A dropped column's NaN does not matter; a kept one's does, and infinity stays infinity."""
    weights = np.ones((20, 6), np.float32)
    keep = np.array([True, False, True, True, False, True])
    x = np.array([[1, np.nan, 1, 1, np.inf, 1], [1, 0, np.inf, 1, 0, 1], [1, 0, np.nan, 1, 0, 1]], np.float32)
    for tokens in (1, 3):
        for mask in (keep, np.broadcast_to(keep, (2, 6)).copy()):
            found = multiply(Panels.pack(weights, keep=mask), x[:tokens])
            assert (found[0] == 4).all()
            if tokens == 3:
                assert (found[1] == np.inf).all() and np.isnan(found[2]).all()


def test_density_and_bytes() -> None:
    weights = np.ones((32, 64), np.float32)
    keep = np.zeros((2, 64), bool)
    keep[0, :16] = True
    layout = Panels.pack(weights, keep=keep, value="i4", group=32)
    assert layout.density == 0.125
    assert layout.nbytes == 16 * 8 + 5 * 4 + 16 * 2 + 2 * 2 * 16 * 4 + 32 * 4


@pytest.mark.parametrize("value", VALUES)
def test_another_bias_and_used_memory(value: str) -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 1, (33, 40)).astype(np.float32)
    x, bias = rng.normal(0, 1, (3, 40)).astype(np.float32), rng.normal(0, 1, 33).astype(np.float32)
    memory = np.empty(48 * 40 * 4, np.uint8)
    layout = Panels.pack(weights, value=value, into=memory)  # type: ignore[arg-type]
    assert np.shares_memory(layout.arrays.values, memory)
    biased = layout.with_bias(bias)
    assert biased.arrays is layout.arrays
    assert np.allclose(multiply(biased, x), multiply(layout, x) + bias, atol=1e-6)
    small = Panels.pack(weights, value=value, into=memory[:10])  # type: ignore[arg-type]
    assert np.array_equal(multiply(small, x), multiply(layout, x))


def test_strides_and_addresses() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (33, 40)).astype(np.float32)
    layout = Panels.pack(weights)
    wide, out = rng.normal(0, 1, (7, 50)).astype(np.float32), np.full((7, 60), 5, np.float32)
    layout.multiply_at(wide.ctypes.data + 4 * 3, 7, 50, out.ctypes.data + 4 * 10, 60)
    assert np.array_equal(out[:, 10:43], multiply(layout, np.ascontiguousarray(wide[:, 3:43])))
    assert (out[:, :10] == 5).all() and (out[:, 43:] == 5).all()


def test_many_threads_share_one_layout() -> None:
    rng = np.random.default_rng(2)
    layout = Panels.pack(rng.normal(0, 1, (300, 300)).astype(np.float32))
    inputs = [rng.normal(0, 1, (1 + 7 * k, 300)).astype(np.float32) for k in range(8)]
    wanted, found = [multiply(layout, x) for x in inputs], [None] * 8

    def work(k: int) -> None:
        for _ in range(20):
            found[k] = multiply(layout, inputs[k], 2)  # type: ignore[call-overload]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, other in zip(wanted, found, strict=True):
        assert other is not None and np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": np.ones(3, bool)}, r"keep must be bool of shape \(40,\) or \(3, 40\), not bool of \(3,\)"),
        ({"keep": np.ones(40, np.int8)}, "keep must be bool of shape"),
        ({"bias": np.ones(3, np.float32)}, r"bias must be of shape \(33,\), not \(3,\)"),
        ({"group": 8}, "group must be None for f32 values, which have no scales, not 8"),
        ({"group": 0, "value": "i8"}, "group must be at least 1 column, not 0"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Panels.pack(np.ones((33, 40), np.float32), **options)  # type: ignore[arg-type]


def test_bad_indices() -> None:
    indices = np.full((4, 4), 9, np.int8)
    with pytest.raises(ValueError, match="indices of i4 values must be -8 to 7: use i8"):
        Panels.from_indices(indices, np.ones((4, 1), np.float32), value="i4")
    with pytest.raises(ValueError, match=r"scales must be of shape \(4, 2\), not \(4, 1\)"):
        Panels.from_indices(indices, np.ones((4, 1), np.float32), group=2)
    with pytest.raises(ValueError, match="value must be i8 or i4 for indices, not 'f32'"):
        Panels.from_indices(indices, np.ones((4, 1), np.float32), value="f32")


def test_bad_products() -> None:
    layout = Panels.pack(np.ones((4, 8), np.float32))
    for x, out in (((2, 7), (2, 4)), ((2, 8), (2, 5)), ((2, 8), (3, 4))):
        with pytest.raises(ValueError, match="x must have the matrix's columns, and out its rows for each row of x"):
            layout.multiply(np.zeros(x, np.float32), np.zeros(out, np.float32))
    x = np.zeros((2, 8), np.float32)
    for wrong in (np.zeros((2, 4)), np.zeros((2, 8), np.float32)[:, ::2], np.zeros((4, 2), np.float32).T):
        with pytest.raises(TypeError):  # a converted copy would be filled in its place
            layout.multiply(x, wrong)


def forged(**changes: object) -> None:
    """A small matrix whose arrays don't fit together in one way."""
    good: dict[str, object] = {
        "type": 0, "rows": 20, "columns": 8, "segments": 1, "shared": False, "starts": np.array([0, 2, 3], np.uint32),
        "lists": np.array([1, 7, 0], np.uint16), "values": np.zeros(48, np.float32), "scales": None,
        "bias": np.zeros(32, np.float32),
    }  # fmt: skip
    _native.PanelMatrix(**(good | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": 4}, "known type"),
        ({"rows": 0}, "known type, rows"),
        ({"columns": 65537}, "at most 65536 columns"),
        ({"segments": 0}, "segments"),
        ({"starts": np.array([0, 2], np.uint32)}, "one place for each segment and one more"),
        ({"starts": np.array([1, 2, 3], np.uint32)}, "one place for each segment and one more"),
        ({"starts": np.array([0, 4, 3], np.uint32)}, "must not fall"),
        ({"lists": np.array([1, 8, 0], np.uint16)}, "columns of the matrix"),
        ({"lists": np.array([1, 7], np.uint16)}, "a column for each entry"),
        ({"lists": None}, "a column for each entry, or be None for shared panels"),
        ({"bias": np.zeros(31, np.float32)}, "bias a value for each row"),
        ({"values": np.zeros(47, np.float32)}, "sixteen weights for each entry"),
        ({"scales": np.zeros((2, 1, 16), np.float32)}, "None for floats"),
        ({"type": 2, "values": np.zeros(48, np.int8)}, "scales must be"),
        ({"type": 2, "values": np.zeros(48, np.int8), "scales": np.zeros((1, 1, 16), np.float32)}, "scales must be"),
        ({"type": 3, "values": np.zeros(24, np.uint8), "scales": np.zeros((2, 1, 16), np.float32)}, "be even"),
        ({"segments": 2, "starts": np.array([0, 1, 2, 2, 3], np.uint32)}, "which have one segment"),
    ],
)
def test_forged_arrays(changes: dict[str, object], message: str) -> None:
    forged()
    with pytest.raises(ValueError, match=message):
        forged(**changes)
