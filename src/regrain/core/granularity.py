"""Granularity: the unit at which weights are kept, dropped or described."""

from __future__ import annotations

from enum import StrEnum


class Granularity(StrEnum):
    """The three units, finest first. A unit is a union of whole units of each finer granularity.

    >>> Granularity("medium").refines(Granularity.COARSE), Granularity.MEDIUM.refines(Granularity.FINE)
    (True, False)
    """

    FINE = "fine"  # one weight
    MEDIUM = "medium"  # a block of weights
    COARSE = "coarse"  # a channel, a filter or a feature map

    def refines(self, other: Granularity) -> bool:
        """True if every unit of `other` is a union of units of `self`: a total order, reflexive."""
        order = tuple(Granularity)
        return order.index(self) <= order.index(other)
