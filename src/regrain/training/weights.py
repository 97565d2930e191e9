"""A model's weights by the names of its state dict, each with every module that uses it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regrain.models.statedict import tensor_dtype


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One floating-point tensor of a model: where it is, once for each module that it is tied to. `trained` is False
    for buffers, which no gradient reaches.
    """

    name: str
    owners: tuple[tuple[nn.Module, str], ...]
    trained: bool

    @property
    def tensor(self) -> Tensor:
        """The parameter or buffer itself, whatever module has it now."""
        module, leaf = self.owners[0]
        found: Tensor = vars(module)["_parameters" if self.trained else "_buffers"][leaf]
        return found

    @property
    def module(self) -> nn.Module:
        """The first module that has it."""
        return self.owners[0][0]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """All of them in the order of the state dict, tied ones once; `same[other]` is the name that `other` is tied to."""

    by_name: Mapping[str, Weight]
    same: Mapping[str, str]

    def digest(self) -> str:
        """SHA-256 of names, types and shapes: equal for the same architecture, whatever its numbers."""
        found = hashlib.sha256()
        for name, weight in self.by_name.items():
            found.update(f"{name} {tensor_dtype(weight.tensor)} {tuple(weight.tensor.shape)}\n".encode())
        return found.hexdigest()


def weights_of(model: nn.Module) -> Weights:
    """Every floating-point parameter and every buffer that is saved."""
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    first: dict[int, str] = {}
    same: dict[str, str] = {}
    trained: dict[str, bool] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        unsaved = vars(module)["_non_persistent_buffers_set"]
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        buffers = module.named_buffers(recurse=False, remove_duplicate=False)
        for kind, tensors in ((True, parameters), (False, buffers)):
            for leaf, tensor in tensors:
                if not tensor.is_floating_point() or (leaf in unsaved and not kind):
                    continue
                name = f"{path}.{leaf}" if path else leaf
                owner = first.setdefault(id(tensor), name)
                if owner != name:
                    same[name] = owner
                if (module, leaf) not in owners.setdefault(owner, []):
                    owners[owner].append((module, leaf))
                trained.setdefault(owner, kind)
    found = {name: Weight(name, tuple(where), trained[name]) for name, where in owners.items()}
    return Weights(found, same)


def as_matrix(tensor: Tensor) -> Tensor:
    """The first axis and all others; a vector is one row. A view where the tensor is contiguous."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.dim() > 1 else tensor.reshape(1, -1)


def finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite."""
    return bool(torch.isfinite(tensor).all())
