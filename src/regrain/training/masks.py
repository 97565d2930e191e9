"""Which weights a pruning keeps: units of its pattern, those that are worth most."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regrain.core.errors import TrainingError
from regrain.core.pattern import Pruning, Score
from regrain.training.weights import as_matrix


def mask_of(weights: Tensor, pruning: Pruning, factor: Tensor | None = None) -> Tensor:
    """True where a weight is kept; same shape and device.

    A unit is worth the mean of its weights' w^2 times `factor` (R, C), which is that of the weights seen as a matrix:
    E[g^2] for the score obs, the loss that dropping it adds to second order (LeCun, Denker and Solla, 1990); E[x^2] or
    var(x) of their inputs for wanda and variance. By magnitude, or where nothing has been seen yet, it is the mean w^2.
    At least one unit is kept.
    """
    matrix = as_matrix(weights.detach().float())
    worth = matrix.square()
    if factor is not None and pruning.score is not Score.MAGNITUDE:
        worth = worth * factor
    kept = _among(worth, *pruning.pattern.among) if pruning.pattern.among else _units(worth, weights, pruning)
    return kept.reshape(weights.shape)


def _among(worth: Tensor, kept: int, among: int) -> Tensor:
    """At most `kept` of each `among` that follow each other in a row; a shorter group at its end keeps all it may."""
    rows, columns = worth.shape
    groups = _padded(worth, 1, among, -1.0).reshape(rows, -1, among)
    chosen = groups.argsort(dim=2, descending=True, stable=True)[..., :kept]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, chosen, True)
    return mask.reshape(rows, -1)[:, :columns]


def _units(worth: Tensor, weights: Tensor, pruning: Pruning) -> Tensor:
    assert pruning.density is not None
    down, across = pruning.pattern.unit(weights.shape)
    units = unit_means(worth, down, across)
    count = max(1, round(pruning.density * units.numel()))
    chosen = units.flatten().argsort(descending=True, stable=True)[:count]
    kept = torch.zeros(units.numel(), dtype=torch.bool, device=worth.device)
    kept[chosen] = True
    return spread(kept.reshape(units.shape), down, across, worth.shape)


def unit_means(values: Tensor, down: int, across: int) -> Tensor:
    """The mean over each unit of a matrix; the last units of a row or a column may be smaller."""
    rows, columns = values.shape
    sizes = [(math.ceil(rows / down), down), (math.ceil(columns / across), across)]
    parts = _padded(values, down, across, 0.0).reshape(sizes[0][0], down, sizes[1][0], across)
    there = _padded(torch.ones_like(values), down, across, 0.0).reshape(parts.shape)
    return parts.sum(dim=(1, 3)) / there.sum(dim=(1, 3))


def spread(units: Tensor, down: int, across: int, shape: tuple[int, int] | torch.Size) -> Tensor:
    """One value for each weight of a matrix of that shape, from one for each unit."""
    return units.repeat_interleave(down, 0).repeat_interleave(across, 1)[: shape[0], : shape[1]]


def follow(followed: Tensor, weights: Tensor, name: str) -> Tensor:
    """The mask of a weight whose rows make the columns of another, of which `followed` says what is kept.

    Raises TrainingError unless it has a row for each of those columns.
    """
    kept = followed.transpose(0, 1).flatten(1).any(dim=1) if followed.dim() > 1 else followed
    if len(kept) != len(weights):
        raise TrainingError(
            f"{name!r} must have a row for each of the {len(kept)} columns that it follows, not {len(weights)}"
        )
    return kept.reshape(-1, *[1] * (weights.dim() - 1)).expand(weights.shape).clone()


def check_mask(name: str, mask: Tensor, weights: Tensor) -> None:
    """Raise TrainingError unless a mask fits a weight."""
    if mask.dtype is not torch.bool or mask.shape != weights.shape:
        raise TrainingError(
            f"mask of {name!r} must be boolean of shape {tuple(weights.shape)}, not {mask.dtype} of {tuple(mask.shape)}"
        )
    if mask.device != weights.device:
        raise TrainingError(f"mask of {name!r} must be on the model's device {weights.device}, not on {mask.device}")


def density_of(mask: Tensor | None) -> float:
    """The fraction of weights that is kept."""
    return 1.0 if mask is None else float(mask.double().mean())


def _padded(values: Tensor, down: int, across: int, filler: float) -> Tensor:
    rows, columns = values.shape
    return torch.nn.functional.pad(values, (0, -columns % across, 0, -rows % down), value=filler)
