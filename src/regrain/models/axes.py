"""Which axes of a value carry which channels: channels that meet position by position become one set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class Channels:
    """A set of `count` channels, from 0 on; part of another set once it has met it.

    `why` is what keeps them from being removed, None as long as nothing does.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.why: str | None = None
        self._into: Axis | None = None

    def now(self) -> Axis:
        """The set that it is part of by now; `span` consecutive channels of it are one of that set's."""
        node, span = self, 1
        while (into := node._into) is not None:
            node, span = into.channels, span * into.span
        return Axis(node, span)

    def block(self, why: str) -> None:
        """They can't be removed; the first reason stays."""
        channels = self.now().channels
        channels.why = channels.why or why

    def join(self, other: Channels, span: int) -> None:
        """`span` consecutive channels of `other` are one of these from now on. Both must not be part of others yet."""
        other._into = Axis(self, span)
        self.why = self.why or other.why


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that carries channels: `span` consecutive positions are one of them."""

    channels: Channels
    span: int = 1

    def now(self) -> Axis:
        """The same axis in terms of the set that its channels are part of by now."""
        axis = self.channels.now()
        return Axis(axis.channels, axis.span * self.span)


Axes = tuple[Axis | None, ...]
"""An entry for each axis of a tensor: None where it carries no channels. An axis of one position never does."""


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of a tensor. `weight`: the name of the layer's weight that it is, its axes in whatever order."""

    axes: Axes
    weight: str | None = None


def meet(axes: Iterable[Axis | None], where: str) -> Axis | None:
    """What an axis carries where axes of one length meet position by position, `where` for people.

    Their channels are the same from now on; they are blocked where channels meet what is none, or only a part of
    another channel.
    """
    every = list(axes)
    found = [axis for axis in every if axis is not None]
    for axis in found if len(found) < len(every) else ():
        axis.channels.block(f"they meet values that are not channels of a layer: {where}")
    for other in found[1:]:
        _join(found[0].now(), other.now(), where)
    return found[0] if found else None


def _join(one: Axis, other: Axis, where: str) -> None:
    """Of a position i, one set has the channel i // one.span, the other i // other.span."""
    if one.span < other.span:
        one, other = other, one
    if one.channels is other.channels and one.span == other.span:
        return
    if one.channels is other.channels or one.span % other.span:
        for axis in (one, other):
            axis.channels.block(f"they meet other channels of the same layers: {where}")
        return
    one.channels.join(other.channels, one.span // other.span)
