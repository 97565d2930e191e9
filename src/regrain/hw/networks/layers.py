"""A network's layers as the accelerator sees them: matrices, and the rows that these are multiplied with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regrain.models.matrices import MatrixLayer, window_of

if TYPE_CHECKING:
    from torch import Tensor, nn

PIECE = 1 << 24
"""Numbers of patches that are held at once, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer(MatrixLayer):
    """A layer with the rows that its matrix is multiplied with."""

    def matrix(self) -> NDArray[np.float32]:
        """A copy of the weights (rows, columns)."""
        weights = self.weight.detach().float()
        return np.array((weights.T if self.turned else weights.reshape(self.shape)).numpy(), np.float32, order="C")

    def bias(self) -> Tensor | None:
        """The bias (rows,), None without one."""
        found: Any = self.module.bias
        return None if found is None else found.detach().float()

    def examples(self, x: Tensor) -> Tensor:
        """Inputs with the axis first along which they may be cut: vectors (n, columns), or images (n, C, h, w)."""
        if self.window is None:
            return x.reshape(-1, self.shape[1])
        axes = self.weight.dim() - 2
        size = x.shape[-axes:]
        return x.reshape(-1, self.weight.shape[1], *((1, size[0]) if axes == 1 else size))

    def rows(self, examples: Tensor) -> Tensor:
        """What the matrix is multiplied with, (tokens, columns): of a convolution patches, padding and all."""
        if self.window is None:
            return examples
        from torch.nn.functional import unfold

        window = self.window
        patches = unfold(examples, window.kernel, window.dilation, window.padding, window.stride)
        return patches.transpose(1, 2).reshape(-1, self.shape[1])

    def pieces(self, examples: Tensor) -> Iterator[Tensor]:
        """`rows` of some examples at a time, so that patches need little memory."""
        if not len(examples):
            return
        each = max(1, self.tokens(examples) // len(examples)) * self.shape[1]
        count = max(1, PIECE // each)
        for start in range(0, len(examples), count):
            yield self.rows(examples[start : start + count])

    def tokens(self, examples: Tensor) -> int:
        """Rows that examples give."""
        if self.window is None:
            return len(examples)
        high, wide = self.window.outputs((examples.shape[2], examples.shape[3]))
        return len(examples) * high * wide

    def outputs(self, made: Tensor, x: Tensor) -> Tensor:
        """Outputs (tokens, rows) in the shape in which the layer gives them for `x`."""
        if self.window is None:
            return made.reshape(*x.shape[:-1], self.shape[0])
        axes = self.weight.dim() - 2
        size = x.shape[-axes:]
        high, wide = self.window.outputs((1, size[0]) if axes == 1 else (size[0], size[1]))
        maps = made.reshape(-1, high * wide, self.shape[0]).transpose(1, 2)
        return maps.reshape(*x.shape[: -axes - 1], self.shape[0], *((wide,) if axes == 1 else (high, wide)))


def layers_of(model: nn.Module) -> tuple[list[Layer], dict[str, str]]:
    """The layers that the accelerator can run, in the order of the modules; and why others can't, by their paths."""
    from torch import nn

    conv1d = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    layers: list[Layer] = []
    left: dict[str, str] = {}
    for path, module in model.named_modules():
        turned = conv1d is not None and type(module) is conv1d
        multiplies = turned or isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        why = _obstacle(module, turned) if multiplies else _other(module)
        if why is None and not multiplies:
            continue
        if why is not None:
            left[path] = why
            continue
        window = window_of(module) if isinstance(module, nn.Conv1d | nn.Conv2d) else None
        layers.append(Layer(path, f"{path}.weight" if path else "weight", module, turned, window))
    return layers, left


def _other(module: nn.Module) -> str | None:
    """What a module is that multiplies with matrices in its own way; None of one that has none, as far as is known."""
    from torch import nn

    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return "it is a transposed convolution"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "it is recurrent"
    if isinstance(module, nn.MultiheadAttention):
        return "it multiplies with its weights itself"
    return None


def _obstacle(module: nn.Module, turned: bool) -> str | None:
    from torch import nn
    from torch.nn.utils.parametrize import is_parametrized

    usual = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward)
    if isinstance(module, nn.Conv3d):
        return "it is a convolution in three dimensions"
    if not turned and type(module).forward not in usual:
        return f"its class {type(module).__name__} has a forward of its own"
    if is_parametrized(module):
        return "its weight is parametrized"
    weight: Any = module.weight
    if not weight.numel():
        return "its weight has no numbers"
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.groups != 1:
            return "its channels are in groups"
        if module.padding_mode != "zeros" or window_of(module) is None:
            return "its padding is not one of zeros, as wide on both sides"
    return None
