"""Published one-shot methods for single weights: SparseGPT, Wanda, and magnitude as the plainest reference.

Frantar and Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot" (2023), algorithm 1.
Sun, Liu, Bair and Kolter, "A simple and effective pruning approach for large language models" (2023).

Both go through the network block by block: a block's layers are pruned by what the blocks before it, pruned already,
give them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from subject import Subject
from torch import Tensor, nn
from torch.nn.functional import unfold
from work import layers

BLOCK = 128  # columns whose mask is chosen together
DAMPING = 0.01  # of the Hessian's mean diagonal


@dataclass(frozen=True, slots=True)
class Keep:
    """How many weights are kept: a fraction, or N of each M that follow each other in a row."""

    density: float
    among: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.among[0]}:{self.among[1]}" if self.among else f"kept {self.density:g}"


@dataclass(frozen=True, slots=True)
class Method:
    """statistic: of inputs (n, columns), summed over all calibration data; None if none is needed. prune: a matrix
    (rows, columns) and the statistic -> the pruned matrix.
    """

    name: str
    statistic: Callable[[Tensor], Tensor] | None
    prune: Callable[[Tensor, Tensor | None, Keep], Tensor]


def sparsegpt(weight: Tensor, hessian: Tensor, keep: Keep) -> Tensor:
    """Columns from left to right: what is dropped of one is made up for by all columns after it."""
    weight, hessian = weight.double(), hessian.double()
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1.0
    weight[:, dead] = 0.0
    hessian.diagonal().add_(DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    for start in range(0, weight.shape[1], BLOCK):
        columns = slice(start, start + BLOCK)
        part, local = weight[:, columns], factor[columns, columns]
        errors = _sweep(part, local, keep)
        weight[:, start + BLOCK :] -= errors @ factor[columns, start + BLOCK :]
    return weight.float()


def _sweep(part: Tensor, factor: Tensor, keep: Keep) -> Tensor:
    """Prune a block of columns in place, and give the errors (rows, columns) that later blocks make up for."""
    scales, errors = factor.diagonal(), torch.zeros_like(part)
    if keep.among is None:
        scores = (part / scales) ** 2
        drop = _smallest(scores.flatten(), scores.numel() - round(keep.density * scores.numel())).reshape(part.shape)
    else:
        drop = torch.zeros_like(part, dtype=torch.bool)
    for column in range(part.shape[1]):
        if keep.among is not None and column % keep.among[1] == 0:
            group = slice(column, column + keep.among[1])
            drop[:, group] = _smallest((part[:, group] / scales[group]) ** 2, keep.among[1] - keep.among[0])
        errors[:, column] = torch.where(drop[:, column], part[:, column], 0.0) / scales[column]
        part[:, column:] -= torch.outer(errors[:, column], factor[column, column:])
    part[drop] = 0.0
    return errors


def wanda(weight: Tensor, squares: Tensor, keep: Keep) -> Tensor:
    """|weight| times the norm of its input, compared within a row."""
    scores = weight.abs() * squares.sqrt()
    if keep.among is None:
        drop = _smallest(scores, scores.shape[1] - round(keep.density * scores.shape[1]))
    else:
        kept, of = keep.among
        drop = _smallest(scores.unflatten(1, (-1, of)), of - kept).flatten(1)
    return weight.masked_fill(drop, 0.0)


def magnitude(weight: Tensor, _: Tensor | None, keep: Keep) -> Tensor:
    """|weight|, compared within a layer; N:M as ever."""
    if keep.among is not None:
        return wanda(weight, torch.ones(weight.shape[1]), keep)
    drop = _smallest(weight.abs().flatten(), weight.numel() - round(keep.density * weight.numel()))
    return weight.masked_fill(drop.reshape(weight.shape), 0.0)


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` smallest along the last axis."""
    indices = scores.topk(count, dim=-1, largest=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, indices, value=True)


SPARSEGPT = Method("SparseGPT", lambda rows: rows.T @ rows, sparsegpt)  # type: ignore[arg-type]
WANDA = Method("Wanda", lambda rows: (rows**2).sum(dim=0), wanda)  # type: ignore[arg-type]
MAGNITUDE = Method("magnitude", None, magnitude)


@torch.no_grad()
def prune(subject: Subject, method: Method, keep: Keep) -> nn.Module:
    """A pruned network: all linear and convolutional layers of its blocks at the same density."""
    model = subject.load()
    for block in subject.blocks(model):
        found = _statistics(subject, model, block, method.statistic) if method.statistic else {}
        for name, layer in layers(block).items():
            pruned = method.prune(layer.weight.flatten(1).clone(), found.get(name), keep)
            layer.weight.copy_(pruned.reshape(layer.weight.shape))
    return model


def _statistics(
    subject: Subject, model: nn.Module, block: nn.Module, statistic: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for batch in subject.inputs("calibration"):
        inputs = _inputs(subject, model, block, batch)
        for name, layer in layers(block).items():
            found = statistic(_rows(layer, inputs[name], subject.valid(batch)))
            total[name] = total[name] + found if name in total else found
    return total


class _DoneError(Exception):
    """The block has computed: what comes after it is not needed."""


def _inputs(subject: Subject, model: nn.Module, block: nn.Module, batch: Any) -> dict[str, Tensor]:
    """What the block's layers are given, by name."""
    found: dict[str, Tensor] = {}

    def end(*_: object) -> None:
        raise _DoneError

    hooks = [block.register_forward_hook(end)]
    for name, layer in layers(block).items():
        hooks.append(layer.register_forward_pre_hook(lambda _, given, name=name: found.__setitem__(name, given[0])))
    with suppress(_DoneError):
        subject.output(model, batch)
    for hook in hooks:
        hook.remove()
    return found


def _rows(layer: nn.Linear | nn.Conv2d, given: Tensor, valid: Tensor | None) -> Tensor:
    """Inputs as a matrix (positions, columns of the layer's matrix), padding left out."""
    if isinstance(layer, nn.Conv2d):
        patches = unfold(given, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return (given if valid is None else given[valid]).reshape(-1, layer.in_features)
