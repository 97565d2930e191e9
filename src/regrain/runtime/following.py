"""A module's call as a stretch of convolutions: its operations are followed one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from regrain.runtime.layers import layers_of, obstacle
from regrain.runtime.recording import Held, Made, Recording, Span, Step


@dataclass(frozen=True, slots=True)
class Link:
    """A convolution and what follows it: the normalization of its maps, map `added` (0 is the input), zeros for what is
    below 0. `weight` is the name of its weight, `norm` the path of the normalization; `range` has the least and the
    greatest number of its maps.
    """

    source: int
    weight: str
    norm: str | None = None
    added: int | None = None
    rectified: bool = False
    range: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The call of a module with images of `shape`, whose numbers are in `range`: squares of `folded` x `folded`
    positions become channels, then come the links in turn. `means`: it gives those of the last map's channels, or what
    the linear layer whose weight is `head` makes of them.
    """

    shape: tuple[int, int, int]
    range: tuple[float, float]
    folded: int
    links: tuple[Link, ...]
    means: bool
    head: str | None


class OtherwiseError(Exception):
    """Something else goes on in the call."""


@dataclass(frozen=True, slots=True)
class _Mean:
    """The means of a map's channels; with `head`, what that makes of them."""

    head: str | None = None


@dataclass(frozen=True, slots=True)
class _Turned:
    """The transpose of a linear layer's weight."""

    name: str


_State = int | _Mean | _Turned
"""What a value is: a map by its number, or what comes after the last."""


