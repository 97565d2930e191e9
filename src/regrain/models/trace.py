"""What a call does to the channels of a model's layers: it is made for real, and every operation in it is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from regrain.models.aten import REARRANGING, RULES
from regrain.models.axes import Axes, Axis, Channels, Value
from regrain.models.operation import Operation, mix, pointwise, tensors_of

if TYPE_CHECKING:
    import torch


class Trace:
    """What is known of the values in a call so far.

    `layers` has the weight of each linear layer and convolution by name; `tied[name]` is another name of the same
    tensor. `channels` has what rows and columns of these weights carry, and all other tensors of the state with one
    axis. `work` counts the multiply-adds with each weight.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        self.layers: dict[str, torch.Tensor] = {}
        self.channels: dict[str, Axes] = {}
        self.work: dict[str, int] = {}
        self._values: MutableMapping[torch.Tensor, Value] = WeakTensorKeyDictionary()
        self._modules = {id(module): (path, type(module).__name__) for path, module in model.named_modules()}
        self._inside: list[tuple[str, str]] = []
        self._seed(model)

    def see(self, again: Any, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation; `again` is a context in which operations that it is made of are seen, too."""
        import torch

        with again:  # so that no rule meets the many forms of functions that are made of others
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        name = func.overloadpacket.__name__
        in_place = name.endswith("_") and not name.endswith("__")
        rule = RULES.get(name[:-1] if in_place else name, pointwise if torch.Tag.pointwise in func.tags else mix)
        if "out" in kwargs or (in_place and rule is not pointwise):
            rule = mix
        result = func(*args, **kwargs)
        made = list(tensors_of(result)) or [torch.empty(0)]
        path, kind = self._inside[-1] if self._inside else ("", "")
        op = Operation(
            args=args if rule is not mix else (*args, *kwargs.values()),
            first=made[0],
            where=f"aten.{name}" + (f" in {path!r}" if path else ""),
            norm=path if kind.endswith("Norm") else None,
            value=self.value,
            multiplied=self._multiplied,
        )
        axes = rule(op)
        weight = self.value(args[0]).weight if rule in REARRANGING else None
        for tensor in made:
            if tensor.dim() == len(axes):
                self._values[tensor] = Value(axes, weight)
            elif tensor.numel():
                op.mix(axes)
        return result

    def value(self, tensor: torch.Tensor) -> Value:
        """What is known of a tensor."""
        return self._values.get(tensor) or Value((None,) * tensor.dim())

    def enter(self, module: torch.nn.Module, *_: object) -> None:
        """A module is called."""
        self._inside.append(self._modules.get(id(module), ("", "")))

    def leave(self, *_: object) -> None:
        """The module that was entered last has done its work."""
        self._inside.pop()

    def _multiplied(self, name: str, count: int) -> None:
        self.work[name] = self.work.get(name, 0) + count

    def _seed(self, model: torch.nn.Module) -> None:
        layers = layers_of(model)
        state = {name: value for name, value in model.state_dict(keep_vars=True).items() if is_tensor(value)}
        self.tied = ties(state)
        for name, tensor in state.items():
            if name in layers:
                self.layers[name] = tensor
            elif tensor.dim() != 1:
                continue
            twin = state[self.tied.get(name, name)]
            known = (
                self._values.get(tensor) or self._values.get(twin) or _fresh(tensor, name if name in layers else None)
            )
            self.channels[name] = known.axes[:2]
            self._values[tensor] = known


def _fresh(tensor: torch.Tensor, weight: str | None) -> Value:
    """A tensor of the state before anything is done with it: its rows and columns are channels of their own."""
    axes = (Axis(Channels(length)) if at < 2 and length > 1 else None for at, length in enumerate(tensor.shape))
    return Value(tuple(axes), weight)


def is_tensor(value: object) -> bool:
    """Whether it is a torch tensor: a state can have other things in it."""
    import torch

    return isinstance(value, torch.Tensor)


def ties(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Of each name whose tensor has others, too, the first of these."""
    names: dict[tuple[int, int], list[str]] = {}
    for name, tensor in state.items():
        if tensor.numel() and tensor.data_ptr():
            names.setdefault((tensor.data_ptr(), tensor.numel()), []).append(name)
    return {name: same[name == same[0]] for same in names.values() if len(same) > 1 for name in same}


def layers_of(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The linear layers and convolutions that are not transposed, by the names of their weights."""
    from torch.nn import Conv1d, Conv2d, Conv3d, Linear

    named = model.named_modules(remove_duplicate=False)
    return {
        f"{path}.weight" if path else "weight": module
        for path, module in named
        if isinstance(module, Linear | Conv1d | Conv2d | Conv3d)
    }


def watch(model: torch.nn.Module, call: Callable[[], object]) -> tuple[Trace, object]:
    """Make the call in eval mode and without gradients, and see what it does; also what it gives back."""
    from torch.nn.modules import module as hooks
    from torch.utils._python_dispatch import TorchDispatchMode

    trace = Trace(model)

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return trace.see(self, func, args, kwargs or {})

    with evaluating(model):
        before = hooks.register_module_forward_pre_hook(trace.enter)
        after = hooks.register_module_forward_hook(trace.leave)
        try:
            with Watching():  # type: ignore[no-untyped-call]
                return trace, call()
        finally:
            before.remove()
            after.remove()


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """In eval mode, without gradients, with the same random numbers each time, layer by layer instead of fused."""
    import torch

    training = [module for module in model.modules() if module.training]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module in training:
            module.training = True


def outputs_of(found: object) -> list[torch.Tensor]:
    """All tensors that can be reached in what a call gives back, whatever holds them."""
    import torch

    tensors: list[torch.Tensor] = []
    seen: dict[int, object] = {}
    left = [found]
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, str | bytes | type | torch.nn.Module):
            continue
        seen[id(item)] = item
        if isinstance(item, torch.Tensor):
            tensors.append(item)
        elif isinstance(item, Mapping):
            left.extend(reversed(list(item.values())))
        elif isinstance(item, list | tuple | set | frozenset):
            left.extend(reversed(list(item)))
        else:
            left.extend(getattr(item, "__dict__", {}).values())
    return tensors
