"""What a pruned network still computes: multiply-adds of linear and convolutional layers, one input on average."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from subject import Subject
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Work:
    """Fractions of the original. skipped: of multiply-adds that dense arithmetic need not do, since a whole output or
    input channel is gone. zeroed: of multiply-adds whose weight is zero or gone. kept: of the layers' weights.
    """

    skipped: float
    zeroed: float
    kept: float


def work(subject: Subject, model: nn.Module) -> Work:
    """Of a pruned network beside its original; attention's products of activations are not counted."""
    dense, nonzero, weights = _count(subject, model)
    dense_before, _, weights_before = _original(subject)
    return Work(1 - dense / dense_before, 1 - nonzero / dense_before, weights / weights_before)


def layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Linear and convolutional layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}


def _count(subject: Subject, model: nn.Module) -> tuple[float, float, int]:
    """Multiply-adds of dense arithmetic without empty channels, those with nonzero weights, and nonzero weights."""
    dense = nonzero = 0.0
    weights = 0
    for name, layer in layers(model).items():
        if name in subject.unused:
            continue
        positions = _positions(subject)[name]
        used = layer.weight.detach().reshape(*layer.weight.shape[:2], -1) != 0  # (rows, input channels, area)
        rows, channels = used.any(dim=2).any(dim=1).sum(), used.any(dim=2).any(dim=0).sum()
        dense += positions * float(rows * channels * used.shape[2])
        nonzero += positions * float(used.sum())
        weights += int(used.sum())
    return dense, nonzero, weights


@cache
def _original(subject: Subject) -> tuple[float, float, int]:
    return _count(subject, subject.load())


@cache
@torch.no_grad()
def _positions(subject: Subject) -> dict[str, float]:
    """How often each layer's weights are used in a calibration batch: output positions, tokens or pixels."""
    model, found = subject.load(), {}

    def note(name: str, rows: int, output: Tensor) -> None:
        found[name] = output.numel() / rows

    for name, layer in layers(model).items():
        layer.register_forward_hook(lambda _, __, output, name=name, layer=layer: note(name, len(layer.weight), output))
    subject.output(model, next(iter(subject.inputs("calibration"))))
    return found
