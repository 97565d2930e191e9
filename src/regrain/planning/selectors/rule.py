"""The rule of `regrain.core.selection`, taken at its word: what the statistics of a layer's weights say is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.pattern import Pattern, Pruning
from regrain.core.profile import TensorProfile
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.core.selection import Choice, Compression, SelectionRule, choose
from regrain.planning.layer import Layer
from regrain.planning.selectors.protocol import solution
from regrain.planning.selectors.units import CELLS, lossless, units_of
from regrain.planning.solve import Solution
from regrain.profiling.tensor import profile_tensor

ROW = Cell("row")


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What the rule leaves open. `bits` of an index, 2 to 15, where it says quantization; `pattern` and `density`, the
    fraction of units that is kept, where it says pruning: as many weights go as would have to be 0 for the rule to stop
    calling a layer of high entropy dense.
    """

    thresholds: SelectionRule = field(default_factory=SelectionRule)
    bits: int = 8
    pattern: Pattern = field(default_factory=lambda: Pattern("block:16x1"))
    density: float = 0.7

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 15:
            raise ValueError(f"bits must be 2 to 15 for an index, not {self.bits!r}")
        Pruning(self.pattern, self.density)  # raises RecipeError for a density that the pattern can't have


class Rule:
    """Plans by the rule. There is one for each layer, whatever loss is allowed: the rule knows none.

    Individual weights + ANS: lossless. Feature map + quantization: one step a row; their geometric mean is that of the
    rows' largest magnitudes over the largest index. Weight block + pruning: the pattern at its density, whose
    loss is not predicted. What is no matrix stays lossless.
    """

    def __init__(self, layers: Mapping[str, Layer], options: RuleOptions | None = None) -> None:
        self._options = options if options is not None else RuleOptions()
        self._solution = solution(layers, {name: self._plan(layer) for name, layer in layers.items()})

    def for_loss(self, loss: float) -> Solution:
        """The plans, whatever they lose."""
        return self._solution

    def for_bytes(self, size: float) -> Solution:
        """The plans, however large they are."""
        return self._solution

    def _plan(self, layer: Layer) -> LayerPlan:
        profile = profile_of(layer)
        if not layer.usable or not profile.is_matrix:
            return lossless(layer, "no matrix of weights")
        choice = choose(profile, self._options.thresholds)
        if choice.scheme is Compression.ANS:
            return lossless(layer, choice.why)
        if choice.scheme is Compression.QUANTIZATION:
            return self._quantized(layer, choice)
        return self._pruned(layer, choice)

    def _quantized(self, layer: Layer, choice: Choice) -> LayerPlan:
        largest = np.abs(layer.weights).max(axis=1).astype(np.float64)
        step = float(np.exp2(np.log2(largest[largest > 0.0]).mean())) / (2 ** (self._options.bits - 1) - 1)
        units, row = units_of({layer.name: layer}), CELLS.index(ROW)
        steps = units.within(np.full((1, len(CELLS)), step))
        step = float(scales_of(codes_of(steps))[0, row])
        size, loss = float(units.bytes(steps)[0, row]), float(units.loss(steps)[0, row])
        return LayerPlan(layer.name, Method.QUANTIZE, ROW, step, 0.0, size, loss, choice.why)

    def _pruned(self, layer: Layer, choice: Choice) -> LayerPlan:
        pruning = Pruning(self._options.pattern, self._options.density)
        kept = layer.lossless * self._options.density
        return LayerPlan(layer.name, Method.PRUNE, bytes=kept, why=choice.why, pruning=pruning)


def profile_of(layer: Layer) -> TensorProfile:
    """Statistics of a layer's weights."""
    words = np.ascontiguousarray(layer.weights).reshape(-1).view(np.uint32)
    return profile_tensor(layer.name, "F32", layer.shape, words)
