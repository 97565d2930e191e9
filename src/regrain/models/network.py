"""A torch model seen as named weights: what each tensor is, which module has it, which of them share storage."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import TaskError

if TYPE_CHECKING:
    import torch

Kind = Literal["linear", "conv", "embedding", "vector", "buffer", "other"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight is. `module` is the path of the module that uses it, `bias` the name of the bias that is added
    to what it makes, None where there is none; `trainable` False for buffers, which training does not change.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    module: str
    bias: str | None
    trainable: bool


class Network:
    """A model whose floating-point weights can be read and replaced by the names of its state dict. It is the network's
    own from here on: parameters that were frozen gather gradients, too, as all weights count for what is put out.

    `places` has every floating-point tensor of the state dict once; `same[other]` names the one whose storage another
    name shares (tied weights). Raises TaskError for a state that isn't made of dense tensors.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.same: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        owners: dict[tuple[int, int], str] = {}
        trainable = {id(parameter) for parameter in model.parameters()}
        for parameter in model.parameters():
            if parameter.is_floating_point() and not parameter.is_inference():
                parameter.requires_grad_(True)
        modules = dict(model.named_modules())
        state = model.state_dict(keep_vars=True)
        for name, tensor in state.items():
            if name.rpartition(".")[2] == "_extra_state" or not _is_weight(name, tensor):
                continue
            key = (tensor.data_ptr(), tensor.numel())
            if tensor.numel() and key in owners:
                self.same[name] = owners[key]
                continue
            owners[key] = name
            self._tensors[name] = tensor
            path = name.rpartition(".")[0]
            self.places[name] = _place(name, tensor, path, modules.get(path), state, id(tensor) in trainable)

    def get(self, name: str) -> NDArray[np.float32]:
        """A copy of a weight, float32, in its own shape."""
        array: NDArray[np.float32] = self._tensors[name].detach().float().cpu().numpy().copy()
        return array

    def set(self, name: str, value: NDArray[np.float32]) -> None:
        """Replace a weight's numbers in place; they are cast to its dtype."""
        import torch

        tensor = self._tensors[self.same.get(name, name)]
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(value).reshape(tensor.shape))

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> tuple[str, ...]:
        """Take a model file's weights. Returns the names of those that the model has no place for.

        Raises TaskError where the model has weights that the file lacks, a shape differs, or the file has different
        numbers for weights that are one in the model.
        """
        names = {self.same.get(name, name) for name in weights}
        lacking = [name for name, place in self.places.items() if name not in names and place.trainable]
        if lacking:
            raise TaskError(
                f"MODEL must have every weight of load_model()'s model, and lacks {len(lacking)} of "
                f"{len(self.places)}, the first {lacking[0]!r}: its state_dict must have MODEL's names"
                + (f"; MODEL has {min(weights)!r}, for example" if weights else "")
            )
        unused: list[str] = []
        taken: dict[str, str] = {}
        for name, value in weights.items():
            owner = self.same.get(name, name)
            if owner not in self.places:
                unused.append(name)
                continue
            if value.shape != self.places[owner].shape:
                raise TaskError(
                    f"{name!r} must have the shape {self.places[owner].shape} that load_model()'s model has, not "
                    f"{value.shape} as in MODEL"
                )
            first = taken.setdefault(owner, name)
            if first != name and weights[first].tobytes() != value.tobytes():
                raise TaskError(
                    f"{name!r} must be equal to {first!r} in MODEL, as load_model()'s model has one weight for both: "
                    "let it make a model that doesn't tie them"
                )
            self.set(owner, value)
        return tuple(unused)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No parameter gathers gradients inside, and those that did before do again after."""
        before = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        for parameter, _ in before:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, wanted in before:
                parameter.requires_grad_(wanted)

    @contextmanager
    def gathering(self, names: Container[str]) -> Iterator[dict[str, torch.Tensor]]:
        """Only those weights gather gradients inside; what is given are their tensors."""
        with self.frozen():
            chosen = {name: self._tensors[name] for name in self.places if name in names}
            for tensor in chosen.values():
                tensor.requires_grad_(True)
            try:
                yield chosen
            finally:
                for tensor in chosen.values():
                    tensor.grad = None
                    tensor.requires_grad_(False)


def _is_weight(name: str, value: object) -> bool:
    """Whether it is a floating-point tensor. Raises TaskError for what can't be read and replaced."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise TaskError(f"{name!r} must be a tensor, not {type(value).__name__}: give the model before quantization")
    for fault, found in (
        ("quantized", value.is_quantized),
        ("sparse", value.layout is not torch.strided),
        ("without data", value.is_meta),
    ):
        if found:
            raise TaskError(f"weight {name!r} must be a dense tensor of numbers, not one that is {fault}: convert it")
    return value.is_floating_point()


def _place(
    name: str,
    tensor: torch.Tensor,
    path: str,
    module: torch.nn.Module | None,
    state: Mapping[str, torch.Tensor],
    trainable: bool,
) -> Place:
    import torch.nn as nn

    leaf, bias = name.rpartition(".")[2], None
    kind: Kind = "other"
    if not trainable:
        kind = "buffer"
    elif tensor.dim() <= 1:
        kind = "vector"
    elif leaf == "weight" and isinstance(module, nn.Embedding):
        kind = "embedding"
    elif leaf == "weight" and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        kind = "linear" if isinstance(module, nn.Linear) else "conv"
        beside = f"{path}.bias" if path else "bias"
        bias = beside if module.bias is not None and beside in state else None
    return Place(name, kind, tuple(tensor.shape), path, bias, trainable)
