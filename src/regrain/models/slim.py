"""Models with fewer channels: removed for good, so that what is left is an ordinary, smaller model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regrain.core.errors import TaskError
from regrain.models.trace import is_tensor, layers_of, outputs_of, ties, watch

if TYPE_CHECKING:
    import torch

    from regrain.models.channels import Group


def slim(model: torch.nn.Module, kept: Mapping[Group, Sequence[int]]) -> None:
    """Remove all channels of each group but those `kept`: ascending numbers from 0, one or more.

    Then, f_slim(x) = f(x) with the removed channels' columns zeroed in the group's users. Weights, biases and what
    batch norms have become smaller in place, with their dtypes, devices and `requires_grad`; they are new tensors,
    without gradients, that an optimizer made before doesn't know. Other groups of the same model stay valid.

    Raises TaskError, with the model as it was, for numbers that can't be kept or a group that isn't this model's.
    """
    state = model.state_dict(keep_vars=True)
    smaller = {name: tensor.detach() for name, tensor in state.items() if is_tensor(tensor)}
    touched: set[str] = set()
    for group, numbers in kept.items():
        chosen = _checked(group, numbers, smaller)
        for name in (*group.makers, *group.vectors):
            smaller[name] = smaller[name].index_select(0, chosen.to(smaller[name].device))
        for name, span in zip(group.users, group.spans, strict=True):
            smaller[name] = smaller[name].index_select(1, positions(chosen, span).to(smaller[name].device))
        touched |= {*group.makers, *group.vectors, *group.users}
    _refuse_tied(touched, state)
    replace(model, {name: smaller[name] for name in touched})


def fit(model: torch.nn.Module, state: Mapping[str, torch.Tensor | Sequence[int]]) -> None:
    """Give a model the shapes that tensors of the same names have in the state of a slim one, then their numbers.

    `state` has tensors, as in `fit(load_model(), load_file("slim.safetensors"))`, or only shapes, and numbers are
    undefined where shapes change then. Names that the model doesn't have are left out; a tied weight needs one name.

    Raises TaskError, with the model as it was, for shapes that contradict each other or that the model can't have.
    """
    import torch

    own = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if is_tensor(tensor)}
    shapes = {name: _shape(name, value) for name, value in state.items() if name in own}
    changed = {name: shape for name, shape in shapes.items() if shape != tuple(own[name].shape)}
    numbers = {name: value for name, value in state.items() if name in own and isinstance(value, torch.Tensor)}
    tied = ties(own)
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    lacking = [name for name in own if name in trained and name not in state and tied.get(name) not in state]
    if lacking and (numbers or not shapes):
        raise TaskError(f"the slim state must have every weight of the model, and lacks {lacking[0]!r}")
    _refuse_tied(changed, own)
    for name, shape in changed.items():
        _check_shape(model, name, tuple(own[name].shape), shape)
    _check_modules(own, changed)
    replace(model, {name: own[name].detach().new_empty(shape) for name, shape in changed.items()})
    model.load_state_dict(numbers, strict=False)


def multiply_adds(model: torch.nn.Module, call: Callable[[], object]) -> dict[str, int]:
    """Multiply-adds per example with the weight of each linear layer and convolution, 0 where the call doesn't use it.

    They are counted as the call is made: positions x rows x columns, padding included. An example is a row of the first
    tensor that the call gives back. Products without such a weight, as in attention, are left out, and so are biases.
    Raises what the call raises, and TaskError if it gives back no row.
    """
    trace, result = watch(model, call)
    outputs = outputs_of(result)
    examples = outputs[0].shape[0] if outputs and outputs[0].dim() else 0
    if not examples:
        raise TaskError(f"the call must give back a tensor with a row for each example, not {result!r:.80}")
    return {name: round(trace.work.get(name, 0) / examples) for name in trace.layers}


def positions(channels: torch.Tensor, span: int) -> torch.Tensor:
    """Where channels are on an axis with `span` positions for each: (n,) to (n * span,)."""
    import torch

    return (channels[:, None] * span + torch.arange(span)).flatten()


def replace(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put tensors of any shapes into their modules, which know of their sizes then; a parameter as it is."""
    import torch.nn as nn

    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, leaf)
        if isinstance(old, nn.Parameter) and not isinstance(tensor, nn.Parameter):
            tensor = nn.Parameter(tensor, old.requires_grad)
        setattr(module, leaf, tensor)
        if isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            rows, columns = module.weight.shape[:2]
            module.groups = rows if module.groups > 1 else 1  # a depth-wise one: no other with groups gets new shapes
            module.out_channels, module.in_channels = rows, columns * module.groups
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.num_features = len(tensor)
        elif isinstance(module, nn.PReLU):
            module.num_parameters = len(tensor)


