"""Calls that stop before layers: one at a time, whatever they do, and never left behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from regrain.models.lockstep import stopping


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def layers(model: nn.Sequential) -> dict[str, nn.Module]:
    return {"first": model[0], "last": model[2]}


def test_calls_stop_before_each_layer_and_meet_it_as_it_is_then(model: nn.Sequential) -> None:
    x, results = torch.ones(1, 3), []
    before = model(x)
    with stopping(layers(model), set(), [lambda: results.append(model(x))] * 2) as (one, other):
        assert (one.at, one.inputs) == (None, None)
        assert one.proceed() is None
        other.proceed()
        assert one.at == other.at == "first"
        assert torch.equal(one.inputs, x)
        kept = one.proceed(lambda output: output * 2)
        assert torch.equal(kept, model[0](x) * 2)
        assert one.at == "last"
        one.proceed()
        assert one.at is None
        with torch.no_grad():
            model[0].weight.zero_()
        for _ in range(2):
            other.proceed()
    assert torch.equal(results[0], before)
    assert torch.equal(results[1], model(x))
    assert not torch.equal(results[0], results[1])


def test_layers_that_are_passed_stop_nobody(model: nn.Sequential) -> None:
    passed: set[str] = set()
    with stopping(layers(model), passed, [lambda: model(torch.ones(1, 3))]) as (call,):
        call.proceed()
        passed.add("last")
        call.proceed()
        assert call.at is None


def test_what_a_call_raises_is_raised(model: nn.Sequential) -> None:
    def fail() -> None:
        model(torch.ones(1, 3))
        raise ValueError("after the model")

    with stopping(layers(model), set(), [fail]) as (call,):
        call.proceed()
        call.proceed()
        with pytest.raises(ValueError, match="after the model"):
            call.proceed()


def test_nothing_is_left_behind(model: nn.Sequential) -> None:
    """Threads end where they are, though what they run catches every exception; hooks are gone."""
    ended = []

    def stubborn() -> None:
        try:
            model(torch.ones(1, 3))
        except Exception:
            ended.append("caught")
        ended.append("went on")

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), stopping(layers(model), set(), [stubborn, stubborn]) as (call, _):
        call.proceed()
        raise KeyboardInterrupt
    assert threading.active_count() == before
    assert ended == []
    assert not model[0]._forward_pre_hooks
    assert not model[0]._forward_hooks
