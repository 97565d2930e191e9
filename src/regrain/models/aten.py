"""What operations of PyTorch's dispatcher (aten) do to the axes of their arguments.

A rule gives what each axis of the result carries. Operations that have none, and aren't pointwise, mix what they are
given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from regrain.models import rearranging as shape
from regrain.models.axes import Axes, meet
from regrain.models.operation import Operation, Rule, pointwise, tensors_of

if TYPE_CHECKING:
    import torch


def _nothing(op: Operation) -> Axes:
    """The result doesn't depend on the numbers in the arguments."""
    return (None,) * op.first.dim()


def _product(op: Operation) -> Axes:
    """A matrix product, with or without something added first; the matrices are the last two tensors."""
    *added, a, b = tensors_of(op.args)
    op.contract(a, -1, b, max(-2, -b.dim()))
    left, right = op.value(a), op.value(b)
    for value in (left, right):
        if value.weight is not None:
            op.multiplied(value.weight, op.first.numel() * a.shape[-1])
    batch = [meet(pair, op.where) for pair in zip(left.axes[:-2], right.axes[:-2], strict=True)]
    return _beside(op, (*batch, *left.axes[-2:-1], *(right.axes[-1:] if b.dim() > 1 else ())), added)


def _beside(op: Operation, axes: Axes, tensors: Iterable[torch.Tensor]) -> Axes:
    """The axes of a result that tensors are added to, broadcast."""
    made = list(axes)
    for tensor in tensors:
        for back, axis in enumerate(reversed(op.value(tensor).axes), 1):
            if tensor.shape[-back] > 1:
                made[-back] = meet((made[-back], axis), op.where)
    return tuple(made)