def _checked(group: Group, numbers: Sequence[int], state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    import torch

    for names, axis, spans in (
        ((*group.makers, *group.vectors), 0, (1,) * (len(group.makers) + len(group.vectors))),
        (group.users, 1, group.spans),
    ):
        for name, span in zip(names, spans, strict=True):
            shape = tuple(state[name].shape) if name in state else ()
            if len(shape) <= axis or shape[axis] != group.channels * span:
                raise TaskError(
                    f"{name!r} must have {group.channels * span} {('rows', 'columns')[axis]} for its group, not the "
                    f"shape {shape}: find the groups of this model"
                )
    chosen = list(numbers)
    if not chosen or any(not 0 <= number < group.channels for number in chosen) or chosen != sorted(set(chosen)):
        raise TaskError(
            f"channels of {group.makers[0]!r} to keep must be ascending numbers from 0 to {group.channels - 1}, one or "
            f"more, not {chosen!r:.80}"
        )
    return torch.tensor(chosen, dtype=torch.int64)


def _refuse_tied(names: Collection[str], state: Mapping[str, torch.Tensor]) -> None:
    """Raises TaskError."""
    tied = ties({name: tensor for name, tensor in state.items() if is_tensor(tensor)})
    for name in names:
        if name in tied:
            raise TaskError(f"{name!r} must keep its shape: it is tied to {tied[name]!r}")


def _check_shape(model: torch.nn.Module, name: str, own: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Whether a tensor can have another shape. Raises TaskError."""
    layer: Any = layers_of(model).get(name)
    if layer is None:
        free = 1 if _takes_vectors(model.get_submodule(name.rpartition(".")[0])) else 0
    elif getattr(layer, "groups", 1) == 1:
        free = 2
    else:
        free = 1 if layer.groups == layer.in_channels == layer.out_channels else 0
    fits = len(shape) == len(own) and len(own) >= free and shape[free:] == own[free:]
    if not fits or not all(1 <= new <= old for new, old in zip(shape, own, strict=True)):
        raise TaskError(
            f"{name!r} must have the model's shape {own}, or fewer channels where channels can be removed, not {shape}"
        )


def _takes_vectors(module: torch.nn.Module) -> bool:
    """Whether the entries of a module's vectors are its channels'. What isn't PyTorch's own is trusted."""
    import torch.nn as nn

    known = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)
    return isinstance(module, known) or not type(module).__module__.startswith("torch.nn.")


def _check_modules(own: Mapping[str, torch.Tensor], changed: Mapping[str, tuple[int, ...]]) -> None:
    """Whether tensors of a module that have one length still do. Raises TaskError."""
    for name in changed:
        for other, tensor in own.items():
            beside = other.rpartition(".")[0] == name.rpartition(".")[0] and tensor.dim() > 0
            if beside and len(tensor) == len(own[name]):
                lengths = [changed.get(one, tuple(own[one].shape))[0] for one in (name, other)]
                if lengths[0] != lengths[1]:
                    raise TaskError(f"{name!r} and {other!r} must have the same number of channels, not {lengths}")


def _shape(name: str, value: torch.Tensor | Sequence[int]) -> tuple[int, ...]:
    """Raises TaskError for what is neither a tensor nor a shape."""
    if is_tensor(value):
        return tuple(value.shape)  # type: ignore[union-attr]
    if isinstance(value, Sequence) and all(isinstance(length, int) for length in value):
        return tuple(value)
    raise TaskError(f"{name!r} must be a torch tensor or a shape in the slim state, not {type(value).__name__}")
