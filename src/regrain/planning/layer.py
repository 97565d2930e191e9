"""One tensor with everything that planning needs of it, and how its rounding errors are made up for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Cell
from regrain.kernels.feedback import round_with_feedback
from regrain.profiling.sensitivity import Sensitivity
from regrain.transforms.damage import Damage
from regrain.transforms.factor import upper_factor
from regrain.transforms.prune import Pruned, Statistics, prune

Floats = NDArray[np.float32]

INPUT_DAMPING = 0.1
OUTPUT_DAMPING = 0.4
"""Damping of the two factors, as a fraction of their mean diagonal: of outputs there are fewer samples, one for each
probe and column (docs/decisions/0009)."""

TEMPER = 0.5
"""The power to which the use of an embedding's rows counts: 1 would be best for the calibration data and reckless for
rows that they use seldom or never; 0 takes all rows for alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What errors in a matrix (R, C) cost: trace / 2 * tr(G D A D^T) for a change D, with A = U diag(inputs) U^T of
    trace 1, damping included, and G = V diag(outputs) V^T likewise: independent errors cost what they cost undamped.

    `u` (C, C) and `v` (R, R) are unit upper triangular, None for the identity; `inputs` (C,), `outputs` (R,) > 0.
    """

    trace: float
    u: Floats | None
    inputs: Floats
    v: Floats | None
    outputs: Floats

    @classmethod
    def alike(cls, rows: int, columns: int) -> Factors:
        """Every weight counts alike, and the task's output does not depend on any that is known of."""
        inputs, outputs = (np.full(side, 1 / max(side, 1), np.float32) for side in (columns, rows))
        return cls(0.0, None, inputs, None, outputs)

    def damage(self) -> Damage:
        """A and G themselves, (C, C) and (R, R)."""
        return Damage(_gram(self.u, self.inputs), _gram(self.v, self.outputs))


