"""Patterns of sparsity: which there are, the units that they mean, and prunings that can't be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain import RecipeError
from regrain.core.granularity import Granularity
from regrain.core.pattern import Compensation, Pattern, Pruning, Score


@pytest.mark.parametrize(
    ("name", "matrix", "kernels", "structured", "granularity"),
    [
        ("fine", (1, 1), (1, 1), False, Granularity.FINE),
        ("2:4", (1, 1), (1, 1), False, Granularity.FINE),
        ("block:16x1", (16, 1), (16, 1), True, Granularity.MEDIUM),
        ("block:4x1", (4, 1), (4, 1), False, Granularity.MEDIUM),
        ("block:4x4", (4, 4), (4, 4), True, Granularity.MEDIUM),
        ("block:999x7", (64, 7), (32, 7), True, Granularity.MEDIUM),
        ("block:1x999999", (1, 48), (1, 27), True, Granularity.MEDIUM),
        ("column", (64, 1), (32, 9), True, Granularity.COARSE),
        ("row", (1, 48), (1, 27), True, Granularity.COARSE),
    ],
)
def test_patterns(
    name: str, matrix: tuple[int, int], kernels: tuple[int, int], structured: bool, granularity: Granularity
) -> None:
    pattern = Pattern(name)
    assert pattern.unit((64, 48)) == matrix
    assert pattern.unit((32, 3, 3, 3)) == kernels
    assert (pattern.structured, pattern.granularity) == (structured, granularity)
    assert pattern.among == ((2, 4) if name == "2:4" else None)


def test_vectors_are_one_row() -> None:
    assert [Pattern(name).unit((7,)) for name in ("fine", "row", "block:4x4")] == [(1, 1), (1, 7), (1, 4)]


@given(st.integers(1, 99), st.integers(1, 99))
def test_n_of_m(most: int, run: int) -> None:
    name = f"{most}:{run}"
    if most < run:
        assert Pattern(name).among == (most, run)
        assert Pruning(Pattern(name), most / run).density == most / run
    else:
        with pytest.raises(RecipeError, match=f"pattern must be .*N:M with N < M.*, not '{name}'"):
            Pattern(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Fine",
        "columns",
        "fine\n",
        " row",
        "0:4",
        "-1:4",
        "02:4",
        "100:200",
        "2:",
        "٢:٤",
        "block:16",
        "block:0x1",
        "block:1x1234567",
        "block:16 x 1",
        "tensor",
        None,
        4,
        ["fine"],
    ],
)
def test_other_names(name: object) -> None:
    with pytest.raises(RecipeError) as error:
        Pattern(name)  # type: ignore[arg-type]
    assert str(error.value) == f"pattern must be fine, N:M with N < M, block:RxC, column or row, not {name!r}"


@pytest.mark.parametrize("density", [None, 0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_densities_are_fractions_that_are_kept(density: float | None) -> None:
    with pytest.raises(RecipeError) as error:
        Pruning(Pattern("column"), density)
    assert str(error.value) == f"density must be a fraction above 0 to 1 (what is kept), not {density!r}"


def test_the_density_of_n_of_m() -> None:
    with pytest.raises(RecipeError, match=r"^density of 2:4 must be 2/4, not 0.25$"):
        Pruning(Pattern("2:4"), 0.25)


@pytest.mark.parametrize(
    ("pattern", "more"),
    [
        ("column", {}),
        ("fine", {"density": 0.5}),
        ("row", {"density": 0.5}),
        ("row", {"score": Score.WANDA}),
        ("row", {"compensation": Compensation.NONE}),
    ],
)
def test_what_follows_is_rows_and_nothing_else(pattern: str, more: dict) -> None:
    with pytest.raises(RecipeError) as error:
        Pruning(Pattern(pattern), **more, follows="a")
    expected = "a pruning that follows another tensor must have the pattern row and no density, score or compensation"
    assert str(error.value) == expected


def test_defaults_are_left_out_of_json() -> None:
    assert Pruning(Pattern("fine"), 0.5).to_json() == {"pattern": "fine", "density": 0.5}
    assert Pruning(Pattern("row"), follows="b").to_json() == {"pattern": "row", "follows": "b"}
    assert Pruning(Pattern("row"), 0.5, Score.WANDA, Compensation.MEAN).to_json() == {
        "pattern": "row",
        "density": 0.5,
        "score": "wanda",
        "compensation": "mean",
    }
