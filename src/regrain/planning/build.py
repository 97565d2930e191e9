"""From a recipe to indices: every tensor rounded, biases corrected for what rounding did to the mean."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.codecs.grid import HIGHEST, LOWEST, codes_of, scales_of
from regrain.codecs.quantized import Quantized, encode_quantized
from regrain.core.dtypes import numpy_dtype
from regrain.core.errors import RecipeError
from regrain.core.recipe import LayerPlan, Method
from regrain.kernels.feedback import MOST
from regrain.planning.layer import Layer

CLIPPED = 1e-3
"""Share of a tensor's indices that may be the largest there is: more were clipped, and are far from their weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """One tensor as a recipe wants it. `quantized` is None where it stays lossless; `values` are its weights as they
    will be restored, float32 in its own shape; `size` the bytes of its payload, 0 where lossless; `loss` is predicted.
    """

    quantized: Quantized | None
    values: NDArray[np.float32]
    size: int
    loss: float


def build(layers: Mapping[str, Layer], plans: Mapping[str, LayerPlan], threads: int = 1) -> dict[str, Built]:
    """Round every tensor by its plan; those without one stay as they are, but for biases that are corrected.

    A bias is that of a layer whose weight W became W': it gives way by (W' - W) mean of the inputs, and is rounded
    after that. The result does not depend on `threads`. Raises RecipeError for a plan that its tensor can't have.
    """
    corrected = {layer.bias: layer for layer in layers.values() if layer.bias in layers and _rounds(layer.name, plans)}
    first = [name for name in layers if name not in corrected]
    # The largest first, so that no thread is left with one of them at the end.
    first.sort(key=lambda name: -layers[name].count)
    with ThreadPoolExecutor(threads) as pool:
        made = pool.map(lambda name: _build(layers[name], plans.get(name)), first)
        found = dict(zip(first, made, strict=True))
    for bias, layer in corrected.items():
        assert bias is not None
        found[bias] = _build(layers[bias], plans.get(bias), _shift(layer, found[layer.name]))
    return {name: found[name] for name in layers}


def _shift(layer: Layer, built: Built) -> NDArray[np.float32]:
    """What rounding adds to the mean of a layer's outputs (R,)."""
    assert layer.mean is not None
    change = built.values.reshape(layer.weights.shape) - layer.weights
    return np.asarray(change @ layer.mean, np.float32)


def _rounds(name: str, plans: Mapping[str, LayerPlan]) -> bool:
    plan = plans.get(name)
    return plan is not None and plan.method is Method.QUANTIZE


def _build(layer: Layer, plan: LayerPlan | None, shift: NDArray[np.float32] | None = None) -> Built:
    weights = layer.weights if shift is None else layer.weights - shift.reshape(layer.weights.shape)
    if plan is None or plan.method is Method.LOSSLESS:
        dtype = numpy_dtype(layer.dtype)
        return Built(None, weights.astype(dtype).astype(np.float32).reshape(layer.shape), 0, 0.0)
    if layer.dtype not in ("F32", "F16", "BF16"):
        raise RecipeError(f"{layer.name!r} must be F32, F16 or BF16 to be quantized, not {layer.dtype}: leave it out")
    if weights.size == 0 or not np.isfinite(weights).all():
        raise RecipeError(f"{layer.name!r} must hold finite weights to be quantized: leave it out")
    assert plan.cell is not None
    assert plan.step is not None
    wanted = int(codes_of(plan.step)) + layer.relative_codes(plan.cell).astype(np.int32)
    codes: NDArray[np.int16] = np.clip(wanted, LOWEST, HIGHEST).astype(np.int16)
    indices, loss = layer.round(weights, scales_of(codes), plan.cell, plan.dead_zone)
    if np.count_nonzero(np.abs(indices) == MOST) > weights.size * CLIPPED:
        least = float(np.abs(weights).max()) / MOST
        raise RecipeError(f"{layer.name!r}: step must be at least about {least:.2g} for its weights, not {plan.step!r}")
    quantized = Quantized(indices.reshape(layer.shape), codes, plan.cell.size(*weights.shape))
    try:
        data = quantized.dequantized(layer.dtype)
    except ValueError as error:
        raise RecipeError(f"{layer.name!r}: {error}") from None
    values = data.view(numpy_dtype(layer.dtype)).astype(np.float32).reshape(layer.shape)
    return Built(quantized, values, encode_quantized(quantized, layer.dtype, seed=0).size, loss)
