"""What every selector does: plans for a total loss or a total size, in the place of `Solver`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from regrain.core.recipe import LayerPlan
from regrain.planning.layer import Layer
from regrain.planning.selectors.units import lossless
from regrain.planning.solve import Solution

_HALVINGS = 40
_LOSSES = (1e-9, 1e3)


class Selector(Protocol):
    """Maps layers to plans. `regrain.planning.solve.Solver` is one, too: the one that measures its candidates."""

    def for_loss(self, loss: float) -> Solution:
        """Plans of all layers with a predicted total loss (D or KL) of about `loss` >= 0; 0 is lossless."""
        ...

    def for_bytes(self, size: float) -> Solution:
        """The least loss whose predicted bytes are at most `size`, or the smallest there is."""
        ...


def solution(layers: Mapping[str, Layer], plans: Mapping[str, LayerPlan]) -> Solution:
    """Plans of all layers in their order, lossless where there is none, with what they are predicted to give. Nothing
    says how much better other plans could be: the gap is infinite.
    """
    chosen = tuple(plans[name] if name in plans else lossless(layer, "kept as it is") for name, layer in layers.items())
    return Solution(chosen, sum(plan.bytes for plan in chosen), sum(plan.loss for plan in chosen), math.inf)


def within(for_loss: Callable[[float], Solution], size: float) -> Solution:
    """What `for_loss` gives for the least loss whose predicted bytes are at most `size`, by bisection."""
    low, high = _LOSSES
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if for_loss(middle).bytes <= size else (middle, high)
    return for_loss(high)