def factors(sensitivity: Sensitivity, shape: tuple[int, int], hessian: Floats | None) -> Factors:
    """Factors of a matrix of that shape. The Hessian of its inputs (C, C), where it is known, counts as much as the
    gradients' Gram matrix: it has more samples, the other one knows what matters.
    """
    rows, columns = shape
    flat = Factors.alike(rows, columns)
    if sensitivity.trace == 0.0:
        return flat
    u, inputs, v, outputs = None, flat.inputs, None, flat.outputs
    if sensitivity.columns is not None and sensitivity.columns.ndim == 2:
        gram = _normal(sensitivity.columns)
        if hessian is not None and np.trace(hessian) > 0.0:
            gram = (gram + _normal(hessian)) / 2.0
        u, diagonal = upper_factor(gram, INPUT_DAMPING)
        inputs = (diagonal / (1.0 + INPUT_DAMPING)).astype(np.float32)
    elif sensitivity.columns is not None:
        inputs = _tempered(sensitivity.columns, 1.0)
    if sensitivity.rows is not None and sensitivity.rows.ndim == 2:
        v, diagonal = upper_factor(_normal(sensitivity.rows), OUTPUT_DAMPING)
        outputs = (diagonal / (1.0 + OUTPUT_DAMPING)).astype(np.float32)
    elif sensitivity.rows is not None:
        outputs = _tempered(sensitivity.rows, TEMPER)
    return Factors(sensitivity.trace, u, inputs, v, outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One floating-point tensor of a model, `dtype` its name in safetensors.

    `weights` (R, C) are float32, first axis x all others, a vector as one row; `lossless` the bytes of its lossless
    form. `mean` (C,) is the mean input of a weight whose layer adds the bias `bias`; None where there is none. What is
    added may be a batch norm's running mean, which is subtracted: `bias_sign` is -1 then. `statistics` are of the
    inputs, `work` the layer's multiply-adds for each example.
    """

    name: str
    dtype: str
    kind: str
    shape: tuple[int, ...]
    weights: Floats
    lossless: int
    factors: Factors
    bias: str | None = None
    mean: Floats | None = None
    bias_sign: int = 1
    statistics: Statistics = field(default_factory=Statistics)
    work: int = 0

    @property
    def count(self) -> int:
        """Weights."""
        return self.weights.size

    @property
    def usable(self) -> bool:
        """Whether it can be quantized: a type that the format has, finite weights that aren't all equal, and if it is a
        buffer, one that was measured: of others nobody knows what they are for.
        """
        w = self.weights
        if self.dtype not in ("F32", "F16", "BF16") or w.size == 0 or not np.isfinite(w).all():
            return False
        return bool(w.min() < w.max()) and not (self.kind == "buffer" and self.factors.trace == 0.0)

    @property
    def prunable(self) -> bool:
        """Whether it can be pruned: a linear or convolutional layer's weights, whose loss is known for both sides."""
        matrix = self.kind in ("linear", "conv") and min(self.weights.shape) > 1
        return self.usable and matrix and self.factors.u is not None and self.factors.v is not None

    def prune(self, how: Pruning, densities: Sequence[float]) -> Iterator[Pruned]:
        """The weights at densities that fall; see regrain.transforms.prune. Costs are in units of the loss."""
        unit = how.pattern.unit(self.shape)
        for found in prune(
            self.weights,
            self.factors.damage(),
            unit,
            densities,
            among=how.pattern.among,
            score=how.score,
            compensation=how.compensation,
            statistics=self.statistics,
        ):
            yield replace(found, cost=self.factors.trace / 2.0 * found.cost)

    def kept_share(self, pattern: Pattern, units: NDArray[np.bool_]) -> float:
        """The fraction of the weights that `units` of that pattern keep."""
        down, across = pattern.unit(self.shape)
        rows, columns = self.weights.shape
        sizes = np.outer(_sizes(rows, down), _sizes(columns, across))
        return float((sizes * units).sum() / sizes.sum())

    def relative_codes(self, cell: Cell) -> NDArray[np.int16]:
        """Codes of the grid of scales for a step of 1: steps go with 1 / sqrt(what errors in the cell cost), and their
        logarithms have the mean 0 over the weights.
        """
        down, across = cell.size(*self.weights.shape)
        rows = _means(self.factors.outputs, down)
        columns = _means(self.factors.inputs, across)
        codes = -4.0 * np.log2(rows[:, None] * columns[None, :])  # 8 codes an octave, of a square root
        sizes = np.outer(_sizes(self.weights.shape[0], down), _sizes(self.weights.shape[1], across))
        relative: NDArray[np.int16] = np.rint(codes - (codes * sizes).sum() / sizes.sum()).astype(np.int16)
        return relative

    def round(
        self, weights: Floats, scales: Floats, cell: Cell, dead_zone: float, keep: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int16], float]:
        """Indices (R, C) of `weights`, this tensor's or changed ones, and the predicted loss of rounding; 0 where
        `keep` (R, C) is False.
        """
        indices, damage = round_with_feedback(
            weights,
            scales,
            cell.size(*self.weights.shape),
            columns=self.factors.u,
            rows=self.factors.v,
            weight_rows=self.factors.outputs,
            weight_columns=self.factors.inputs,
            dead_zone=dead_zone,
            keep=keep,
        )
        return indices, self.factors.trace * damage / 2.0


def _gram(factor: Floats | None, diagonal: Floats) -> Floats:
    if factor is None:
        return np.diag(diagonal)
    gram: Floats = ((factor * diagonal) @ factor.T).astype(np.float32)
    return gram


def _normal(gram: Floats) -> Floats:
    scaled: Floats = (gram / float(np.trace(gram, dtype=np.float64))).astype(np.float32)
    return scaled


def _tempered(diagonal: Floats, power: float) -> Floats:
    """Diagonal weights with sum 1, from the gradients' energy in units of what a row that is used has typically: one
    more unit for each row, for what calibration has not seen.
    """
    seen = diagonal[diagonal > 0.0].astype(np.float64)
    weights = (diagonal / np.median(seen) + 1.0) ** power if seen.size else np.ones(diagonal.size)
    scaled: Floats = (weights / weights.sum()).astype(np.float32)
    return scaled


def _means(values: Floats, size: int) -> NDArray[np.float64]:
    """Means over runs of `size`, the last one shorter if need be."""
    starts = np.arange(0, values.size, size)
    means: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), starts) / _sizes(values.size, size)
    return means


def _sizes(total: int, size: int) -> NDArray[np.int64]:
    sizes = np.full(math.ceil(total / size), size)
    sizes[-1] = total - size * (sizes.size - 1)
    return sizes
