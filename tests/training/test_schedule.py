"""Ramps, and the work of a network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from regrain.core.errors import TrainingError
from regrain.training import Ramp, Schedule, multiply_adds, prunings_for_work


@given(st.floats(0.05, 1.0), st.integers(0, 50), st.integers(1, 300), st.integers(0, 400))
def test_ramp_goes_down_to_its_aim(aim: float, begin: int, length: int, step: int) -> None:
    ramp = Ramp(begin, begin + length)
    assert ramp.density(aim, begin) == pytest.approx(1.0)
    assert ramp.density(aim, begin + length) == aim
    assert aim - 1e-9 <= ramp.density(aim, step + 1) <= ramp.density(aim, step) <= 1.0


def test_ramp_moves_while_it_lasts_and_at_its_end() -> None:
    assert [step for step in range(100) if Ramp(10, 35, every=10).moves(step)] == [10, 20, 30, 35]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Ramp(5, 5), "ramp must begin at 0 or later and end after that, not 5 to 5"),
        (lambda: Ramp(0, 5, every=0), "every must be a whole number from 1 on, not 0"),
        (lambda: Schedule(patience=0), "patience must be a whole number from 1 on, not 0"),
    ],
)
def test_schedules_that_are_none_are_refused(make: object, text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        make()


def test_multiply_adds_are_those_of_convolutions_and_matrices(net: nn.Module, images: torch.Tensor) -> None:
    work = multiply_adds(net, lambda: net(images[:2]))
    assert work == {"0.weight": 16 * 16 * 27, "4.weight": 256 * 32, "6.weight": 32 * 4}
    assert not net[0]._forward_hooks


def test_prunings_leave_the_work_that_was_asked_for(net: nn.Module, images: torch.Tensor) -> None:
    work = multiply_adds(net, lambda: net(images))

    def backward() -> None:
        net(images).square().sum().backward()

    before = 0.0
    for density in (0.2, 0.5, 0.9):
        prunings = prunings_for_work(net, work, density, "column", backward=backward)
        assert prunings.keys() == {"0.weight", "4.weight"}
        left = work["6.weight"] + sum(work[name] * pruning.density for name, pruning in prunings.items())
        assert density - 0.45 <= left / sum(work.values()) <= density  # the first layer has three columns
        assert prunings["4.weight"].density > before
        before = prunings["4.weight"].density
    assert type(net[0]) is nn.Conv2d
    assert net[0].weight.grad is None
    with pytest.raises(TrainingError, match=r"density must be from 0.1\d+ to 1, not 0.01"):
        prunings_for_work(net, work, 0.01, backward=backward)
    with pytest.raises(TrainingError, match=r"backward must give weights gradients, and gave none: call loss.backward"):
        prunings_for_work(net, work, 0.5, backward=lambda: None)
