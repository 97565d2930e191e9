"""Faults of a task that would spoil every figure made with it, found before the heavy part begins."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from regrain.core.errors import TaskError
from regrain.models.examples import digest_of_state, examples
from regrain.models.task import Task

if TYPE_CHECKING:
    import torch

SPLITS = ("calibration", "search", "held_out")
MOST_SHARED = 0.01
"""Splits that share a larger fraction of the smaller one's examples are not disjoint; fewer may be chance."""
MOST_NOISE = 1e-3
"""Outputs that differ by more than this, relative to the largest, are not those of a deterministic model."""


def check_task(task: Task, model: torch.nn.Module) -> tuple[str, ...]:
    """Try a task's functions with its model, and report what is doubtful but can be worked with, a sentence each.

    Every split's inputs are made twice, a batch of each is run, and `evaluate` is called once, on the search data:
    held-out scores are left alone. Raises TaskError for a function that raises or gives what it must not; inputs or
    outputs that differ from call to call; splits that overlap; an output without gradients; a model that is changed.
    """
    before, training = digest_of_state(model), _training(model)
    batches = {split: task.batches(split) for split in SPLITS}
    warnings = _check_inputs(task, batches) + _check_outputs(task, model, batches)
    task.scores(model, "search")
    if _training(model) != training:
        raise TaskError(f"{task}: output() and evaluate() must leave the model in eval mode: don't call train()")
    if digest_of_state(model) != before:
        raise TaskError(f"{task}: output() and evaluate() must not change the model's weights or buffers")
    return tuple(warnings)


def _check_inputs(task: Task, batches: Mapping[str, list[Any]]) -> list[str]:
    found: dict[str, set[bytes]] = {}
    for split, made in batches.items():
        first, second = _digests(made), _digests(task.batches(split))
        if first is None or second is None:
            return [f"{task}: inputs({split!r}) gives objects that can't be compared; splits were not checked"]
        if first != second:
            raise TaskError(f"{task}: inputs({split!r}) must give the same batches each time: fix its seed and order")
        found[split] = set(first)
    return [warning for pair in combinations(SPLITS, 2) if (warning := _overlap(task, found, *pair))]


def _digests(batches: list[Any]) -> list[bytes] | None:
    """One digest an example, over all batches; None if there is an object that can't be compared."""
    digests: list[bytes] = []
    for batch in batches:
        found = examples(batch)
        if found is None:
            return None
        digests += found
    return digests


def _overlap(task: Task, found: dict[str, set[bytes]], one: str, other: str) -> str | None:
    first, second = found[one], found[other]
    if first == second:
        raise TaskError(f"{task}: inputs({one!r}) and inputs({other!r}) must be disjoint, but are the same: use split")
    shared, smaller = len(first & second), min(len(first), len(second))
    if shared > MOST_SHARED * smaller:
        raise TaskError(f"{task}: {one!r} and {other!r} must be disjoint, but share {shared} of {smaller} examples")
    return f"{task}: {one!r} and {other!r} share {shared} of {smaller} examples" if shared else None


def _check_outputs(task: Task, model: torch.nn.Module, batches: Mapping[str, list[Any]]) -> list[str]:
    warnings = []
    for split, (batch, *_) in batches.items():
        where = f"batch 0 of {split!r}"
        first = task.outputs(model, batch, where=where)
        task.kind_of(first)
        if split == "calibration":
            task.outputs(model, batch, grad=True, where=where)
            second = task.outputs(model, batch, where=where)
            warnings += _noise(task, first, second, where)
    return warnings


def _noise(task: Task, first: torch.Tensor, second: torch.Tensor, where: str) -> list[str]:
    if first.shape != second.shape:
        raise TaskError(f"{task}: output() of {where} must have the same shape each time")
    difference = float((first - second).abs().max())
    if difference == 0.0:
        return []
    relative = difference / max(float(first.abs().max()), float(second.abs().max()))
    if relative > MOST_NOISE:
        raise TaskError(
            f"{task}: output() of {where} must be the same each time, but differs by {100 * relative:.2g} %: "
            "switch off dropout and sampling"
        )
    return [f"{task}: output() of {where} differs by {relative:.1e} from call to call"]


def _training(model: torch.nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]