def _convolution(op: Operation) -> Axes:
    inputs, weight = op.args[:2]
    axes, own, bias = op.axes(0), op.value(weight), op.axes(2)
    transposed, groups = op.arg(6, False), op.arg(8, 1)
    if own.weight is not None:
        over = inputs if transposed else op.first
        op.multiplied(own.weight, over.numel() // over.shape[1] * weight.numel())
    made = own.axes[0]
    if not transposed and groups == inputs.shape[1] == weight.shape[0] > 1:  # depth-wise: a row for each channel
        made = meet((axes[1], made), op.where)
    elif transposed or groups != 1:
        name = f" {own.weight!r}" if own.weight is not None else f": {op.where}"
        for axis in (axes[1], *own.axes[:2], *bias):
            if axis is not None:
                axis.channels.block(f"they meet a {'transposed' if transposed else 'grouped'} convolution{name}")
    else:
        op.contract(inputs, 1, weight, 1)
    op.mix((*axes[2:], *own.axes[2:]))
    return (axes[0], meet((made, *bias), op.where) if weight.shape[0] > 1 else None, *(None for _ in axes[2:]))


def _batch_norm(op: Operation) -> Axes:
    """Each channel, the second axis, has numbers of its own."""
    axes = op.axes()
    own = [op.value(tensor).axes[0] for tensor in tensors_of(op.args[1:]) if tensor.dim() == 1]
    return (axes[0], meet((axes[1], *own), op.where) if op.first.shape[1] > 1 else None, *axes[2:])


def _norm(first_axis: Callable[[Operation], int]) -> Rule:
    """All from an axis on are normalized together, then scaled and shifted."""

    def rule(op: Operation) -> Axes:
        axes, factors = op.axes(), [tensor for tensor in tensors_of(op.args[1:]) if tensor.dim()]
        op.mix(axes[first_axis(op) :])
        op.mix(axis for tensor in factors for axis in op.value(tensor).axes)
        return axes if first_axis(op) == 1 else _beside(op, axes, factors)

    return rule


def _reduce(index: int) -> Rule:
    """Axes become one position or none; which is in an argument: one, some, or all if it is empty or left out."""

    def rule(op: Operation) -> Axes:
        axes = op.axes()
        given = op.arg(index)
        dims = {given} if isinstance(given, int) else set(given or range(len(axes)))
        gone = {dim % len(axes) for dim in dims} if axes else set()
        op.mix(axes[dim] for dim in gone)
        if op.first.dim() == len(axes):
            return tuple(None if dim in gone else axis for dim, axis in enumerate(axes))
        return tuple(axis for dim, axis in enumerate(axes) if dim not in gone)

    return rule


def _along(op: Operation) -> Axes:
    """Positions of one axis, the second argument, depend on each other."""
    axes = op.axes()
    op.mix([axes[op.arg(1, -1)]] if axes else [])
    return axes


def _space(dims: int) -> Rule:
    """Over the last axes, those in space: each channel on its own."""

    def rule(op: Operation) -> Axes:
        axes = op.axes()
        op.mix(axes[-dims:])
        return (*axes[:-dims], *(None,) * dims)

    return rule


def _pad(op: Operation) -> Axes:
    axes = op.axes()
    widths = op.args[1]
    op.mix(axes[-1 - index // 2] for index, width in enumerate(widths) if width)
    return axes


RULES: dict[str, Rule] = {
    **dict.fromkeys("mm addmm bmm baddbmm mv addmv".split(), _product),
    "convolution": _convolution,
    **dict.fromkeys(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
        "miopen_batch_norm _batch_norm_with_update _batch_norm_no_update".split(),
        _batch_norm,
    ),
    **dict.fromkeys("native_layer_norm _fused_rms_norm".split(), _norm(lambda op: -len(op.args[1]))),
    "native_group_norm": _norm(lambda _: 1),
    **dict.fromkeys("mean sum prod amax amin max min all any argmax argmin var std logsumexp".split(), _reduce(1)),
    "linalg_vector_norm": _reduce(2),
    **dict.fromkeys("_softmax _log_softmax cumsum".split(), _along),
    **{
        f"{kind}{dims}d": _space(dims)
        for dims in (1, 2, 3)
        for kind in (
            *("avg_pool", "_adaptive_avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "reflection_pad"),
            *("replication_pad", "upsample_nearest", "_upsample_nearest_exact"),
        )
    },
    **dict.fromkeys("max_pool2d_with_indices upsample_bilinear2d upsample_bicubic2d".split(), _space(2)),
    **dict.fromkeys("max_pool3d_with_indices upsample_trilinear3d".split(), _space(3)),
    "upsample_linear1d": _space(1),
    "constant_pad_nd": _pad,
    **dict.fromkeys(
        "copy native_dropout zeros_like ones_like empty_like "
        "full_like fill zero bernoulli masked_fill hardswish _prelu_kernel where".split(),
        pointwise,
    ),
    **dict.fromkeys("new_zeros new_ones new_empty new_full new_empty_strided".split(), _nothing),
    **dict.fromkeys("_to_copy clone detach alias lift_fresh".split(), shape.same),
    **dict.fromkeys("view _unsafe_view _reshape_alias".split(), shape.view),
    "permute": shape.permute,
    **dict.fromkeys(("t", "transpose"), shape.transpose),
    "unsqueeze": shape.unsqueeze,
    "squeeze": shape.squeeze,
    "expand": shape.expand,
    "slice": shape.part,
    "index_select": shape.split(1),
    **dict.fromkeys(("split", "split_with_sizes"), shape.split(2)),
    "unbind": shape.position(1),
    "select": shape.position(1),
    "cat": shape.cat,
    "stack": shape.stack,
    "embedding": shape.embedding,
    "index": shape.index,
}
"""By the operation's name without `aten.` and, in place, without its last underscore."""

REARRANGING = frozenset(
    (shape.same, shape.view, shape.permute, shape.transpose, shape.unsqueeze, shape.squeeze, shape.expand)
)
"""What leaves all numbers as they are: a layer's weight stays one."""
