"""What is known of tensors without rounding them: what a step costs in loss, and about how many bytes it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from regrain.codecs.grid import codes_of, scales_of
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.planning.candidates import COARSEST, UNUSED_STEP
from regrain.planning.layer import Layer

Array = NDArray[np.float64]

CELLS = tuple(Cell(name) for name in ("tensor", "row", "group:32", "block:16x16"))
"""Cells that are chosen from."""

FRONT = 60.0
"""Bytes of a payload's head and index entry, and:"""

TABLES = 200.0
"""bytes of its tables, of which a payload of few weights has few: at most a bit a weight."""

SCALE = 0.75
"""Bytes of a step's code, as they are coded in tensors of a few thousand weights."""

_NOTHING = 1e-300  # so that a step can be divided by what it costs
_LARGEST = 32000  # an index that leaves room for what feedback adds to its weight


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Tensors (n,) in each of CELLS (n, cells), NaN where a tensor can't have it. A step is the geometric mean of a
    tensor's.

    Independent errors of steps s cost the loss `slope` s^2; `least` is the finest step whose indices fit the format,
    `scales` how many steps are stored. `spread` (n,) is the geometric mean of the rows' standard deviations,
    `deviation` that of all weights; `lossless` are the bytes of the lossless forms.
    """

    slope: Array
    least: Array
    scales: Array
    spread: Array
    deviation: Array
    count: Array
    lossless: Array

    def loss(self, steps: Array) -> Array:
        """Predicted loss of rounding to steps (n, cells): what independent errors cost, while steps are fine; errors of
        coarse ones are those of a normal distribution, whose weights become 0 in the end.
        """
        return self.slope * steps**2 * gaussian(steps / self.spread[:, None])[1]

    def bytes(self, steps: Array) -> Array:
        """Predicted bytes, as if each row were normally distributed and its step were the mean."""
        count = self.count[:, None]
        bits = gaussian(steps / self.spread[:, None])[0]
        return count * bits / 8 + SCALE * self.scales + FRONT + np.minimum(TABLES, count / 8)

    def within(self, steps: Array) -> Array:
        """Steps (n, cells) that indices fit, and that are no coarser than the planner tries."""
        return np.minimum(np.maximum(steps, self.least), COARSEST * self.deviation[:, None])


def units_of(layers: Mapping[str, Layer]) -> Units:
    """What is known of usable tensors that the output depends on."""
    columns = [[_unit(layer, cell) for cell in CELLS] for layer in layers.values()]
    slope, least, scales = np.array(columns, np.float64).reshape(-1, len(CELLS), 3).transpose(2, 0, 1)
    alone = [(_spread(layer), float(layer.weights.std()), layer.count, layer.lossless) for layer in layers.values()]
    return Units(slope, least, scales, *np.array(alone, np.float64).reshape(-1, 4).T)


def _unit(layer: Layer, cell: Cell) -> tuple[float, float, float]:
    """Slope, least step and number of scales."""
    if not _offered(layer, cell):
        return math.nan, math.nan, math.nan
    (rows, columns), relative = layer.weights.shape, layer.relative_codes(cell).astype(np.float64)
    down, across = cell.size(rows, columns)
    starts = np.arange(0, rows, down), np.arange(0, columns, across)
    squares = np.exp2(relative / 4.0)
    cost = np.outer(_sums(layer.factors.outputs, starts[0]), _sums(layer.factors.inputs, starts[1]))
    slope = max(layer.factors.trace / 24.0 * float((cost * squares).sum()), _NOTHING)
    largest = np.maximum.reduceat(np.maximum.reduceat(np.abs(layer.weights), starts[1], axis=1), starts[0], axis=0)
    normal = 2.0 ** (-126.0 - float(relative.min()) / 8.0)
    return slope, max(float((largest / np.sqrt(squares)).max()) / _LARGEST, normal), float(relative.size)


def _offered(layer: Layer, cell: Cell) -> bool:
    """Whether the planner would try it (docs/decisions/0009)."""
    if layer.weights.shape[0] == 1:
        return cell.name == "tensor"
    return layer.kind != "embedding" or cell.name != "tensor"


def _spread(layer: Layer) -> float:
    """Geometric mean of the rows' standard deviations; a constant row counts as a thousandth of the whole."""
    deviations = np.maximum(layer.weights.std(axis=1, dtype=np.float64), 1e-3 * float(layer.weights.std()))
    return float(np.exp2(np.log2(deviations).mean()))


def _sums(values: NDArray[np.float32], starts: NDArray[np.int64]) -> Array:
    sums: Array = np.add.reduceat(values.astype(np.float64), starts)
    return sums


def gaussian(ratio: Array) -> tuple[Array, Array]:
    """Entropy in bits, and squared error over that of independent errors, step^2 / 12, of normally distributed weights
    rounded to steps of `ratio` standard deviations, any shape. At fine steps entropies differ by the logarithm of the
    steps (Gish and Pierce, 1968); at coarse ones nothing is left of the weights.
    """
    logs, table = _table()
    log = np.log2(ratio)
    bits = np.interp(log, logs, table[0]) + np.maximum(logs[0] - log, 0.0)
    return bits, np.where(log > logs[-1], 12.0 / ratio**2, np.interp(log, logs, table[1]))


@cache
def _table() -> tuple[Array, Array]:
    """Logarithms of ratios, and both values at each of them, (2, ratios)."""
    logs = np.linspace(-2.0, 4.0, 49)
    found = []
    for ratio in np.exp2(logs):
        most = math.ceil(8.0 / ratio)
        centers = ratio * np.arange(-most, most + 1)
        edges = np.append(centers - ratio / 2, centers[-1] + ratio / 2)
        below = np.array([math.erfc(-edge / math.sqrt(2.0)) / 2 for edge in edges])
        density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
        mass = np.maximum(np.diff(below), 1e-300)
        first, second = -np.diff(density), mass - np.diff(edges * density)  # integrals of x and x^2 over each bin
        error = float((second - 2 * centers * first + centers**2 * mass).sum())
        found.append((float(-(mass * np.log2(mass)).sum()), 12 * error / ratio**2))
    return logs, np.array(found).T


def lossless(layer: Layer, why: str) -> LayerPlan:
    """The plan that keeps a tensor as it is."""
    return LayerPlan(layer.name, Method.LOSSLESS, bytes=layer.lossless, why=why)


def unused(layer: Layer) -> LayerPlan:
    """The plan of a usable tensor that the task's output does not depend on: about 6 bits a weight."""
    cell = CELLS[0 if layer.weights.shape[0] == 1 else 1]
    step = float(scales_of(codes_of([float(layer.weights.std()) * UNUSED_STEP]))[0])
    why = "the output does not depend on it"
    return LayerPlan(layer.name, Method.QUANTIZE, cell, step, bytes=0.75 * layer.count + FRONT, why=why)
