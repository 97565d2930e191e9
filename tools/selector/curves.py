"""Measured models as arrays: what a choice of steps and cells gives, and the best choice for a total loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regrain.planning.selectors.closed_form import Corrections, options
from regrain.planning.selectors.features import features
from regrain.planning.selectors.units import CELLS, Units

Array = NDArray[np.float64]

LOSSES = np.geomspace(3e-5, 0.3, 9)
"""Total losses that choices are made for: those that a model can have."""

_SPACING = 4  # codes of the grid between points of a curve
_OCTAVE = 8  # codes


@dataclass(frozen=True, slots=True)
class Best:
    """What the best choice for a total loss has, and the price of loss, in bytes, that led to it."""

    bytes: float
    loss: float
    price: float


@dataclass(frozen=True, eq=False)
class Model:
    """A measured model of n layers; what `measure.measured` gives, `curve_loss` as natural logarithms."""

    name: str
    family: str
    weights: int
    static: Array
    units: Units
    first: Array
    curve_bytes: Array
    curve_loss: Array

    @classmethod
    def read(cls, path: Path) -> Model:
        """A file of measure.py."""
        with np.load(path) as found:
            arrays = {key: found[key].astype(np.float64) for key in found.files if key not in ("family", "names")}
            family = str(found["family"])
        units = Units(**{field.name: arrays.pop(field.name) for field in fields(Units)})
        arrays["curve_loss"] = np.log(arrays["curve_loss"])
        return cls(path.stem, family, int(arrays.pop("weights")), units=units, **arrays)

    @property
    def last(self) -> Array:
        """Places of the last points of all curves (n, cells), -1 where there is no curve."""
        places: Array = np.isfinite(self.curve_bytes).sum(axis=2) - 1.0
        return places

    def place(self, steps: Array) -> Array:
        """Where steps, as logarithms to base 2 (n,), lie on curves (n, cells), kept within them."""
        return np.clip((_OCTAVE * steps[:, None] - self.first) / _SPACING, 0.0, np.maximum(self.last, 0.0))

    def measured(self, steps: Array, cells: NDArray[np.int64]) -> tuple[float, float]:
        """Bytes and loss of all layers for steps, as logarithms to base 2, (n,), and cells (n,), -1 for lossless."""
        rows = np.flatnonzero(cells >= 0)
        places = self.place(steps)[rows, cells[rows]]
        low = np.minimum(np.floor(places), np.maximum(self.last[rows, cells[rows]] - 1, 0)).astype(int)
        high = np.minimum(low + 1, self.last[rows, cells[rows]].astype(int))
        part = places - low
        between = [
            curve[rows, cells[rows], low] * (1 - part) + curve[rows, cells[rows], high] * part for curve in self._curves
        ]
        return float(between[0].sum() + self.units.lossless[cells < 0].sum()), float(np.exp(between[1]).sum())

    def _best(self, loss: float) -> tuple[Array, NDArray[np.int64], float]:
        """The best steps, cells and price of loss in bytes for a total loss, of all codes, by bisection."""
        low, high = 1e-6, 1e18
        for _ in range(100):
            price = float(np.sqrt(low * high))
            if self._choice(price)[2] <= loss:
                high = price
            else:
                low = price
        steps, cells, _ = self._choice(high)
        return steps, cells, high

    def _choice(self, price: float) -> tuple[Array, NDArray[np.int64], float]:
        bytes_, loss = self._fine
        cost = bytes_ + price * loss
        flat = cost.reshape(len(cost), -1)
        picks = np.nanargmin(np.where(np.isnan(flat), np.inf, flat), axis=1)
        rows = np.arange(len(flat))
        cells, at = np.divmod(picks, bytes_.shape[2])
        keep = flat[rows, picks] >= self.units.lossless
        chosen = np.where(keep, -1, cells)
        total = np.where(keep, 0.0, loss.reshape(len(cost), -1)[rows, picks]).sum()
        return (self.first[rows, cells] + at) / _OCTAVE, chosen, float(total)

    @cached_property
    def _fine(self) -> tuple[Array, Array]:
        """Bytes and loss of every code (n, cells, codes)."""
        points = np.arange(_SPACING * (self.curve_bytes.shape[2] - 1) + 1) / _SPACING
        low = np.floor(points).astype(int)
        high, part = np.ceil(points).astype(int), points - low
        # The last point of a curve that ends early has no neighbor to its right.
        made = [c[:, :, low] + np.where(part > 0, part * (c[:, :, high] - c[:, :, low]), 0.0) for c in self._curves]
        return made[0], np.exp(made[1])

    @property
    def _curves(self) -> tuple[Array, Array]:
        return self.curve_bytes, self.curve_loss

    @cached_property
    def bests(self) -> dict[float, Best]:
        """The best choices by total loss, for those of LOSSES that they can make use of: beyond, everything is as
        coarse as it can be.
        """
        found = {}
        for loss in map(float, LOSSES):
            steps, cells, price = self._best(loss)
            size, reached = self.measured(steps, cells)
            if reached > 0.9 * loss:
                found[loss] = Best(size, reached, price)
        return found

    def inputs(self, loss: float) -> tuple[Array, Array, Array]:
        """Features, and the closed form's steps and costs, for a total loss."""
        steps, costs = options(self.units, loss / self.units.count.sum())
        return features(self.static, self.units, steps, costs), steps, costs

    def regret(self, loss: float, known: Corrections) -> float:
        """Bits a weight that the closed form with corrections takes more than the best choice, both at that total loss:
        all its steps are scaled until it has it.
        """
        _, steps, costs = self.inputs(loss)
        cells = np.argmin(costs + known.bits, axis=1)
        cells[cells == len(CELLS)] = -1
        steps = np.log2(steps[np.arange(len(cells)), cells]) + known.octaves
        best = self.bests[loss]
        found = np.array([self.measured(steps + shift, cells) for shift in np.linspace(-3.0, 3.0, 97)])
        order = np.argsort(found[:, 1])
        size = np.interp(np.log(best.loss), np.log(found[order, 1] + 1e-300), found[order, 0])
        return 8.0 * float(size - best.bytes) / self.weights


def read_all(work: Path) -> list[Model]:
    """All measured models, by name."""
    return [Model.read(path) for path in sorted(work.glob("*.npz"))]


def families(models: Sequence[Model]) -> list[str]:
    """Their families, each once."""
    return sorted({model.family for model in models})
