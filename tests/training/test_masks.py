"""Masks: whole units, the right number, the least valuable dropped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import TrainingError
from regrain.core.pattern import Pattern, Pruning, Score
from regrain.training.masks import density_of, follow, mask_of, unit_means

PATTERNS = ("fine", "column", "row", "block:4x1", "block:3x5", "block:16x1")


@given(st.sampled_from(PATTERNS), st.floats(0.05, 1.0), st.tuples(st.integers(1, 20), st.integers(1, 6)), st.booleans())
def test_units_are_whole_and_as_many_as_asked_for(
    pattern: str, density: float, sides: tuple[int, int], conv: bool
) -> None:
    shape = (*sides, 3, 3) if conv else sides
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mask = mask_of(weights, Pruning(Pattern(pattern), density))
    units = unit_means(mask.reshape(shape[0], -1).float(), *Pattern(pattern).unit(shape))
    assert set(units.flatten().tolist()) <= {0.0, 1.0}
    assert int(units.sum()) == max(1, round(density * units.numel()))
    assert mask.shape == weights.shape


@given(st.integers(1, 9), st.integers(1, 30))
def test_two_of_four_are_the_largest_of_each_group(rows: int, columns: int) -> None:
    weights = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    mask = mask_of(weights, Pruning(Pattern("2:4"), 0.5))
    for start in range(0, columns, 4):
        group, kept = weights[:, start : start + 4].abs(), mask[:, start : start + 4]
        assert (kept.sum(1) == min(2, group.shape[1])).all()
        if group.shape[1] > 2:
            assert (group.masked_fill(~kept, 9).min(1).values >= group.masked_fill(kept, 0).max(1).values).all()


def test_least_valuable_units_go_by_gradients_unless_by_magnitude() -> None:
    weights = torch.tensor([[1.0, 2.0, 3.0]])
    energy = torch.tensor([[9.0, 1.0, 0.1]])
    kept = {
        score: mask_of(weights, Pruning(Pattern("fine"), 0.34, score), energy).tolist()
        for score in (Score.OBS, Score.MAGNITUDE)
    }
    assert kept == {Score.OBS: [[True, False, False]], Score.MAGNITUDE: [[False, False, True]]}


def test_equal_weights_are_chosen_in_order() -> None:
    assert mask_of(torch.ones(1, 4), Pruning(Pattern("fine"), 0.5)).tolist() == [[True, True, False, False]]


def test_rows_follow_the_columns_that_they_make() -> None:
    columns = torch.tensor([True, False, True]).reshape(1, 3, 1, 1).expand(5, 3, 3, 3)
    mask = follow(columns, torch.zeros(3, 7), "first")
    assert mask.tolist() == [[True] * 7, [False] * 7, [True] * 7]
    with pytest.raises(TrainingError, match="'first' must have a row for each of the 3 columns that it follows, not 4"):
        follow(columns, torch.zeros(4, 7), "first")


def test_density_is_what_is_kept() -> None:
    assert density_of(None) == 1.0
    assert density_of(torch.tensor([True, False, False, False])) == 0.25
