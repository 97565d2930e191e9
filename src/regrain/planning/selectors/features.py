"""What the learned selector looks at: numbers of a tensor that no step has to be tried for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regrain.planning.layer import Layer
from regrain.planning.selectors.rule import profile_of
from regrain.planning.selectors.units import Array, Units

KINDS = ("linear", "conv", "embedding", "vector", "other")

STATIC = (
    "sensitivity",  # log2 of the Fisher trace a weight over the model's
    "kurtosis",  # asinh of the excess
    "int8_entropy",  # bits
    "row_spread",  # standard deviation of log2 of the rows' standard deviations
    "outputs",  # standard deviation of log2 of the outputs' weights in the loss
    "inputs",  # and of the inputs'
    "weights",  # log2
    "rows",  # log2
    "columns",  # log2
    *KINDS,  # 1 for the tensor's kind
)
"""Features of a tensor alone."""

FEATURES = ("step", "tensor", "row", "group:32", "block:16x16", "lossless", *STATIC)
"""All of them: log2 of the closed form's step over the spread, and what each cell and lossless cost over the cheapest,
bits a weight; both depend on the loss that is asked for.
"""

_MOST = 4.0  # bits a weight that are told apart


def static_features(layers: Mapping[str, Layer]) -> Array:
    """Features (n, STATIC) of tensors that the output depends on."""
    trace = sum(layer.factors.trace for layer in layers.values())
    typical = trace / max(1, sum(layer.count for layer in layers.values()))
    return np.array([_static(layer, typical) for layer in layers.values()], np.float64).reshape(-1, len(STATIC))


def features(static: Array, units: Units, steps: Array, costs: Array) -> Array:
    """Features (n, FEATURES) beside a closed form's steps (n, cells) and costs (n, cells + 1)."""
    cells = np.argmin(costs[:, :-1], axis=1)
    step = np.log2(steps[np.arange(len(cells)), cells] / units.spread)
    above = np.minimum(costs - costs.min(axis=1, keepdims=True), _MOST)
    return np.concatenate([step[:, None], above, static], axis=1)


def _static(layer: Layer, typical: float) -> list[float]:
    profile = profile_of(layer)
    return [
        math.log2(layer.factors.trace / layer.count / typical),
        math.asinh(profile.kurtosis or 0.0),
        profile.int8_entropy or 0.0,
        _variety(layer.weights.std(axis=1)),
        _variety(layer.factors.outputs),
        _variety(layer.factors.inputs),
        *(math.log2(size) for size in (layer.count, *layer.weights.shape)),
        *(float(kind == (layer.kind if layer.kind in KINDS else "other")) for kind in KINDS),
    ]


def _variety(values: NDArray[np.float32]) -> float:
    """Standard deviation of the logarithms of what is not 0."""
    positive = values[values > 0].astype(np.float64)
    return float(np.log2(positive).std()) if positive.size else 0.0
