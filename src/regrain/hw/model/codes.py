"""Granularities as numbers of two bits, as they stand in descriptors, registers and streams."""

from __future__ import annotations

from enum import IntEnum

from regrain.core.granularity import Granularity


class Code(IntEnum):
    """Finest first, as in `Granularity`; 3 is none of them.

    >>> Code.of(Granularity.MEDIUM), Code.COARSE.granularity
    (<Code.MEDIUM: 1>, <Granularity.COARSE: 'coarse'>)
    """

    FINE = 0
    MEDIUM = 1
    COARSE = 2

    @classmethod
    def of(cls, granularity: Granularity) -> Code:
        """The number of a granularity."""
        return cls(tuple(Granularity).index(granularity))

    @property
    def granularity(self) -> Granularity:
        """What the number stands for."""
        return tuple(Granularity)[self]
