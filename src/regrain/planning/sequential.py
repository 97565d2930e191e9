"""Layers in the order in which the network uses them, each met with what it gets from those before it now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.models.lockstep import Call, stopping
from regrain.models.network import Network
from regrain.profiling.activations import ROWS, input_rows
from regrain.profiling.gram import add_gram, mirror
from regrain.transforms.refit import Moments

if TYPE_CHECKING:
    import torch

    from regrain.models.task import Task

Values = Mapping[str, NDArray[np.float32]]
"""Tensors by name."""

MOST = 32
"""Batches that are used at most: of each, two calls wait for each other with all that they still need."""


class Sequential:
    """A task's network, and the calibration data that show what flows through it. `said` is told how far a walk is."""

    def __init__(
        self,
        network: Network,
        task: Task,
        batches: Sequence[Any],
        said: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._network = network
        self._task = task
        self._batches = batches[:: -(-len(batches) // MOST)]
        self._said = said

    def meets(self, name: str) -> bool:
        """Whether a walk can stop at the layer with that weight: one that the first batch uses just once, and whose
        inputs are known position by position.
        """
        return self._network.same.get(name, name) in self._modules

    def walk(self, centered: Mapping[str, bool], others: Values, visit: Callable[[str, Moments], Values]) -> None:
        """Call `visit` with the weight of each layer that `centered` names and its moments, about the means or about 0,
        in the order of use. What it gives back is what the layers after it are met with, and `others` are changed from
        the start. The network has the original's weights before and after.

        Each batch goes through the original and through the changed network, in step, so that both are run once.
        """
        modules = {name: self._modules[self._network.same.get(name, name)] for name in centered}
        passed: set[str] = set()
        before: dict[str, NDArray[np.float32]] = {}
        runs = [partial(self._run, number) for number in range(len(self._batches))]
        try:
            with stopping(modules, passed, [*runs, *runs]) as calls:
                pairs = list(zip(calls[: len(runs)], calls[len(runs) :], strict=True))
                for original, _ in pairs:
                    original.proceed()
                self._put(others, before)
                for _, changed in pairs:
                    changed.proceed()
                while (name := next((call.at for call in calls if call.at is not None), None)) is not None:
                    self._said("compensating in sequence", len(passed), len(modules))
                    self._put({name: before[name] for name in others}, before)
                    sums = _meet(pairs, name, modules[name])
                    passed.add(name)
                    self._put(others, before)
                    if sums.count:
                        self._put(visit(name, sums.result(centered=centered[name])), before)
                    for _, changed in pairs:
                        if changed.at == name:
                            changed.proceed()
        finally:
            for name, value in before.items():
                self._network.set(name, value)

    @cached_property
    def _modules(self) -> dict[str, torch.nn.Module]:
        """Layers to stop at, by the network's name of the weight."""
        paths = dict(self._network.model.named_modules())
        layers = {
            name: paths[place.module]
            for name, place in self._network.places.items()
            if place.kind in ("linear", "conv") and place.module in paths
        }
        found = {name: module for name, module in layers.items() if _is_plain(module)}
        uses = Counter[str]()
        handles = [
            module.register_forward_hook(lambda *_, name=name: uses.update([name])) for name, module in found.items()
        ]
        try:
            self._run(0)
        finally:
            for handle in handles:
                handle.remove()
        return {name: module for name, module in found.items() if uses[name] == 1}

    def _run(self, number: int) -> None:
        self._task.outputs(self._network.model, self._batches[number], where=f"batch {number} of 'calibration'")

    def _put(self, values: Values, before: dict[str, NDArray[np.float32]]) -> None:
        """Put weights into the network, and what they replace first into `before`."""
        for name, value in values.items():
            if name not in before:
                before[name] = self._network.get(self._network.same.get(name, name))
            self._network.set(name, value)


def _is_plain(module: torch.nn.Module) -> bool:
    """Whether each position of the output is the weight's matrix times a row of `input_rows`."""
    import torch.nn as nn

    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1 and isinstance(module.padding, tuple)
    return isinstance(module, nn.Linear)


def _meet(pairs: Sequence[tuple[Call, Call]], name: str, module: torch.nn.Module) -> _Sums:
    """Of all calls of the changed network that wait at a layer, and what it makes in the original, whose calls pass."""
    rows, *columns = module.weight.shape  # type: ignore[misc]
    sums = _Sums(math.prod(columns), rows)
    for original, changed in pairs:
        if original.at == name:
            made = original.proceed(partial(_output_rows, module))
            if changed.at == name and changed.inputs is not None and made is not None:
                sums.add(_thin(input_rows(module, changed.inputs)).float(), made)
    return sums


class _Sums:
    """Sums over positions of inputs x (n, C) and of what the original makes there, y (n, R)."""

    def __init__(self, columns: int, rows: int) -> None:
        import torch

        self.count = 0
        self._gram, self._crossed = torch.zeros(columns, columns), torch.zeros(rows, columns)
        self._x, self._y = (torch.zeros(size, dtype=torch.float64) for size in (columns, rows))

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.count += len(x)
        add_gram(self._gram, x.T)
        self._crossed.addmm_(y.T, x)
        self._x += x.sum(0, dtype=self._x.dtype)
        self._y += y.sum(0, dtype=self._y.dtype)

    def result(self, *, centered: bool) -> Moments:
        """About the means, or about 0. The sums are used up."""
        mirror(self._gram)
        sums = self._gram.double(), self._crossed.double(), self._x, self._y
        inputs, crossed, mean, target = ((total / self.count).numpy() for total in sums)
        if not centered:
            return Moments(inputs, crossed, np.zeros_like(mean), np.zeros_like(target))
        return Moments(inputs - np.outer(mean, mean), crossed - np.outer(target, mean), mean, target)


def _output_rows(module: torch.nn.Module, output: torch.Tensor) -> torch.Tensor:
    """What a layer's matrix makes, one row a position as of its inputs, without the bias; a copy."""
    import torch.nn as nn

    rows = output.detach()
    if not isinstance(module, nn.Linear):
        rows = rows if rows.dim() == len(module.kernel_size) + 2 else rows[None]  # type: ignore[arg-type]
        rows = rows.movedim(1, -1)
    rows = _thin(rows.reshape(-1, rows.shape[-1])).float()
    return rows.clone() if module.bias is None else rows - module.bias.detach().float()  # type: ignore[operator]


def _thin(rows: torch.Tensor) -> torch.Tensor:
    """At most ROWS of them, evenly spread."""
    return rows[:: -(-len(rows) // ROWS) or 1]
