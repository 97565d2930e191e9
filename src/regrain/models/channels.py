"""Channels that can be removed together: the rows that make them in some layers, the columns they meet in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regrain.models.axes import Channels
from regrain.models.slim import positions, replace, slim
from regrain.models.trace import Trace, evaluating, layers_of, outputs_of, watch

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-5
"""By how much, relative to the greatest output, an output may change where nothing that counts does."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that are only removed from all these tensors at once, which are named as in the state dict.

    The row c of each of `makers` makes the channel c, out of the channel c if it is of a depth-wise convolution. Entry
    c of each of `vectors` belongs to it: biases, the factors and statistics of batch norms. Of `users[i]`, it meets the
    columns c * spans[i] to (c + 1) * spans[i] - 1: more than one where positions in space were flattened. Rows and
    columns are a weight's first and second axis; a weight may be among makers and users.
    """

    makers: tuple[str, ...]
    vectors: tuple[str, ...]
    users: tuple[str, ...]
    spans: tuple[int, ...]
    channels: int


@dataclass(frozen=True, slots=True)
class Found:
    """Groups of channels that can be removed, and of all other linear layers and convolutions why theirs can't: by the
    name of the weight, in words.
    """

    groups: tuple[Group, ...]
    why: Mapping[str, str]


def channel_groups(model: torch.nn.Module, call: Callable[[], object]) -> Found:
    """The channels of linear layers and convolutions that can be removed, so that nothing but their part is missing.

    `call` uses the model for an example or more and gives back all that counts: `lambda: model(inputs)`. It is made
    in eval mode four times or more. A group is given out only if, where some of its channels aren't used, the call
    gives the same when they are changed and when they are removed. What the call doesn't reach isn't known: where the
    model decides by its inputs what to compute, other calls may find other groups.

    Never raises: where the call fails or can't be followed, there are no groups, and `why` says so.
    """
    try:
        trace, result = watch(model, call)
        outputs = outputs_of(result)
        for tensor in outputs:
            for axis in trace.value(tensor).axes:
                if axis is not None:
                    axis.channels.block("its channels reach the output")
        if not outputs:
            raise TypeError(f"the call gives back no tensor but {type(result).__name__}")
        candidates, why = _groups(trace)
        failed = _failed(model, call, candidates)
    except MemoryError:
        raise
    except Exception as error:
        return Found((), dict.fromkeys(layers_of(model), f"graph could not be traced: {_told(error)}"))
    why |= {name: fault for group, fault in failed.items() for name in group.makers}
    groups = tuple(group for group in candidates if group not in failed)
    return Found(groups, {name: why[name] for name in trace.layers if name in why})


def _groups(trace: Trace) -> tuple[list[Group], dict[str, str]]:
    """The groups by what operations did, and reasons for the other layers."""
    members: dict[Channels, list[tuple[str, int, int]]] = {}  # name, axis of the weight, span
    why: dict[str, str] = {}
    for name, axes in trace.channels.items():
        for at, axis in enumerate(axes):
            if axis is not None:
                now = axis.now()
                members.setdefault(now.channels, []).append((name, at, now.span))
            elif at == 0 and name in trace.layers:
                why[name] = "it has one channel only"
    groups = []
    for channels, found in members.items():
        makers = tuple(name for name, at, _ in found if name in trace.layers and at == 0)
        users = tuple((name, span) for name, at, span in found if at == 1)
        own = [(name, span) for name, at, span in found if at == 0]
        reason = channels.why or _reason(trace, own, users)
        if reason is not None:
            why |= dict.fromkeys(makers, reason)
        elif makers:
            vectors = tuple(name for name, _ in own if name not in makers)
            names, spans = zip(*users, strict=True)
            groups.append(Group(makers, vectors, names, spans, channels.count))
    why |= {name: "not used in this call" for name in trace.layers if name not in trace.work}
    why |= {name: f"tied to {trace.tied[name]!r}" for name in trace.layers if name in trace.tied}
    return groups, why


def _reason(trace: Trace, own: Sequence[tuple[str, int]], users: Sequence[tuple[str, int]]) -> str | None:
    """Why channels that nothing blocks can't be removed; `own` is what makes them and belongs to them."""
    if not users:
        return "no layer uses its channels in this call"
    for name, _ in (*own, *users):
        if name in trace.tied:
            return f"tied to {trace.tied[name]!r}"
    for name, span in own:
        if span != 1:
            return f"{name!r} has {span} numbers for each of its channels"
    return None


