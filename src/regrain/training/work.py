"""Prunings that leave a given share of a network's multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from regrain.core.errors import TrainingError
from regrain.core.pattern import Pattern, Pruning
from regrain.training.gather import gather
from regrain.training.masks import unit_means
from regrain.training.weights import as_matrix

SMALL = 0.02
"""Share of the work below which a layer isn't worth pruning."""

_HALVINGS = 60

LEAST = 0.1
"""The lowest density of a layer: one that loses more may not learn any more."""


def prunings_for_work(
    model: nn.Module,
    work: Mapping[str, int],
    density: float,
    pattern: str = "block:16x1",
    *,
    backward: Callable[[], object],
) -> dict[str, Pruning]:
    """Prunings that leave that fraction of all multiply-adds, the units kept that are worth most for their work.

    `work` is what `multiply_adds` gives; `backward` computes the loss of a few batches and its gradients, from which
    follows what a unit is worth: the sum of its weights' w^2 E[g^2]. Every layer keeps LEAST of its units, and those
    with less than SMALL of the work keep all. Raises TrainingError for a density that this rules out.
    """
    total = sum(work.values())
    large = [name for name, macs in work.items() if macs >= SMALL * total]
    energy = gather(model, large, backward)
    rest = total - sum(work[name] for name in large)
    least = (rest + LEAST * (total - rest)) / max(total, 1)
    if not least <= density <= 1.0:
        raise TrainingError(f"density must be from {least:.3f} to 1, not {density!r}")
    worths = {name: _worths(model.get_parameter(name), Pattern(pattern), energy.of(name)) for name in large}
    cost = {name: work[name] / worths[name].numel() for name in large}
    low, high = 0.0, max(float(worths[name].max()) / cost[name] for name in large)
    kept = dict.fromkeys(large, 1.0)
    for _ in range(_HALVINGS):
        price = (low + high) / 2.0
        shares = {name: float((worths[name] > price * cost[name]).double().mean()) for name in large}
        shares = {name: max(share, LEAST) for name, share in shares.items()}
        if rest + sum(work[name] * share for name, share in shares.items()) <= density * total:
            high, kept = price, shares
        else:
            low = price
    return {name: Pruning(Pattern(pattern), share) for name, share in kept.items()}


def _worths(weight: Tensor, pattern: Pattern, energy: Tensor | None) -> Tensor:
    """What each unit is worth, up to a factor of its layer's size: units of one layer have one size."""
    down, across = pattern.unit(weight.shape)
    worth = as_matrix(weight.detach().float()).square()
    worth = torch.zeros_like(worth) if energy is None else worth * energy  # no gradient: nothing depends on it
    return unit_means(worth, down, across) * (down * across)
