"""What could be done to each tensor, and what it is predicted to cost: bytes from histograms, loss from sensitivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.codecs.grid import HIGHEST, LOWEST, codes_of, scales_of
from regrain.codecs.quantized import quantized_size
from regrain.core.pattern import Pruning
from regrain.core.recipe import Cell, LayerPlan, Method
from regrain.planning.layer import Layer

SAMPLE = 1 << 17
"""Weights of a tensor that are looked at, in whole rows evenly spread."""

SMALL = 4096
"""Up to so many weights, sizes are those of real payloads: entropies of few numbers mean nothing."""

REAL = 2.5
"""Below so many bits a weight the whole tensor is rounded to find out: feedback spreads what is rounded when steps are
as large as the weights, and what is left after that no longer is what a sample of the weights suggests."""

FINEST, COARSEST = 2.0**-14, 4.0
"""Range of steps, in standard deviations of the weights."""

OVERHEAD = 0.03
"""Bits a weight that coded blocks take over the entropy of their rows' classes: states, tables, checksums."""

_CLASSES = 8
_SPACING = 4  # codes between steps that are tried: half an octave
_INDEX_BYTES = 40.0
_TABLES = 210.0  # bytes of a payload that has coded blocks, beside them


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Candidates of one tensor that share a cell: `codes` of the geometric mean step, ascending, with their predicted
    `bytes` and `loss`. Without a cell there is one candidate, and its weights are not rounded.

    All are pruned alike, so that `share` of the weights is left. `makers` are the tensors that lose what made the
    columns that this one loses: as many of their rows.
    """

    cell: Cell | None
    codes: NDArray[np.int64]
    bytes: NDArray[np.float64]
    loss: NDArray[np.float64]
    pruning: Pruning | None = None
    share: float = 1.0
    makers: tuple[str, ...] = ()

    def plan(self, name: str, at: int, why: str) -> LayerPlan:
        """The plan of one candidate."""
        predicted = float(self.bytes[at]), float(self.loss[at]), why, self.pruning
        if self.cell is None:
            return LayerPlan(name, Method.PRUNE, None, None, 0.0, *predicted)
        step = float(scales_of(self.codes[at : at + 1].astype(np.int16))[0])
        return LayerPlan(name, Method.QUANTIZE, self.cell, step, 0.0, *predicted)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """All candidates of one tensor: curves, and lossless with its bytes; `work` are its multiply-adds then. Where it
    `absorbs`, its weights can make up for what tensors before it lost.
    """

    name: str
    count: int
    lossless: float
    curves: tuple[Curve, ...]
    work: int = 0
    absorbs: bool = False

    def plan(self, curve: int, at: int, why: str) -> LayerPlan:
        """The plan of one candidate; curve -1 is lossless."""
        if curve < 0:
            return LayerPlan(self.name, Method.LOSSLESS, bytes=self.lossless, why=why)
        return self.curves[curve].plan(self.name, at, why)


CELLS = (Cell("tensor"), Cell("row"))
"""Cells that are tried by default: groups, blocks and columns never paid for their scales (docs/decisions/0009)."""

UNUSED_STEP = 1 / 16
"""Step of weights that the task's output does not depend on, in their standard deviations: about 6 bits each."""


def candidates(layer: Layer, cells: Sequence[Cell] = CELLS) -> Candidates:
    """Candidates of a tensor, lossless always among them; the only one where it can't be quantized."""
    if not layer.usable:
        return Candidates(layer.name, layer.count, layer.lossless, (), layer.work)
    if layer.weights.shape[0] == 1:
        cells = [Cell("tensor")]
    elif layer.kind == "embedding" and Cell("row") in cells:
        # How often a row is used says more than any sample of the weights, and is too uncertain to be weighed by.
        cells = [cell for cell in cells if cell.name != "tensor"]
    curves = [curve(layer, cell) for cell in cells]
    if layer.factors.trace == 0.0:  # nothing is known against it, and nothing for it
        curves = [_only(found, float(layer.weights.std()) * UNUSED_STEP) for found in curves]
    return Candidates(layer.name, layer.count, layer.lossless, tuple(curves), layer.work)


def _only(found: Curve, step: float) -> Curve:
    """The one candidate with that step."""
    at = np.array([np.argmin(np.abs(found.codes - int(codes_of(step))))])
    return Curve(found.cell, found.codes[at], found.bytes[at], found.loss[at])


