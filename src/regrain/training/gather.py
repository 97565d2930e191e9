"""The energy of a model's gradients before it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from regrain.core.errors import TrainingError
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.training.energy import Energy
from regrain.training.passing import Passing


def gather(model: nn.Module, names: Sequence[str], backward: Callable[[], object]) -> Energy:
    """E[g^2] of those weights while `backward` computes the loss of a few batches and its gradients, which are dropped.

    Raises TrainingError unless any of them gets one.
    """
    energy = Energy()
    recipe = Recipe(tuple(LayerPlan(name, Method.LOSSLESS) for name in names))
    passing = Passing(model, recipe, watch=energy.add)
    try:
        backward()
    finally:
        passing.detach()
        model.zero_grad()
    if all(energy.of(name) is None for name in names):
        raise TrainingError("backward must give weights gradients, and gave none: call loss.backward() in it")
    return energy
