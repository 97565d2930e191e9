"""Linear layers and convolutions as matrices: what serving them and simulating them have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrain.kernels.convolution import Window

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class MatrixLayer:
    """A linear layer or a convolution. `name` is that of its weight in the model's state, `path` its own; `turned` if
    the weight is (inputs, outputs), as that of Hugging Face's Conv1D. A convolution has a `window`; its matrix has a
    column for each input channel and, within it, kernel position.
    """

    path: str
    name: str
    module: nn.Module
    turned: bool = False
    window: Window | None = None

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        found: Tensor = self.module.weight  # type: ignore[assignment]
        return found

    @property
    def span(self) -> int:
        """Columns for each input channel."""
        return 1 if self.turned else math.prod(self.weight.shape[2:])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (output channels) and columns of the matrix."""
        first, second = self.weight.shape[0], math.prod(self.weight.shape[1:])
        return (second, first) if self.turned else (first, second)


def window_of(module: nn.Conv1d | nn.Conv2d) -> Window | None:
    """What a convolution sees, None if more is added on one side than on the other; a line is a flat image."""
    kernel, dilation = module.kernel_size, module.dilation
    padding: tuple[int, ...]
    if module.padding == "same":
        wide = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        if any(size % 2 for size in wide):
            return None
        padding = tuple(size // 2 for size in wide)
    else:
        padding = (0,) * len(kernel) if isinstance(module.padding, str) else module.padding
    pairs = []
    for part, flat in ((kernel, 1), (module.stride, 1), (padding, 0), (dilation, 1)):
        pairs.append((part[0], part[1]) if len(part) == 2 else (flat, part[0]))
    return Window(*pairs)
