"""A recipe to start training with, for a model that nothing was planned for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.pattern import Pruning
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe
from regrain.training.gather import gather
from regrain.training.weights import Weight, weights_of

MATRIX_STEP = 0.5
"""Step of a matrix, in its weights' root mean square: about 3 bits a weight."""

VECTOR_STEP = 1 / 64
"""Step of a vector likewise: about 8 bits. There are few of them, and each matters."""

STATISTICS_STEP = 1 / 256
"""Step of running means and variances: small variances count as much as large ones."""

UNUSED_STEP = 1 / 16
"""Step of a matrix that gets no gradient: nothing is known against a coarse one, and nothing for it."""

RANGE = (1 / 8, 4.0)
"""Between these are steps of matrices, whatever their gradients say."""


def starting_recipe(
    model: nn.Module,
    *,
    step: float | None = MATRIX_STEP,
    prunings: Mapping[str, Pruning] = MappingProxyType({}),
    backward: Callable[[], object] | None = None,
) -> Recipe:
    """Every matrix quantized with the relative `step`, vectors and running statistics finely, other buffers without
    loss; with `step` None nothing is quantized. Weights in `prunings` are pruned too.

    With `backward`, which computes the loss of a few batches and its gradients, steps go with 1 / sqrt(E[g^2]), and
    `step` is the geometric mean of the relative ones: the least loss for the bits (docs/quantization.md).
    """
    weights = weights_of(model).by_name
    Recipe(tuple(LayerPlan(name, Method.LOSSLESS) for name in prunings)).check_names(set(weights))
    relative = {} if step is None else _relative(model, weights, step, backward)
    plans = []
    for name, weight in weights.items():
        size = _step(weight.tensor, relative[name]) if name in relative else None
        pruning, cell = prunings.get(name), None if size is None else Cell("tensor")
        method = Method.QUANTIZE if size is not None else Method.PRUNE if pruning is not None else Method.LOSSLESS
        plans.append(LayerPlan(name, method, cell, size, why="start", pruning=pruning))
    return Recipe(tuple(plans))


def spread_of(tensor: Tensor) -> float:
    """The root mean square of weights."""
    return float(tensor.detach().double().square().mean().sqrt()) if tensor.numel() else 0.0


def _relative(
    model: nn.Module, weights: Mapping[str, Weight], step: float, backward: Callable[[], object] | None
) -> dict[str, float]:
    """The step of each weight that may have one, in its root mean square."""
    found = {name: VECTOR_STEP for name, weight in weights.items() if weight.trained}
    found |= {
        name: STATISTICS_STEP
        for name, weight in weights.items()
        if not weight.trained and isinstance(weight.module, _NormBase)
    }
    matrices = [name for name, weight in weights.items() if weight.trained and weight.tensor.dim() > 1]
    found |= dict.fromkeys(matrices, step)
    if backward is None or not matrices:
        return found
    energy, logs = gather(model, matrices, backward), {}
    for name in matrices:
        known = energy.of(name)
        if known is None:
            found[name] = UNUSED_STEP
        else:
            spread = max(spread_of(weights[name].tensor), 1e-30)
            logs[name] = -0.5 * math.log(max(float(known.mean()), 1e-38)) - math.log(spread)
    counts = {name: weights[name].tensor.numel() for name in logs}
    middle = sum(logs[name] * counts[name] for name in logs) / sum(counts.values())
    least, most = RANGE
    return found | {name: min(max(step * math.exp(log - middle), least), most) for name, log in logs.items()}


def _step(tensor: Tensor, relative: float) -> float | None:
    """A step on the grid; None for weights that are all equal: they need none."""
    spread, flat = spread_of(tensor), tensor.detach().reshape(-1)
    if not 1e-30 < spread < 1e30 or bool((flat == flat[0]).all()):
        return None
    return float(scales_of(codes_of([spread * relative]))[0])
