"""Calls of a model, operation by operation: what each reads and makes, and in which module's call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from regrain.models.operation import tensors_of
from regrain.models.trace import evaluating


@dataclass(frozen=True, slots=True)
class Made:
    """A value that an operation makes, or takes from outside of the call."""

    number: int


@dataclass(frozen=True, slots=True)
class Held:
    """A parameter or buffer of the model, by its name in the state."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """An operation of PyTorch's dispatcher, and the values that it makes. In `args`, values stand for tensors; one that
    is changed in place has another number from there on. Of a view, the shape is that of what it makes. What is done
    outside of the model is "outside" if it reads what the model has read or made, and else no step.
    """

    name: str
    args: tuple[object, ...]
    made: tuple[Made, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The call of a module: its operations begin .. end - 1, one tensor in and one out."""

    path: str
    begin: int
    end: int
    input: Made
    output: Made


@dataclass(frozen=True, slots=True)
class Recording:
    """Of all calls: the same `steps` and `spans`, the latter by the paths of modules that were called once with one
    tensor and gave back one. `shapes` (of the last call) and `ranges` (the least and the greatest of all calls) are of
    values.
    """

    steps: tuple[Step, ...]
    spans: dict[str, Span]
    shapes: dict[Made, tuple[int, ...]]
    ranges: dict[Made, tuple[float, float]]


def record(model: nn.Module, calls: Callable[[], Iterable[object]]) -> Recording | None:
    """Watch calls of the model in eval mode, one with each step of `calls`; None if they differ in what they do, or
    there are none.
    """
    whole: Recording | None = None
    with evaluating(model):
        steps = iter(calls())
        while True:
            call = _Call(model)
            before = hooks.register_module_forward_pre_hook(call.enter)
            after = hooks.register_module_forward_hook(call.leave)
            try:
                with call:
                    if next(steps, call) is call:
                        return whole
            finally:
                before.remove()
                after.remove()
            found = call.recording()
            if whole is not None and (found.steps, found.spans) != (whole.steps, whole.spans):
                return None
            whole = found if whole is None else _joined(whole, found)


def _joined(one: Recording, other: Recording) -> Recording:
    pairs = ((value, one.ranges[value], span) for value, span in other.ranges.items())
    ranges = {value: (min(low, span[0]), max(high, span[1])) for value, (low, high), span in pairs}
    return Recording(one.steps, one.spans, other.shapes, ranges)


@dataclass(slots=True)
class _Entered:
    module: nn.Module
    begin: int
    input: Made | None


@dataclass(eq=False)
class _Call(TorchDispatchMode):
    """One call while it goes on. Tensors are kept until it ends, so that no two have one identity."""

    model: nn.Module
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        state = self.model.state_dict(keep_vars=True)
        self._known: dict[int, Made | Held] = {id(value): Held(name) for name, value in reversed(state.items())}
        self._kept: list[Any] = list(state.values())
        self._paths = {id(module): path for path, module in self.model.named_modules()}
        self._inside: list[_Entered] = []
        self._spans: dict[str, list[Span | None]] = {}
        self._count = 0
        self._shapes: dict[Made, tuple[int, ...]] = {}
        self._ranges: dict[Made, tuple[float, float]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:
            result = func.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        given = (*args, *(kwargs or {}).items())
        if not self._inside:
            known = [self._known.get(id(tensor)) for tensor in tensors_of(given)]
            if seen := tuple(value for value in known if isinstance(value, Made)):
                self.steps.append(Step("outside", seen, ()))
            return func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        reads = tuple(self._argument(argument) for argument in (given[:1] if name == "view" else given))
        result = func(*args, **(kwargs or {}))
        made = tuple(self._new(tensor) for tensor in tensors_of(result))
        self.steps.append(Step(name, reads, made))
        return result

    def enter(self, module: nn.Module, args: Any) -> None:
        """A module is called."""
        single = len(args) == 1 and type(args[0]) is Tensor
        value = self._argument(args[0]) if single else None
        self._inside.append(_Entered(module, len(self.steps), value if isinstance(value, Made) else None))

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        """The module that was entered last has done its work."""
        entered = self._inside.pop()
        path, made = self._paths.get(id(module)), self._known.get(id(output))
        if path is None:
            return
        span = None
        if entered.input is not None and isinstance(made, Made):
            span = Span(path, entered.begin, len(self.steps), entered.input, made)
        self._spans.setdefault(path, []).append(span)

    def recording(self) -> Recording:
        """What was seen."""
        spans = {path: found[0] for path, found in self._spans.items() if len(found) == 1 and found[0] is not None}
        self._kept.clear()
        return Recording(tuple(self.steps), spans, self._shapes, self._ranges)

    def _argument(self, value: Any) -> object:
        if isinstance(value, Tensor):
            return self._known.get(id(value)) or self._new(value)
        if isinstance(value, list | tuple):
            return tuple(self._argument(item) for item in value)
        return value

    def _new(self, tensor: Tensor) -> Made:
        made = Made(self._count)
        self._count += 1
        self._known[id(tensor)] = made
        self._kept.append(tensor)
        self._shapes[made] = tuple(tensor.shape)
        if tensor.is_floating_point() and tensor.numel():
            with _disable_current_modes():
                low, high = torch.aminmax(tensor.detach())
                self._ranges[made] = float(low), float(high)
        return made
