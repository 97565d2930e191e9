"""How far the weights of a lossy artifact are from the original's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.dtypes import Bytes, numpy_dtype
from regrain.core.errors import CorruptArtifactError


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor beside the original's, over all its elements.

    `largest`: the largest |difference|. `steps`: the largest in units of the element's scale, None where there is none.
    `relative`: root of the mean square of the differences over that of the original; 0 for an empty tensor.
    """

    name: str
    largest: float
    steps: float | None
    relative: float

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {"name": self.name, "largest": self.largest, "steps": self.steps, "relative": self.relative}


class Differences:
    """Gathers the differences of one tensor after the other, each given in pieces."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    def add(self, name: str, dtype: str, found: Bytes, wanted: Bytes, scales: NDArray[np.float32] | None) -> None:
        """Bytes of a tensor, those of the original's in their place, and the scale of each element if it has any.

        Raises CorruptArtifactError where they differ and one of the two is not finite.
        """
        kind = numpy_dtype(dtype)
        mine, other = found.view(kind), wanted.view(kind)
        same = (found.reshape(mine.size, -1) == wanted.reshape(mine.size, -1)).all(axis=1)
        original = np.where(same, 0, other).astype(np.float64)
        off = np.abs(np.where(same, 0, mine).astype(np.float64) - original)
        if not np.isfinite(off).all():
            raise CorruptArtifactError("weights must be finite where they differ from the original's", tensor=name)
        sums = self._sums.setdefault(name, _Sums())
        sums.largest = max(sums.largest, float(off.max(initial=0.0)))
        if scales is not None:
            sums.steps = max(sums.steps or 0.0, float((off / scales).max(initial=0.0)))
        sums.error += float(np.square(off).sum())
        values = other.astype(np.float64)
        sums.power += float(np.square(values[np.isfinite(values)]).sum())

    def all(self) -> tuple[Difference, ...]:
        """One of each tensor, in the order they came."""
        return tuple(
            Difference(name, sums.largest, sums.steps, math.sqrt(sums.error / sums.power) if sums.power else 0.0)
            for name, sums in self._sums.items()
        )


class _Sums:
    largest = 0.0
    steps: float | None = None
    error = 0.0
    power = 0.0
