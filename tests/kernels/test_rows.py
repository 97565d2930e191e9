"""Matrices in lists of columns: products within rounding of exact ones, whatever the mask, the shape and the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels import reference_rows
from regrain.kernels.rows import UNIT, Rows

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = kernels.instruction_set()
    yield
    kernels.use_instruction_set(before)


def problem(rows: int, columns: int, tokens: int, unit: int, density: float, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.normal(0, 1, (rows, columns)).astype(np.float32),
        "keep": rng.random((-(-rows // unit), columns)) < density,
        "bias": rng.normal(0, 1, rows).astype(np.float32),
        "x": rng.normal(0, 1, (tokens, columns)).astype(np.float32),
    }


def multiply(layout: Rows, x: np.ndarray, threads: int = 1) -> np.ndarray:
    out = np.full((len(x), layout.rows), np.nan, np.float32)
    layout.multiply(x, out, threads)
    return out


def check(of: dict[str, np.ndarray], threads: int = 1) -> None:
    """Within what any order of float32 sums allows: n + 2 roundings of each term."""
    layout = Rows.pack(of["weights"], of["keep"], of["bias"])
    wanted, size = reference_rows.multiply(**of)
    room = (of["weights"].shape[1] + 4) * EPS * size
    for name in kernels.instruction_sets():
        kernels.use_instruction_set(name)
        assert (np.abs(multiply(layout, of["x"], threads) - wanted) <= room).all(), name


@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 150),
    columns=st.integers(1, 300),
    tokens=st.integers(0, 140),
    unit=st.sampled_from([1, UNIT]),
    density=st.sampled_from([0.0, 0.02, 0.2, 0.7, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_products(rows: int, columns: int, tokens: int, unit: int, density: float, seed: int) -> None:
    check(problem(rows, columns, tokens, unit, density, seed))


@pytest.mark.parametrize("unit", [1, UNIT])
@pytest.mark.parametrize("tokens", [1, 2, 7, 16, 17, 100, 128])
def test_several_tiles(unit: int, tokens: int) -> None:
    check(problem(300, 700, tokens, unit, 0.1))


@pytest.mark.parametrize("unit", [1, UNIT])
def test_empty_rows_and_columns(unit: int) -> None:
    of = problem(270, 600, 33, unit, 0.3)
    of["keep"][::3] = False
    of["keep"][:, 256:512] = False
    check(of)


@pytest.mark.parametrize("unit", [1, UNIT])
def test_threads(unit: int) -> None:
    of = problem(520, 512, 90, unit, 0.2)
    check(of, threads=3)
    layout = Rows.pack(of["weights"], of["keep"], of["bias"])
    assert multiply(layout, of["x"], 4).tobytes() == multiply(layout, of["x"], 1).tobytes()


def test_more_tokens_than_are_packed_at_once() -> None:
    check(problem(40, 1500, 1300, 1, 0.05))


def test_calls_side_by_side() -> None:
    of = problem(130, 300, 40, 1, 0.2)
    layout = Rows.pack(of["weights"], of["keep"], of["bias"])
    wanted, found = multiply(layout, of["x"]).tobytes(), []

    def work() -> None:
        found.extend(multiply(layout, of["x"], 2).tobytes() == wanted for _ in range(30))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 90


def test_strides() -> None:
    of = problem(45, 70, 21, 1, 0.4)
    layout = Rows.pack(of["weights"], of["keep"], of["bias"])
    x, out = np.full((21, 90), np.nan, np.float32), np.full((21, 50), 7.0, np.float32)
    x[:, :70] = of["x"]
    layout.multiply_at(x.ctypes.data, 21, 90, out.ctypes.data, 50)
    assert out[:, :45].tobytes() == multiply(layout, of["x"]).tobytes()
    assert (out[:, 45:] == 7).all()


def test_another_bias_and_none() -> None:
    of = problem(20, 30, 16, UNIT, 0.4)
    none = Rows.pack(of["weights"], of["keep"])
    other = none.with_bias(of["bias"])
    assert np.array_equal(multiply(other, of["x"]), multiply(Rows.pack(of["weights"], of["keep"], of["bias"]), of["x"]))
    assert np.array_equal(multiply(other.with_bias(None), of["x"]), multiply(none, of["x"]))
    assert (other.unit, other.density) == (UNIT, of["keep"].mean())


def test_later_changes_of_what_it_was_made_of() -> None:
    of = problem(20, 30, 16, 1, 0.4)
    layout = Rows.pack(of["weights"], of["keep"], of["bias"])
    before = multiply(layout, of["x"])
    of["weights"] += 1
    of["bias"] += 1
    of["keep"][:] = True
    assert np.array_equal(multiply(layout, of["x"]), before)


def test_bytes_fall_with_the_density() -> None:
    of = problem(256, 1024, 0, 1, 0.1)
    sparse = Rows.pack(of["weights"], of["keep"]).nbytes
    assert 5 * of["keep"].sum() < sparse < 0.2 * of["weights"].nbytes


def test_what_is_dropped_is_not_read() -> None:
    of = problem(40, 300, 16, 1, 0.2)
    of["keep"][:, 7] = False
    of["weights"][~of["keep"]] = np.nan
    of["x"][:, 7] = np.inf
    assert np.isfinite(multiply(Rows.pack(of["weights"], of["keep"]), of["x"])).all()


def test_what_is_not_finite_stays_so() -> None:
    of = problem(40, 300, 16, 1, 0.2)
    of["x"][3, 5] = np.nan
    found = np.isnan(multiply(Rows.pack(of["weights"], of["keep"]), of["x"]))
    assert np.array_equal(found[3], of["keep"][:, 5])
    assert not np.delete(found, 3, axis=0).any()


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (np.ones((8, 5), np.uint8), r"keep must be bool of shape \(8, 5\) or \(2, 5\), not uint8 of \(8, 5\)"),
        (np.ones((3, 5), bool), r"keep must be bool of shape \(8, 5\) or \(2, 5\), not bool of \(3, 5\)"),
        (np.ones((8, 6), bool), r"not bool of \(8, 6\)"),
    ],
)
def test_masks_that_do_not_fit(keep: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rows.pack(np.ones((8, 5), np.float32), keep)


def test_hostile_arguments() -> None:
    weights, keep = np.ones((8, 5), np.float32), np.ones((8, 5), bool)
    with pytest.raises(ValueError, match=r"bias must be of shape \(8,\), not \(5,\)"):
        Rows.pack(weights, keep, np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="weights must have rows and columns"):
        Rows.pack(weights[:, :0], keep[:, :0])
    layout = Rows.pack(weights, keep)
    for x, out in (((3, 4), (3, 8)), ((3, 5), (3, 7)), ((3, 5), (2, 8))):
        with pytest.raises(ValueError, match="x must have the matrix's columns, and out its rows for each row of x"):
            layout.multiply(np.zeros(x, np.float32), np.zeros(out, np.float32))
    for x, out in (((2, 5), np.zeros((2, 8))), ((2, 5), np.zeros((2, 16), np.float32)[:, ::2])):
        with pytest.raises(TypeError):  # a copy would be filled instead
            layout.multiply(np.zeros(x, np.float32), out)


def test_bytes_of_a_mask_that_are_neither_0_nor_1() -> None:
    keep = np.full((8, 37), 0xFE, np.uint8).view(bool)
    layout = Rows.pack(np.ones((8, 37), np.float32), keep)
    assert multiply(layout, np.ones((16, 37), np.float32)).max() == 0
