"""A small network, and a recipe for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe


@pytest.fixture
def net() -> nn.Sequential:
    """Convolution, norm, two linear layers: 16 inputs of 4 x 4."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


@pytest.fixture
def images() -> torch.Tensor:
    """(64, 3, 4, 4)."""
    return torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(images: torch.Tensor) -> torch.Tensor:
    """(64,), of 4 classes, which the images decide."""
    weights = torch.randn(48, 4, generator=torch.Generator().manual_seed(2))
    return (images.flatten(1) @ weights).argmax(1)


@pytest.fixture
def train(images: torch.Tensor, labels: torch.Tensor) -> Callable[..., None]:
    """Steps of the optimizer, each followed by a call."""

    def run(net, steps, stepped=lambda: None, optimizer=None):
        optimizer = optimizer or torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        net.train()
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            stepped()

    return run


@pytest.fixture
def quantized() -> Callable[..., LayerPlan]:
    """A plan with a step."""

    def plan(name, step, cell="tensor", pruning=None, dead_zone=0.0):
        return LayerPlan(name, Method.QUANTIZE, Cell(cell), step, dead_zone, pruning=pruning)

    return plan


@pytest.fixture
def recipe(quantized) -> Recipe:
    """Two layers quantized, one of them pruned too; a third one pruned only."""
    columns = Pruning(Pattern("column"), 0.5)
    return Recipe(
        (
            quantized("0.weight", 0.05),
            quantized("4.weight", 0.03, pruning=columns),
            LayerPlan("6.weight", Method.PRUNE, pruning=Pruning(Pattern("fine"), 0.5)),
        )
    )
