"""Weights pass through a recipe while they train: the network sees them rounded and pruned, the optimizer as they are.

A gradient goes straight through rounding to the weight behind it (Bengio, Leonard and Courville, 2013), and nothing
goes to a weight that is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from regrain.codecs.grid import codes_of
from regrain.codecs.quantized import Quantized, grid_shape, matrix_shape
from regrain.core.errors import TrainingError
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.training.masks import check_mask
from regrain.training.views import View, attach, attached, detach
from regrain.training.weights import Weight, Weights, weights_of


class Passing:
    """A model whose weights pass through a recipe, until `fold` or `detach`. Weights that the recipe doesn't name are
    seen as they are.

    `masks` (True: kept) are for pruned weights, by name; `watch` is called with the name and each gradient of a weight,
    before what is dropped is taken out of it. Buffers, such as running means, are rounded only where what
    will be stored is looked at: within `folded`, and by `fold`. Raises TrainingError for a model whose weights pass
    through a recipe already, RecipeError for a name that the model doesn't have.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        masks: Mapping[str, Tensor] | None = None,
        watch: Callable[[str, Tensor], None] | None = None,
    ) -> None:
        self.model = model
        self.weights: Weights = weights_of(model)
        recipe.check_names(self.weights.by_name.keys() | self.weights.same.keys())
        self._views: dict[str, View] = {}
        given = masks or {}
        for plan in recipe.layers:
            if plan.name in self.weights.same:
                raise TrainingError(
                    f"{plan.name!r} must be planned as {self.weights.same[plan.name]!r}, which it is tied to"
                )
            _check(self.weights.by_name[plan.name], plan)
            self._check_mask(plan, given.get(plan.name))
            seen = None if watch is None else partial(watch, plan.name)
            self._views[plan.name] = View(plan, given.get(plan.name), seen)
        for weight in map(self.weights.by_name.__getitem__, self._views):
            if any(attached(module, leaf) for module, leaf in weight.owners):
                raise TrainingError("model must pass through one recipe at a time: detach the other one first")
        self.attached = True
        for name, view in self._views.items():
            if self.weights.by_name[name].trained:
                for module, leaf in self.weights.by_name[name].owners:
                    attach(module, leaf, view)

    @property
    def plans(self) -> dict[str, LayerPlan]:
        """The plan of each weight that passes."""
        return {name: view.plan for name, view in self._views.items()}

    def mask(self, name: str) -> Tensor | None:
        """What is kept of a weight; None is all."""
        return self._views[name].mask

    def change(self, plan: LayerPlan, mask: Tensor | None = None) -> None:
        """From here on a weight passes by another plan. A weight that is pruned needs a mask."""
        if plan.name not in self._views:
            raise TrainingError(f"weight must be one of the recipe's, not {plan.name!r}")
        _check(self.weights.by_name[plan.name], plan)
        self._check_mask(plan, mask)
        self._views[plan.name].change(plan, mask)

    def values(self, name: str) -> Tensor:
        """What is seen of a weight: what `fold` would leave."""
        return self._views[name].values(self.weights.by_name[name].tensor)

    def indices(self, name: str) -> Tensor | None:
        """Whole numbers of steps, float32; None unless it is quantized."""
        view = self._views[name]
        return None if view.scale is None else view.indices(self.weights.by_name[name].tensor)

    def quantized(self, name: str) -> Quantized | None:
        """Indices and scales of a weight; None unless it is quantized."""
        indices, plan = self.indices(name), self._views[name].plan
        if indices is None:
            return None
        assert plan.cell is not None
        assert plan.step is not None
        rows, columns = matrix_shape(tuple(indices.shape))
        cell = plan.cell.size(rows, columns)
        codes = np.full(grid_shape(rows, columns, cell), codes_of([plan.step])[0], np.int16)
        return Quantized(indices.cpu().contiguous().numpy().astype(np.int16), codes, cell)

    def unread(self) -> list[str]:
        """Weights that got a gradient although no module has read them through its view."""
        trained = {name: weight for name, weight in self.weights.by_name.items() if name in self._views}
        return [
            name
            for name, weight in trained.items()
            if weight.trained and weight.tensor.grad is not None and not self._views[name].reads
        ]

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Within, the model is what `fold` would leave; after it, the weights are what they were."""
        before = {name: self.weights.by_name[name].tensor.detach().clone() for name in self._changing()}
        try:
            with self.bypassed():
                self._write()
                yield
        finally:
            for name, kept in before.items():
                self._put(name, kept)

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Within, the model sees its weights as the optimizer does."""
        for view in self._views.values():
            view.active = False
        try:
            yield
        finally:
            for view in self._views.values():
                view.active = True

    def fold(self) -> None:
        """Write what is seen into the weights, and detach."""
        self._write()
        self.detach()

    def detach(self) -> None:
        """The model is an ordinary one again, its weights as the optimizer has them."""
        if self.attached:
            for name in self._views:
                for module, leaf in self.weights.by_name[name].owners:
                    detach(module, leaf)
        self.attached = False

    def _changing(self) -> list[str]:
        return [name for name, view in self._views.items() if view.changes]

    def _write(self) -> None:
        for name in self._changing():
            self._put(name, self.values(name))

    def _put(self, name: str, values: Tensor) -> None:
        with torch.no_grad():
            self.weights.by_name[name].tensor.copy_(values)

    def _check_mask(self, plan: LayerPlan, mask: Tensor | None) -> None:
        if (plan.pruning is None) != (mask is None):
            raise TrainingError(
                f"{plan.name!r} must have a mask if and only if its plan has a pruning: give masks={{name: mask}}"
            )
        if mask is not None:
            check_mask(plan.name, mask, self.weights.by_name[plan.name].tensor)


def _check(weight: Weight, plan: LayerPlan) -> None:
    """Raise TrainingError for what can't pass."""
    if plan.method is Method.LOSSLESS:
        return
    name, module = weight.name, weight.module
    if weight.tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise TrainingError(f"{name!r} must be float32, float16 or bfloat16 to pass, not {weight.tensor.dtype}")
    if weight.tensor.numel() == 0:
        raise TrainingError(f"{name!r} must hold weights to pass, and has none: leave it out of the recipe")
    if plan.pruning is not None and (not weight.trained or weight.tensor.dim() < 2):
        kind = "buffer" if not weight.trained else "vector"
        raise TrainingError(f"{name!r} must be a matrix to be pruned, not a {kind}: leave it out, or quantize it")
    if isinstance(module, nn.RNNBase):
        raise TrainingError(f"{name!r} must be lossless: {type(module).__name__} keeps its weights to itself")
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and (module.sparse or module.max_norm is not None):
        raise TrainingError(f"{name!r} must be of an embedding without sparse gradients and max_norm: leave it out")
