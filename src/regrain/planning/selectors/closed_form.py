"""Equal slopes in closed form: the step of every tensor from its size and its sensitivity, without trying any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.recipe import LayerPlan, Method
from regrain.planning.layer import Layer
from regrain.planning.selectors.protocol import solution, within
from regrain.planning.selectors.units import CELLS, Array, Units, lossless, units_of, unused
from regrain.planning.solve import Solution

CREDIT = 1 / (2 * math.log(2))
"""Bits a weight that all its expected loss is worth, where every weight causes the same: the price of loss."""

_PASSES = 3
_HALVINGS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What a selector knows better: octaves by which steps (n,) are coarser, and bits a weight that each cell and
    lossless cost more (n, cells + 1).
    """

    octaves: Array
    bits: Array


def options(units: Units, share: float) -> tuple[Array, Array]:
    """Steps (n, cells) where each weight causes the expected loss `share`, and what they are predicted to cost: bits a
    weight plus the price of loss (n, cells + 1), lossless last, infinite where a tensor can't have a cell.

    Bits are -log2 of the step, so they are least where slope s^2 / N is the same for all (docs/quantization.md, 3).
    """
    steps = units.within(np.sqrt(share * units.count[:, None] / units.slope))
    used = units.loss(steps) / (share * units.count[:, None])
    costs = 8.0 * units.bytes(steps) / units.count[:, None] + CREDIT * used
    whole = np.concatenate([costs, (8.0 * units.lossless / units.count)[:, None]], axis=1)
    return steps, np.where(np.isnan(whole), np.inf, whole)


class ClosedForm:
    """Plans from a closed form. What loss lossless tensors leave is the others'; then all steps are scaled until the
    predicted loss is the one that is asked for. Exact where steps are well below the spread of the weights.
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.layers = layers
        self.chosen = {name: layer for name, layer in layers.items() if layer.usable and layer.factors.trace > 0.0}
        self.units = units_of(self.chosen)
        self._rest = {
            name: unused(layer) if layer.usable else lossless(layer, "can't be quantized")
            for name, layer in layers.items()
            if name not in self.chosen
        }

    def for_loss(self, loss: float) -> Solution:
        """Plans with the predicted total loss `loss`, or as much as there can be; 0 is lossless."""
        if loss <= 0.0:
            return solution(self.layers, {})
        places, cells, steps = self._choose(loss)
        sizes, losses = (found[places, cells] for found in (self.units.bytes(steps), self.units.loss(steps)))
        names, plans = list(self.chosen), dict(self._rest)
        grid = scales_of(codes_of(steps[places, cells]))
        for at, place in enumerate(places):
            name, step, size, cost = names[place], float(grid[at]), float(sizes[at]), float(losses[at])
            plans[name] = LayerPlan(
                name, Method.QUANTIZE, CELLS[cells[at]], step, 0.0, size, cost, self.why(int(place))
            )
        return solution(self.layers, plans)

    def for_bytes(self, size: float) -> Solution:
        """The least loss whose predicted bytes are at most `size`, or the smallest there is."""
        return within(self.for_loss, size)

    def corrections(self, share: float) -> Corrections:
        """What is known better at that loss a weight; here, that groups and blocks don't pay (docs/decisions/0009)."""
        bits = np.zeros((len(self.units.count), len(CELLS) + 1))
        bits[:, 2:-1] = np.inf
        return Corrections(np.zeros(len(bits)), bits)

    def why(self, place: int) -> str:
        """Why the tensor at that place of `units` has its step."""
        return "equal slopes in closed form"

    def _choose(self, loss: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
        """Places of tensors that are quantized (m,), their cells (m,), and steps (n, cells)."""
        count = self.units.count
        steps, cells = self._at(loss / max(float(count.sum()), 1.0))
        for _ in range(_PASSES):  # what loss lossless tensors leave is the others'
            steps, cells = self._at(loss / max(float(count[cells < len(CELLS)].sum()), 1.0))
        places = np.flatnonzero(cells < len(CELLS))
        cells = cells[places]
        low, high = -8.0, 8.0  # octaves
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            scaled = self.units.within(steps * 2.0**middle)
            low, high = (middle, high) if self.units.loss(scaled)[places, cells].sum() < loss else (low, middle)
        return places, cells, self.units.within(steps * 2.0**low)

    def _at(self, share: float) -> tuple[Array, NDArray[np.intp]]:
        """Steps (n, cells) and cells (n,), len(CELLS) for lossless, at that loss a weight."""
        steps, costs = options(self.units, share)
        known = self.corrections(share)
        return steps * np.exp2(known.octaves)[:, None], np.argmin(costs + known.bits, axis=1)
