"""Batch norms that stand for a bias: which layers they follow directly, and which they don't."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from regrain.models.norms import norms_after

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """A convolution, a batch norm, another of each, and what is done with them."""

    def __init__(self, forward: Forward, *, bias: bool = False, **layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self._forward = forward
        self.conv, self.norm = nn.Conv2d(2, 4, 3, bias=bias), nn.BatchNorm2d(4)
        self.other, self.last = nn.Conv2d(2, 4, 3, bias=bias), nn.BatchNorm2d(4)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def found(model: nn.Module, *shape: int) -> dict[str, str]:
    x = torch.randn(shape or (3, 2, 6, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return norms_after(model.eval(), lambda: model(x))


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda m, x: m.norm(m.conv(x)), {"conv.weight": "norm.running_mean"}),
        (
            lambda m, x: m.norm(m.conv(x)) + m.last(m.other(x)),
            {"conv.weight": "norm.running_mean", "other.weight": "last.running_mean"},
        ),
        (lambda m, x: m.conv(x), {}),
        (lambda m, x: m.norm(m.conv(x).relu()), {}),
        (lambda m, x: m.norm(m.conv(x).relu_()), {}),  # the very tensor that was made, and yet another
        (lambda m, x: m.norm(m.conv(x).add_(m.other(x))), {}),
        (lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)), {}),  # one mean can't make up for both
        (lambda m, x: m.norm(m.conv(x)) + m.norm(x.repeat(1, 2, 1, 1)).mean(), {}),
        (lambda m, x: m.norm(m.conv(x)) + m.norm(m.conv(x + 1)), {"conv.weight": "norm.running_mean"}),
        (lambda m, x: m.norm(m.conv(x)).relu_(), {"conv.weight": "norm.running_mean"}),
    ],
)
def test_what_a_norm_follows(forward: Forward, expected: dict[str, str]) -> None:
    assert found(Net(forward)) == expected


def test_layers_with_a_bias_need_no_norm() -> None:
    assert found(Net(lambda m, x: m.norm(m.conv(x)), bias=True)) == {}


def test_norms_without_running_statistics_have_no_mean() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert found(nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), norm)) == {}


def test_a_model_without_norms_is_not_called() -> None:
    def call() -> object:
        raise AssertionError

    assert norms_after(nn.Linear(3, 2, bias=False), call) == {}


def test_linear_layers() -> None:
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4))
    assert found(model, 7, 5) == {"0.weight": "1.running_mean"}
    # Here the norm's channels are the four positions, not the layer's four rows.
    assert found(model, 7, 4, 5) == {}


def test_no_hook_stays() -> None:
    model = Net(lambda m, x: m.norm(m.conv(x)))

    def fails() -> object:
        model(torch.zeros(1, 2, 6, 6))
        raise KeyError

    with pytest.raises(KeyError):
        norms_after(model, fails)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