def curve(layer: Layer, cell: Cell) -> Curve:
    """Bytes and loss of a tensor for all steps, by rounding a sample of it to some of them.

    Feedback moves what is rounded, but hardly its distribution: the errors of rounding alone are those of the weights
    themselves, and weigh what the factors' diagonals say.
    """
    rows, columns = layer.weights.shape
    relative = layer.relative_codes(cell)
    down, across = cell.size(rows, columns)
    chosen = np.arange(0, rows, -(-rows * columns // SAMPLE)) if rows > 1 else np.arange(1)
    scales = np.repeat(scales_of(relative[chosen // down]), across, axis=1)[:, :columns]
    weights = layer.weights[chosen]
    sample = weights / scales
    weight = (layer.factors.outputs[chosen, None] * layer.factors.inputs[None, :] * scales**2).astype(np.float32)
    steps = scales_of(np.repeat(relative, down, axis=0)[:rows])
    energy = layer.factors.outputs * np.square(steps, dtype=np.float64).mean(axis=1)
    share = layer.factors.trace / 2.0 * float(energy.sum() / energy[chosen].sum())
    # Steps of the chosen rows may be finer or coarser than those of all: 8 codes are a bit.
    finer = float(relative[chosen // down].mean() - np.repeat(relative, down, axis=0)[:rows].mean()) / 8.0
    spread = float(np.sqrt(np.square(weights, dtype=np.float64).mean()))
    ends = codes_of([spread * FINEST, spread * COARSEST])
    codes = np.arange(ends[0], ends[1] + 1, _SPACING)
    order = np.argsort(np.abs(sample).mean(axis=1), kind="stable")
    found: list[tuple[float, float]] = []
    for code in codes:
        bits, error = _at(layer, sample, weight, relative, cell, int(code), order)
        loss, bits = share * error, bits + finer * layer.count
        if bits < REAL * layer.count and layer.count > SMALL:
            bits, loss = _really(layer, relative, cell, int(code))
        found.append((bits, loss))
    bits_of, loss_of = (np.array(values) for values in zip(*found, strict=True))
    usable = np.isfinite(bits_of)
    codes, bits_of, loss_of = codes[usable], bits_of[usable], np.maximum(loss_of[usable], 1e-300)
    fine = np.arange(codes[0], codes[-1] + 1)
    # Between steps that were tried, bits and the logarithm of the loss are straight lines of the code.
    return Curve(cell, fine, np.interp(fine, codes, bits_of) / 8.0, np.exp(np.interp(fine, codes, np.log(loss_of))))


def _really(layer: Layer, relative: NDArray[np.int16], cell: Cell, code: int) -> tuple[float, float]:
    """Bits and loss of the tensor at a step, found by doing it."""
    codes = (code + relative.astype(np.int32)).clip(LOWEST, HIGHEST).astype(np.int16)
    indices, loss = layer.round(layer.weights, scales_of(codes), cell, 0.0)
    size = quantized_size(indices, codes, cell.size(*layer.weights.shape))
    return 8.0 * (size + _INDEX_BYTES), loss


def _at(
    layer: Layer,
    sample: NDArray[np.float32],
    weight: NDArray[np.float32],
    relative: NDArray[np.int16],
    cell: Cell,
    code: int,
    order: NDArray[np.int64],
) -> tuple[float, float]:
    """Bits of the whole tensor at a step, and the weighted squared error of the sample. Infinite bits: out of range."""
    step = scales_of(np.array([code], np.int16))[0]
    indices = np.rint(sample / step)
    if float(np.abs(indices).max()) > 32000:
        return np.inf, 0.0
    error = sample - indices * step
    damage = float(np.einsum("ij,ij,ij->", weight, error, error, dtype=np.float64))
    whole = indices.astype(np.int16)
    if layer.count <= SMALL:
        return 8.0 * (quantized_size(whole, relative, cell.size(*layer.weights.shape)) + _INDEX_BYTES), damage
    classes = np.array_split(order, min(_CLASSES, max(1, len(order) // 8)))
    entropy = sum(_entropy(whole[rows]) * len(rows) for rows in classes) / len(order)
    return layer.count * (entropy + OVERHEAD) + 4.0 * relative.size + 8.0 * (_INDEX_BYTES + _TABLES), damage


def _entropy(values: NDArray[np.int16]) -> float:
    """Order-0 entropy, bits."""
    counts = np.bincount((values.astype(np.int32) - int(values.min())).reshape(-1))
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log2(shares)).sum())
