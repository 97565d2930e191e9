"""The best candidate of every tensor for a total loss: fewest bytes, or soonest loaded, by Lagrange's method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.recipe import LayerPlan
from regrain.planning.candidates import Candidates
from regrain.planning.hostcosts import HostCosts

_HALVINGS = 120
_PRICES = (1e-30, 1e30)
"""Of loss, in what is minimized: at the low end nothing else counts, at the high end everything is lossless."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Plans of all tensors, their predicted bytes and loss, and by how much the best choice could be better at most, in
    bytes or seconds, whichever is minimized (the gap to Lagrange's lower bound).
    """

    plans: tuple[LayerPlan, ...]
    bytes: float
    loss: float
    gap: float


class Solver:
    """Minimizes the sum of a cost over one candidate for each tensor, subject to a total loss.

    The cost is bytes, or with `costs` the seconds that loading takes. For a price of loss each tensor takes the
    candidate with the least cost + price x loss: what is best for some total is best for that price (Everett 1963;
    Shoham and Gersho 1988). The relaxation's lower bound says what other choices could save at most.
    """

    def __init__(self, tensors: Sequence[Candidates], costs: HostCosts | None = None) -> None:
        self.tensors = tensors
        self._cost: list[NDArray[np.float64]] = []
        self._bytes: list[NDArray[np.float64]] = []
        self._loss: list[NDArray[np.float64]] = []
        self._where: list[list[tuple[int, int]]] = []
        for tensor in tensors:
            sizes = np.concatenate([[tensor.lossless], *(curve.bytes for curve in tensor.curves)])
            self._bytes.append(sizes)
            self._cost.append(sizes if costs is None else _seconds(sizes, tensor.count, costs))
            self._loss.append(np.concatenate([[0.0], *(curve.loss for curve in tensor.curves)]))
            where = [(number, at) for number, curve in enumerate(tensor.curves) for at in range(curve.codes.size)]
            self._where.append([(-1, 0), *where])

    def for_loss(self, loss: float) -> Solution:
        """The fewest bytes with a predicted total loss of at most `loss`, >= 0."""
        if loss <= 0.0:
            return self._at(math.inf, loss)
        low, high = _PRICES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if self._at(middle, loss).loss <= loss:
                high = middle
            else:
                low = middle
        return self._at(high, loss)

    def for_bytes(self, size: float) -> Solution:
        """The least loss with at most `size` predicted bytes, or the smallest there is."""
        low, high = _PRICES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if self._at(middle, 0.0).bytes <= size:
                low = middle
            else:
                high = middle
        return self._at(low, 0.0)

    def _at(self, price: float, loss: float) -> Solution:
        picks = [
            0 if price == math.inf else int(np.argmin(cost + price * losses))
            for cost, losses in zip(self._cost, self._loss, strict=True)
        ]
        size = float(sum(sizes[pick] for sizes, pick in zip(self._bytes, picks, strict=True)))
        total = float(sum(losses[pick] for losses, pick in zip(self._loss, picks, strict=True)))
        gap = 0.0 if price == math.inf else max(0.0, price * (loss - total))
        plans = tuple(
            tensor.plan(*where[pick], why="")
            for tensor, where, pick in zip(self.tensors, self._where, picks, strict=True)
        )
        return Solution(plans, size, total, gap)


def _seconds(sizes: NDArray[np.float64], count: int, costs: HostCosts) -> NDArray[np.float64]:
    """Of loading each candidate of a tensor, of which the first is lossless."""
    weight = np.full(sizes.size, costs.quantized)
    weight[0] = costs.lossless
    seconds: NDArray[np.float64] = sizes * costs.byte + count * weight
    return seconds
