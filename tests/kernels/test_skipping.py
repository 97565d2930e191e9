"""Matrices stored by columns: each token has the columns that the rule says, and products are exact within rounding."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import _native, kernels
from regrain.kernels import reference_skipping
from regrain.kernels.skipping import KEEP_ALL, SKIP_VALUES, Skipping

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def problem(rows: int, columns: int, tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.normal(0, 1, (rows, columns)).astype(np.float32),
        "mean": rng.normal(0, 0.3, columns).astype(np.float32),
        "bias": rng.normal(0, 1, rows).astype(np.float32),
        "x": rng.normal(0, 1, (tokens, columns)).astype(np.float32),
    }


def pack(of: dict[str, np.ndarray], value: str, threshold: float = KEEP_ALL) -> Skipping:
    return Skipping.pack(of["weights"], value=value, mean=of["mean"], bias=of["bias"], threshold=threshold)  # type: ignore[arg-type]


def dense(layout: Skipping) -> np.ndarray:
    """The weights that it stands for."""
    weights = layout.arrays.values[:, : layout.rows].T.astype(np.float64)
    return weights if layout.arrays.scales is None else weights * layout.arrays.scales[:, None]


def multiply(layout: Skipping, x: np.ndarray, threads: int = 1) -> tuple[np.ndarray, int]:
    out = np.full((len(x), layout.rows), np.nan, np.float32)
    return out, layout.multiply_counted(x, out, threads)


def check(layout: Skipping, x: np.ndarray, threads: int = 1) -> None:
    """Within what any order of float32 sums allows, of the product and of W mean."""
    has = reference_skipping.chosen(x, layout.arrays.mean, layout.arrays.norm, layout.threshold)
    wanted, size = reference_skipping.multiply(dense(layout), layout.bias, x, layout.arrays.mean, has)
    room = (2 * layout.columns + 8) * EPS * size
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        found, count = multiply(layout, x, threads)
        assert count == has.sum(), name
        assert (np.abs(found - wanted) <= room).all(), name


@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 200),
    columns=st.integers(1, 100),
    tokens=st.integers(0, 5),
    value=st.sampled_from(SKIP_VALUES),
    part=st.sampled_from([-1.0, 0.0, 0.1, 0.5, 0.9, 2.0]),
    seed=st.integers(0, 2**32),
)
def test_products(rows: int, columns: int, tokens: int, value: str, part: float, seed: int) -> None:
    of = problem(rows, columns, tokens, seed)
    check(pack(of, value, part * float(np.sqrt(rows))), of["x"])


@pytest.mark.parametrize("value", SKIP_VALUES)
@pytest.mark.parametrize("rows", [4096, 4099, 9000])
def test_several_tiles(value: str, rows: int) -> None:
    of = problem(rows, 40, 3)
    check(pack(of, value, 0.5 * float(np.sqrt(rows))), of["x"])


@pytest.mark.parametrize("value", SKIP_VALUES)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads(value: str, threads: int) -> None:
    of = problem(4200, 700, 2)
    layout = pack(of, value, 30.0)
    check(layout, of["x"], threads)
    assert multiply(layout, of["x"], threads)[0].tobytes() == multiply(layout, of["x"])[0].tobytes()


@pytest.mark.parametrize("value", SKIP_VALUES)
def test_a_token_has_its_own_columns_whoever_is_beside_it(value: str) -> None:
    of = problem(70, 60, 2)
    layout = pack(of, value, 6.0)
    both, count = multiply(layout, of["x"])
    alone = [multiply(layout, token[None]) for token in of["x"]]
    assert count == sum(each for _, each in alone)
    assert np.allclose(both, np.concatenate([out for out, _ in alone]), rtol=1e-4, atol=1e-4)


def test_without_columns_every_input_is_its_mean() -> None:
    of = problem(50, 40, 2)
    layout = pack(of, "f32", float("inf"))
    found, count = multiply(layout, of["x"])
    assert count == 0
    assert np.array_equal(found[0], found[1])
    assert np.allclose(found[0], of["weights"] @ of["mean"] + of["bias"], atol=1e-4)


def test_norms_decide() -> None:
    of = problem(30, 20, 1)
    norm = np.zeros(20, np.float32)
    norm[3] = 1000
    layout = Skipping.pack(of["weights"], norm=norm, threshold=0.0)
    found, count = multiply(layout, of["x"])
    assert count == 1
    assert np.allclose(found[0], of["weights"][:, 3] * of["x"][0, 3], rtol=1e-6)


def test_another_threshold_and_bias_share_the_weights() -> None:
    of = problem(64, 48, 2)
    layout = pack(of, "i8")
    strict = layout.with_threshold(5.0)
    assert (layout.threshold, strict.threshold) == (KEEP_ALL, 5.0)
    assert strict.arrays is layout.arrays
    assert multiply(layout, of["x"])[1] == 96
    check(strict, of["x"])
    other = strict.with_bias(of["bias"] + 1)
    check(other, of["x"])
    assert np.allclose(multiply(other, of["x"])[0], multiply(strict, of["x"])[0] + 1, atol=1e-4)


def test_indices_and_scales() -> None:
    rng = np.random.default_rng(0)
    of = problem(40, 30, 2)
    indices = rng.integers(-128, 128, (40, 30)).astype(np.int8)
    scales = rng.random(40).astype(np.float32)
    layout = Skipping.from_indices(indices, scales, mean=of["mean"], bias=of["bias"], threshold=100.0)
    assert np.array_equal(dense(layout), indices * scales.astype(np.float64)[:, None])
    assert np.allclose(layout.arrays.norm, np.linalg.norm(dense(layout), axis=0), rtol=1e-5)
    check(layout, of["x"])


@pytest.mark.parametrize("value", SKIP_VALUES)
def test_memory_to_pack_into(value: str) -> None:
    of = problem(40, 30, 2)
    memory = np.full(30 * 40 * 8, 0xFF, np.uint8)
    layout = Skipping.pack(of["weights"], value=value, mean=of["mean"], into=memory)  # type: ignore[arg-type]
    assert np.shares_memory(layout.arrays.values, memory)
    check(layout, of["x"])
    small = Skipping.pack(of["weights"], value=value, mean=of["mean"], into=memory[:64])  # type: ignore[arg-type]
    assert np.array_equal(multiply(small, of["x"])[0], multiply(layout, of["x"])[0])


def test_integers_are_within_half_a_step() -> None:
    of = problem(40, 30, 0)
    of["weights"][7] = 0
    layout = pack(of, "i8")
    step = np.abs(of["weights"]).max(axis=1, keepdims=True) / 127
    assert (np.abs(dense(layout) - of["weights"]) <= step * 0.5001).all()


@pytest.mark.parametrize("value", SKIP_VALUES)
def test_nan_is_not_left_out(value: str) -> None:
    of = problem(20, 30, 2)
    of["x"][1, 4] = np.nan
    found, _ = multiply(pack(of, value, 1e6), of["x"])
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_halves_of_every_size() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    weights = np.concatenate([halves, -halves]).astype(np.float32)[:, None]
    layout = Skipping.pack(weights, value="f16")
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert np.array_equal(multiply(layout, np.ones((1, 1), np.float32))[0][0], weights[:, 0]), name


def test_calls_side_by_side() -> None:
    of = problem(130, 300, 2)
    layout = pack(of, "i8", 10.0)
    wanted, found = multiply(layout, of["x"])[0].tobytes(), []

    def work() -> None:
        found.extend(multiply(layout, of["x"])[0].tobytes() == wanted for _ in range(30))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 90


def test_strides() -> None:
    of = problem(45, 70, 3)
    layout = pack(of, "f16", 5.0)
    x, out = np.full((3, 90), np.nan, np.float32), np.full((3, 50), 7.0, np.float32)
    x[:, :70] = of["x"]
    layout.multiply_at(x.ctypes.data, 3, 90, out.ctypes.data, 50)
    assert out[:, :45].tobytes() == multiply(layout, of["x"])[0].tobytes()
    assert (out[:, 45:] == 7).all()


def test_bytes() -> None:
    of = problem(100, 50, 0)
    sizes = [pack(of, value).nbytes for value in SKIP_VALUES]
    assert sizes[0] - sizes[1] == 100 * 50 * 2
    assert sizes[1] - sizes[2] == 100 * 50 - 100 * 4


def test_hostile_arguments() -> None:
    weights = np.ones((8, 5), np.float32)
    with pytest.raises(ValueError, match="value must be f32, f16 or i8, not 'i4'"):
        Skipping.pack(weights, value="i4")  # type: ignore[arg-type]
    for name, size in (("mean", 5), ("norm", 5), ("bias", 8)):
        with pytest.raises(ValueError, match=rf"{name} must be of shape \({size},\), not \(3,\)"):
            Skipping.pack(weights, **{name: np.zeros(3, np.float32)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scales must be of shape \(8,\), not \(5,\)"):
        Skipping.from_indices(weights.astype(np.int8), np.ones(5, np.float32))
    layout = Skipping.pack(weights)
    for x, out in (((2, 4), (2, 8)), ((2, 5), (2, 7)), ((2, 5), (1, 8))):
        with pytest.raises(ValueError, match="x must have the matrix's columns, and out its rows for each row of x"):
            layout.multiply(np.zeros(x, np.float32), np.zeros(out, np.float32))
    for x, out in (((2, 5), np.zeros((2, 8))), ((2, 5), np.zeros((2, 16), np.float32)[:, ::2])):
        with pytest.raises(TypeError):  # a copy would be filled instead
            layout.multiply(np.zeros(x, np.float32), out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": 3}, "must have a known type"),
        ({"rows": 0}, "values must have a row for each column"),
        ({"rows": 17}, "values must have a row for each column"),
        ({"values": np.zeros((5, 17), np.float32)}, "values must have a row for each column"),
        ({"values": np.zeros((5, 32), np.float16)}, "values must have a row for each column"),
        ({"values": np.zeros((0, 16), np.float32)}, "values must have a row for each column"),
        ({"scales": np.zeros(8, np.float32)}, "scales must have a value for each row"),
        ({"mean": np.zeros(4, np.float32)}, "mean and norm must have a value for each column"),
        ({"norm": np.zeros(6, np.float32)}, "mean and norm must have a value for each column"),
        ({"bias": np.zeros(9, np.float32)}, "mean and norm must have a value for each column"),
    ],
)
def test_arrays_that_do_not_fit(change: dict[str, object], message: str) -> None:
    arguments = {
        "type": 0, "rows": 8, "threshold": 0.0, "values": np.zeros((5, 16), np.float32), "scales": None,
        "mean": np.zeros(5, np.float32), "norm": np.zeros(5, np.float32), "bias": np.zeros(8, np.float32),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _native.SkipMatrix(**arguments | change)  # type: ignore[arg-type]