@dataclass(eq=False)
class Follower:
    """Goes through the operations of a module's call."""

    model: nn.Module
    recording: Recording
    span: Span
    links: list[Link] = field(default_factory=list)
    folded: int = 1

    def __post_init__(self) -> None:
        steps = self.recording.steps
        self._inside = steps[self.span.begin : self.span.end]
        self._uses: Counter[object] = Counter(value for step in self._inside for value in _values(step.args))
        self._uses[self.span.output] += 1
        outside = Counter(
            value for step in (*steps[: self.span.begin], *steps[self.span.end :]) for value in _values(step.args)
        )
        made = {value for step in self._inside for value in step.made}
        if any(value in made and value != self.span.output for value in outside):
            raise OtherwiseError
        self._layers = {layer.name: layer for layer in layers_of(self.model) if obstacle(layer) is None}
        self._states: dict[object, _State] = {self.span.input: 0}

    def stretch(self) -> Stretch:
        """All of it. Raises OtherwiseError."""
        for step in self._inside:
            if step.made and not step.name.endswith("_") and not any(self._uses[value] for value in step.made):
                continue  # such as room that a normalization asks for, and needs in training only
            state = self._rule(step)(self, step)
            for value in step.made[:1]:
                self._states[value] = state
                if isinstance(state, int) and state:
                    self.links[state - 1] = replace(self.links[state - 1], range=self._range(value))
        last = self._states.get(self.span.output)
        shape = self.recording.shapes[self.span.input]
        if len(shape) != 4 or last is None or isinstance(last, _Turned):
            raise OtherwiseError
        if last != len(self.links) if isinstance(last, int) else len(self.recording.shapes[self.span.output]) != 2:
            raise OtherwiseError
        head = last.head if isinstance(last, _Mean) else None
        span = self._range(self.span.input)
        return Stretch(shape[1:], span, self.folded, tuple(self.links), isinstance(last, _Mean), head)

    def _rule(self, step: Step) -> _Rule:
        rule, least = _RULES.get(step.name.removesuffix("_"), (None, 0))
        given = step.name.endswith("_") and step.args[0] == self.span.input  # the caller's own tensor would change
        if rule is None or len(step.args) < least or given:
            raise OtherwiseError
        return rule

    def map(self, value: object) -> int:
        """The number of a map."""
        state = self._states.get(value)
        if not isinstance(state, int):
            raise OtherwiseError
        return state

    def open(self, value: object) -> Link:
        """The link whose map a value is, if nothing but the next operation reads it."""
        number = self.map(value)
        if number == 0 or self._uses[value] != 1:
            raise OtherwiseError
        return self.links[number - 1]

    def single(self, value: object) -> None:
        """Nothing but the next operation reads a value."""
        if self._uses[value] != 1:
            raise OtherwiseError

    def unshuffle(self, step: Step) -> _State:
        """PixelUnshuffle of the input."""
        self.single(step.args[0])
        if step.args[0] != self.span.input or self.links or self.folded != 1:
            raise OtherwiseError
        self.folded = int(step.args[1])  # type: ignore[call-overload]
        return 0

    def convolution(self, step: Step) -> _State:
        """A new link: with a layer's weight, all else must be the layer's, too."""
        value, weight, bias, stride, padding, dilation, transposed, _, groups = step.args[:9]
        source = self.map(value)
        if not isinstance(weight, Held) or weight.name not in self._layers:
            raise OtherwiseError
        window = self._layers[weight.name].window
        if window is None or (window.stride, window.padding, window.dilation) != (stride, padding, dilation):
            raise OtherwiseError
        if transposed or groups != 1 or not self._own_bias(weight.name, bias):
            raise OtherwiseError
        self.links.append(Link(source, weight.name))
        return len(self.links)

    def norm(self, step: Step) -> _State:
        """A batch normalization with fixed statistics: factors of the convolution's rows and biases."""
        value, mean, eps = step.args[0], step.args[3], step.args[-1]
        training = step.name == "native_batch_norm" and step.args[5]
        link, number = self.open(value), self.map(value)
        if training or not isinstance(mean, Held) or link != replace(link, norm=None, added=None, rectified=False):
            raise OtherwiseError
        path = mean.name.rpartition(".")[0]
        norm = self.model.get_submodule(path)
        if not isinstance(norm, nn.BatchNorm2d) or norm.eps != eps:
            raise OtherwiseError
        names = ("weight" if norm.affine else None, "bias" if norm.affine else None, "running_mean", "running_var")
        if step.args[1:5] != tuple(name and Held(f"{path}.{name}" if path else name) for name in names):
            raise OtherwiseError
        self.links[number - 1] = replace(link, norm=path)
        return number

    def add(self, step: Step) -> _State:
        """Of two maps: that which was made last adds the other."""
        one, other = step.args[:2]
        if self.map(one) < self.map(other):
            one, other = other, one
        shapes = self.recording.shapes
        if len(step.args) > 2 or shapes[one] != shapes[other]:  # type: ignore[index]
            raise OtherwiseError
        link, number = self.open(one), self.map(one)
        if link.added is not None or link.rectified or self.map(other) == number:
            raise OtherwiseError
        self.links[number - 1] = replace(link, added=self.map(other))
        return number

    def relu(self, step: Step) -> _State:
        """What is below 0 becomes 0."""
        link, number = self.open(step.args[0]), self.map(step.args[0])
        self.links[number - 1] = replace(link, rectified=True)
        return number

    def mean(self, step: Step) -> _State:
        """Over all positions of the last map."""
        value, dims = step.args[0], step.args[1]
        self.single(value)
        if self.map(value) != len(self.links) or not isinstance(dims, tuple) or {dim % 4 for dim in dims} != {2, 3}:
            raise OtherwiseError
        if any(isinstance(item, tuple) for item in step.args[2:]):  # a dtype
            raise OtherwiseError
        return _Mean()

    def view(self, step: Step) -> _State:
        """Means without the axes of the positions."""
        state = self._states.get(step.args[0])
        self.single(step.args[0])
        if state != _Mean() or len(self.recording.shapes[step.made[0]]) != 2:
            raise OtherwiseError
        return state

    def turn(self, step: Step) -> _State:
        """Of a linear layer's weight."""
        weight = step.args[0]
        if not isinstance(weight, Held) or weight.name not in self._layers:
            raise OtherwiseError
        return _Turned(weight.name)

    def product(self, step: Step) -> _State:
        """A linear layer of the means."""
        *bias, value, turned = step.args[:3]
        weight = self._states.get(turned)
        self.single(value)
        if self._states.get(value) != _Mean() or not isinstance(weight, _Turned) or len(step.args) > 3:
            raise OtherwiseError
        if len(self.recording.shapes[value]) != 2:  # type: ignore[index]
            raise OtherwiseError
        if not self._own_bias(weight.name, bias[0] if bias else None):
            raise OtherwiseError
        return _Mean(weight.name)

    def _own_bias(self, weight: str, bias: object) -> bool:
        """Whether a bias is that of the weight's layer."""
        own = Held(weight.removesuffix("weight") + "bias")
        return bias == (None if self._layers[weight].bias() is None else own)

    def _range(self, value: Made) -> tuple[float, float]:
        found = self.recording.ranges.get(value, (math.nan, math.nan))
        if not all(map(math.isfinite, found)):
            raise OtherwiseError
        return found


_Rule = Callable[[Follower, Step], _State]

_RULES: dict[str, tuple[_Rule, int]] = {
    "pixel_unshuffle": (Follower.unshuffle, 2),
    "convolution": (Follower.convolution, 9),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), (Follower.norm, 7)),
    "add": (Follower.add, 2),
    "relu": (Follower.relu, 1),
    "mean": (Follower.mean, 2),
    "view": (Follower.view, 1),
    "t": (Follower.turn, 1),
    **dict.fromkeys(("addmm", "mm"), (Follower.product, 2)),
}
"""What an operation makes, and how many arguments it must be given."""


def _values(args: Any) -> Iterator[Made]:
    for item in args:
        if isinstance(item, Made):
            yield item
        elif isinstance(item, tuple):
            yield from _values(item)
