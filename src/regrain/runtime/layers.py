"""Layers that can be served: which they are, and their weights as matrices."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from regrain.core.errors import AttachError
from regrain.models.matrices import MatrixLayer, window_of

Floats = NDArray[np.float32]

MOST_COLUMNS = 1 << 16
"""Of a matrix, at most: lists of columns have 16 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer(MatrixLayer):
    """What a served layer reads of its module."""

    def matrix(self) -> Floats:
        """The weights (rows, columns), in the parameter's memory where that is possible."""
        weights: Floats = self.weight.detach().numpy()
        return np.ascontiguousarray(weights.T) if self.turned else np.ascontiguousarray(weights.reshape(self.shape))

    def bias(self) -> Floats | None:
        """A copy of the bias (rows,), None without one."""
        bias: Any = self.module.bias
        return None if bias is None else np.array(bias.detach().float().numpy())


def layers_of(model: nn.Module) -> Iterator[Layer]:
    """Every linear layer and every convolution in one or two dimensions once, in the order of the modules."""
    conv1d = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    for path, module in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        if conv1d is not None and type(module) is conv1d:
            yield Layer(path, name, module, turned=True)
        elif isinstance(module, nn.Linear):
            yield Layer(path, name, module)
        elif isinstance(module, nn.Conv1d | nn.Conv2d):
            yield Layer(path, name, module, window=window_of(module))


def obstacle(layer: Layer) -> str | None:
    """Why a layer can't be served, in words; None if it can."""
    module, weight = layer.module, layer.weight
    usual = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward)
    if not layer.turned and type(module).forward not in usual:
        return f"its class {type(module).__name__} has a forward of its own"
    if getattr(module.forward, "__func__", None) is not type(module).forward:
        return "something else has replaced its forward"
    if is_parametrized(module):
        return "its weight is parametrized"
    if weight.device.type != "cpu":
        return f"it is on {weight.device}"
    if weight.dtype is not torch.float32:
        return f"its weight is {str(weight.dtype).removeprefix('torch.')}, not float32"
    if weight.layout is not torch.strided or weight.numel() == 0:
        return "its weight has no numbers" if weight.numel() == 0 else "its weight is sparse"
    if layer.shape[1] > MOST_COLUMNS:
        return f"its matrix has more than {MOST_COLUMNS} columns"
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.groups != 1:
            return "its channels are in groups"
        if module.padding_mode != "zeros" or layer.window is None:
            return "its padding is not one of zeros, as wide on both sides"
    return None


def check_free(model: nn.Module, *served: type) -> None:
    """Raise AttachError if a module of the model is served already, by an instance of one of `served`."""
    names = {id(layer.module): layer.name for layer in layers_of(model)}
    for path, module in model.named_modules():
        if isinstance(vars(module).get("forward"), served):
            raise AttachError(
                "it must not be attached twice: call detach() of the attachment that serves it",
                tensor=names.get(id(module), path or None),
            )
