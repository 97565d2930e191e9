"""Rules for operations that rearrange, cut and join: what they do to the axes of their arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from regrain.models.axes import Axes, Axis, meet
from regrain.models.operation import Operation, Rule, mix


def same(op: Operation) -> Axes:
    """A copy, perhaps of another dtype."""
    return op.axes()


def view(op: Operation) -> Axes:
    """Axes merge or are split. Where several merge, channels stay consecutive only on the first of them."""
    before, after = op.args[0].shape, op.first.shape
    made: list[Axis | None] = [None] * len(after)
    axes = op.axes()
    if 0 in before:
        return mix(op)
    for old, new in _blocks(before, after):
        wide = [dim for dim in old if before[dim] > 1]
        into = [dim for dim in new if after[dim] > 1]
        if len(into) == 1 and axes[wide[0]] is not None and not any(axes[dim] for dim in wide[1:]):
            axis = axes[wide[0]]
            assert axis is not None
            made[into[0]] = Axis(axis.channels, axis.span * math.prod(before[dim] for dim in wide[1:]))
        else:
            op.mix(axes[dim] for dim in wide)
    return tuple(made)


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes of both shapes that hold the same elements, those of one element left out."""
    ends = [list(accumulate(shape, lambda a, b: a * b)) for shape in (before, after)]
    common = sorted(set(ends[0]) & set(ends[1]) - {1})
    start = 1
    for end in common:
        yield tuple([dim for dim, reached in enumerate(side) if start < reached <= end] for side in ends)  # type: ignore[misc]
        start = end


def permute(op: Operation) -> Axes:
    """Another order."""
    axes = op.axes()
    return tuple(axes[dim] for dim in op.args[1])


def transpose(op: Operation) -> Axes:
    """Two axes change places, the only two if none are named."""
    axes = list(op.axes())
    if len(axes) > 1:
        i, j = op.args[1:3] if len(op.args) > 1 else (0, 1)
        axes[i], axes[j] = axes[j], axes[i]
    return tuple(axes)


def unsqueeze(op: Operation) -> Axes:
    """An axis of one position more."""
    axes = list(op.axes())
    axes.insert(op.args[1] % op.first.dim(), None)
    return tuple(axes)


def squeeze(op: Operation) -> Axes:
    """Axes of one position go, all or some."""
    tensor, dims = op.args[0], op.arg(1)
    chosen = range(tensor.dim()) if dims is None else (dims,) if isinstance(dims, int) else dims
    gone = {dim % tensor.dim() for dim in chosen if tensor.shape[dim] == 1} if tensor.dim() else set()
    return tuple(axis for dim, axis in enumerate(op.axes()) if dim not in gone)


def expand(op: Operation) -> Axes:
    """Axes of one position get more, and new ones stand before all others."""
    axes = op.axes()
    return (None,) * (op.first.dim() - len(axes)) + axes


def part(op: Operation) -> Axes:
    """Some positions of one axis, or all."""
    axes, dim = list(op.axes()), op.arg(1, 0)
    if op.first.shape[dim] != op.args[0].shape[dim]:
        op.mix(axes[dim : dim + 1 or None])
        axes[dim] = None
    return tuple(axes)


def split(index: int) -> Rule:
    """Parts of one axis."""

    def rule(op: Operation) -> Axes:
        axes, dim = list(op.axes()), op.arg(index, 0)
        op.mix([axes[dim]])
        axes[dim] = None
        return tuple(axes)

    return rule


def position(index: int) -> Rule:
    """A single position of one axis, which is gone then."""

    def rule(op: Operation) -> Axes:
        axes = list(op.axes())
        op.mix([axes.pop(op.arg(index, 0))])
        return tuple(axes)

    return rule


def cat(op: Operation) -> Axes:
    """One axis after the other; on the others, positions meet."""
    every = [op.value(tensor).axes for tensor in op.args[0] if tensor.dim() == op.first.dim()]
    dim = op.arg(1, 0) % op.first.dim()
    op.mix(axes[dim] for axes in every)
    return tuple(None if at == dim else meet(column, op.where) for at, column in enumerate(zip(*every, strict=True)))


def stack(op: Operation) -> Axes:
    """A new axis; on the others, positions meet."""
    every = [op.value(tensor).axes for tensor in op.args[0]]
    made = [meet(column, op.where) for column in zip(*every, strict=True)]
    made.insert(op.arg(1, 0) % op.first.dim(), None)
    return tuple(made)


def embedding(op: Operation) -> Axes:
    """Rows of a matrix are looked up."""
    rows, columns = op.axes()
    op.mix([rows, *op.axes(1)])
    return (*(None for _ in op.axes(1)), columns)


def index(op: Operation) -> Axes:
    """Positions of the leading axes are looked up."""
    axes, indices = op.axes(), op.args[1]
    if any(index is None for index in indices):
        return mix(op)
    op.mix(axis for index in indices for axis in op.value(index).axes)
    looked = sum(index.dim() if index.element_size() == 1 else 1 for index in indices)  # masks, else numbers
    op.mix(axes[:looked])
    return (None,) * (op.first.dim() - len(axes) + looked) + axes[looked:]
