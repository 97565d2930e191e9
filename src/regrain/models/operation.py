"""One operation of PyTorch's dispatcher as the rules for axes see it, and the two rules for whole kinds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regrain.models.axes import Axes, Axis, Value, meet

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of an operation: `args` are the positional ones, `first` is the first tensor of its result.

    `where` names operation and module for people; `norm` is the path of the module if that is one for normalization.
    """

    args: Sequence[Any]
    first: torch.Tensor
    where: str
    norm: str | None
    value: Callable[[torch.Tensor], Value]
    multiplied: Callable[[str, int], None]  # a weight's name, multiply-adds

    def arg(self, index: int, default: Any = None) -> Any:
        """An argument, `default` where it was left out."""
        return self.args[index] if index < len(self.args) else default

    def axes(self, index: int = 0) -> Axes:
        """What the axes of an argument carry: none if it isn't a tensor."""
        tensor = self.arg(index)
        return () if tensor is None else self.value(tensor).axes

    def mix(self, axes: Iterable[Axis | None]) -> None:
        """Block what is on these axes."""
        for axis in axes:
            if axis is not None:
                axis.channels.block(
                    f"they are normalized together by {self.norm!r}"
                    if self.norm is not None
                    else f"used by an operation that mixes them: {self.where}"
                )

    def contract(self, one: torch.Tensor, i: int, other: torch.Tensor, j: int) -> None:
        """Sum products over an axis of each. Channels end there if one of the two is a layer's weight."""
        values = self.value(one), self.value(other)
        axes = values[0].axes[i], values[1].axes[j]
        names = [value.weight for value in values if value.weight is not None]
        if len(names) != 1:
            for axis in axes:
                if axis is not None:
                    axis.channels.block(f"they are multiplied with each other and summed: {self.where}")
            return
        meet(axes, self.where)


Rule = Callable[[Operation], Axes]


def tensors_of(found: object) -> Iterator[torch.Tensor]:
    """The tensors in arguments or results of an operation, in order."""
    import torch

    if isinstance(found, torch.Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for item in found:
            yield from tensors_of(item)


def pointwise(op: Operation) -> Axes:
    """Positions meet as they are broadcast, from the last axis on."""
    length = op.first.dim()
    columns: list[list[Axis | None]] = [[] for _ in range(length)]
    for tensor in tensors_of(op.args):
        for back, axis in enumerate(reversed(op.value(tensor).axes), 1):
            if tensor.shape[-back] > 1:
                columns[length - back].append(axis)
    return tuple(meet(column, op.where) for column in columns)


def mix(op: Operation) -> Axes:
    """Nothing is known of it."""
    for tensor in tensors_of(op.args):
        op.mix(op.value(tensor).axes)
    return (None,) * op.first.dim()
