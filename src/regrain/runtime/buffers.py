"""The two halves of a double buffer: while one is served from, the next layout is built in the other."""

from __future__ import annotations

import weakref

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.panels import Panels

Bytes = NDArray[np.uint8]

HALVES = 2
"""So many are kept for reuse. A third is needed only while a call still reads the one before the last."""


class Buffers:
    """Memory of values. A half is idle as soon as nobody refers to the values in it any more: no layout in force, no
    call that is under way, nobody who has kept a layout.
    """

    def __init__(self) -> None:
        self._halves: list[tuple[Bytes, weakref.ref[NDArray[np.generic]]]] = []

    def idle(self) -> Bytes | None:
        """Bytes that may be overwritten; None if there are none."""
        found = [bytes_ for bytes_, values in self._halves if values() is None]
        return max(found, key=lambda half: half.size, default=None)

    def used(self, panels: Panels) -> None:
        """These values are in use from now on."""
        values = panels.arrays.values
        memory = values if values.base is None else values.base
        assert isinstance(memory, np.ndarray)
        others = [half for half in self._halves if half[0] is not memory]
        self._halves = [*others[-(HALVES - 1) :], (memory, weakref.ref(values))]