def _failed(model: torch.nn.Module, call: Callable[[], object], groups: Sequence[Group]) -> dict[Group, str]:
    """The groups that can't be removed when it is tried, with reasons. All are tried at once first."""
    if not groups or _fault(model, call, groups) is None:
        return {}
    faults = {group: _fault(model, call, [group]) for group in groups}
    return {group: fault for group, fault in faults.items() if fault is not None}


def _fault(model: torch.nn.Module, call: Callable[[], object], groups: Sequence[Group]) -> str | None:
    """What is wrong when some channels of each group aren't used: if they change, and if they are removed."""
    import torch

    random = torch.Generator().manual_seed(0)
    orders = [torch.randperm(group.channels, generator=random) for group in groups]
    chosen = {group: order[: max(1, min(2, len(order) // 2))] for group, order in zip(groups, orders, strict=True)}
    with _changed(model, chosen, made=False):
        before = [tensor.clone() for tensor in _outputs(model, call)]
    with _changed(model, chosen, made=True):
        if not _close(before, _outputs(model, call), lambda _: TOLERANCE):
            return "the outputs depend on its channels even where no layer uses them"
    try:
        with _removed(model, chosen):
            after = _outputs(model, call)
    except Exception as error:
        return f"the model can't run with fewer of its channels: {_told(error)}"
    # Sums of fewer terms are rounded in another order.
    if not _close(before, after, lambda dtype: torch.finfo(dtype).eps ** 0.5):
        return "the model computes something else with fewer of its channels"
    return None


def _outputs(model: torch.nn.Module, call: Callable[[], object]) -> list[torch.Tensor]:
    with evaluating(model):
        return outputs_of(call())


@contextmanager
def _changed(model: torch.nn.Module, chosen: Mapping[Group, torch.Tensor], *, made: bool) -> Iterator[None]:
    """Inside, those channels of each group aren't used, and with `made` they are others, too."""
    state = model.state_dict()
    saved: list[tuple[torch.Tensor, tuple[slice | torch.Tensor, ...], torch.Tensor]] = []

    def change(name: str, index: tuple[slice | torch.Tensor, ...], factor: float, shift: float) -> None:
        tensor = state[name]
        saved.append((tensor, index, tensor[index]))  # a copy: there is an index by numbers in it
        tensor[index] = tensor[index] * factor + shift

    try:
        for group, channels in chosen.items() if made else ():
            for name in (*group.makers, *group.vectors):
                change(name, (channels,), 1.5, 0.05)  # variances stay positive
        for group, channels in chosen.items():
            for name, span in zip(group.users, group.spans, strict=True):
                change(name, (slice(None), positions(channels, span)), 0.0, 0.0)
        yield
    finally:
        for tensor, index, value in reversed(saved):
            tensor[index] = value


@contextmanager
def _removed(model: torch.nn.Module, chosen: Mapping[Group, torch.Tensor]) -> Iterator[None]:
    """Inside, the model is without those channels; what is put back is the very tensors it had."""
    state = model.state_dict(keep_vars=True)
    layers = [
        layer for name, layer in layers_of(model).items() if any(name in group.makers + group.users for group in chosen)
    ]
    sizes = [dict(vars(layer)) for layer in layers]
    kept = {group: sorted(set(range(group.channels)) - set(gone.tolist())) for group, gone in chosen.items()}
    try:
        slim(model, kept)
        yield
    finally:
        names = {name for group in chosen for name in (*group.makers, *group.vectors, *group.users)}
        replace(model, {name: state[name] for name in names})
        for layer, before in zip(layers, sizes, strict=True):
            vars(layer).update(before)


def _close(
    before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], tolerance: Callable[[torch.dtype], float]
) -> bool:
    """Whether all is equal, or nearly so for numbers that aren't whole: relative to the greatest in each tensor."""
    if [(one.shape, one.dtype) for one in before] != [(other.shape, other.dtype) for other in after]:
        return False
    for one, other in zip(before, after, strict=True):
        apart = (one != other) & ~((one != one) & (other != other))  # NaN is equal to NaN here
        if bool(apart.any()):
            if not one.is_floating_point():
                return False
            largest = one[one.isfinite()].abs().max()
            if not bool((one[apart] - other[apart]).abs().max() <= tolerance(one.dtype) * largest):
                return False
    return True


def _told(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return type(error).__name__ + (f": {reason}" if reason else "")
