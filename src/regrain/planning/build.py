"""From a recipe to stored forms: tensors pruned and rounded, biases corrected for what that did to the mean."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.codecs.grid import HIGHEST, LOWEST, codes_of, scales_of
from regrain.codecs.quantized import Quantized, encode_quantized
from regrain.codecs.sparse import Sparse, sparse_size
from regrain.core.dtypes import numpy_dtype
from regrain.core.errors import RecipeError
from regrain.core.pattern import Compensation, Pruning
from regrain.core.recipe import LayerPlan, Method
from regrain.kernels.feedback import MOST
from regrain.planning.layer import Layer
from regrain.planning.prunings import Prunings
from regrain.transforms.refit import Moments, refit
from regrain.transforms.saliency import spread

if TYPE_CHECKING:
    from regrain.planning.sequential import Sequential, Values

CLIPPED = 1e-3
"""Share of a tensor's indices that may be the largest there is: more were clipped, and are far from their weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """One tensor as a recipe wants it. `form` is how it is stored, None where it stays lossless; `values` are its
    weights as they will be restored, float32 in its own shape; `size` the bytes of its payload, 0 where lossless;
    `loss` is predicted, `density` the fraction of its weights that is kept.
    """

    form: Quantized | Sparse | None
    values: NDArray[np.float32]
    size: int
    loss: float
    density: float = 1.0


class _Kept(NamedTuple):
    """What pruning left: `units` True where kept, the weights (R, C) with 0 elsewhere, the predicted loss."""

    units: NDArray[np.bool_]
    unit: tuple[int, int]
    weights: NDArray[np.float32]
    loss: float


def build(
    layers: Mapping[str, Layer],
    plans: Mapping[str, LayerPlan],
    threads: int = 1,
    prunings: Prunings | None = None,
    sequential: Sequential | None = None,
) -> dict[str, Built]:
    """Prune and round every tensor by its plan; those without one stay as they are, but for biases that are corrected.

    A bias is that of a layer whose weight W became W': it gives way by (W' - W) mean of the inputs, and is rounded
    after that; where weights were dropped without compensation it isn't. Compensation in sequence takes `sequential`,
    which runs the network. The result does not depend on `threads`, nor on `prunings`, which remembers. Raises
    RecipeError for a plan that its tensor can't have.
    """
    memory = Prunings(0) if prunings is None else prunings
    corrected = {layer.bias: layer for layer in layers.values() if layer.bias in layers and _moves(layer.name, plans)}
    # The largest first, so that no thread is left with one of them at the end.
    order = sorted(layers, key=lambda name: -layers[name].count)
    with ThreadPoolExecutor(threads) as pool:
        leading = [name for name in order if (how := _pruning(name, plans)) is not None and how.follows is None]
        kept = dict(
            zip(
                leading, pool.map(lambda name: _pruned(layers[name], plans[name].pruning, memory), leading), strict=True
            )
        )
        for name in order:
            how = _pruning(name, plans)
            if how is not None and how.follows is not None:
                kept[name] = _following(layers[name], how.follows, kept)
        first = [name for name in order if name not in corrected]
        made = pool.map(lambda name: _build(layers[name], plans.get(name), kept.get(name)), first)
        found = dict(zip(first, made, strict=True))
    for bias, layer in corrected.items():
        assert bias is not None
        found[bias] = _build(layers[bias], plans.get(bias), None, _shift(layer, found[layer.name]))
    if any(_is_sequential(name, plans) for name in layers):
        if sequential is None:
            raise RecipeError("compensation must not be sequential where no task runs the model: give --task")
        _refit(layers, plans, kept, found, sequential)
    return {name: found[name] for name in layers}


def _is_sequential(name: str, plans: Mapping[str, LayerPlan]) -> bool:
    """Whether a tensor's weights are to make up for those before it; rows that follow do as their leader does."""
    how = _pruning(name, plans)
    if how is not None and how.follows is not None:
        how = _pruning(how.follows, plans)
    return how is not None and how.compensation is Compensation.SEQUENTIAL


def _refit(
    layers: Mapping[str, Layer],
    plans: Mapping[str, LayerPlan],
    kept: Mapping[str, _Kept],
    found: dict[str, Built],
    sequential: Sequential,
) -> None:
    """In the order in which the network uses them, build layers anew: by what those before it, built already, give."""
    chosen = [layer for name, layer in layers.items() if _is_sequential(name, plans) and sequential.meets(name)]
    moving = {layer.name for layer in chosen} | {layer.bias for layer in chosen}
    others = {name: one.values for name, one in found.items() if name not in moving and _differs(layers[name], one)}
    changed = bool(others)

    def visit(name: str, moments: Moments) -> Values:
        nonlocal changed
        layer, part = layers[name], kept[name]
        mask = spread(part.units, part.unit, layer.weights.shape)
        if changed or not mask.all():
            weights = refit(layer.weights, mask, part.weights, moments, layer.factors.damage().outputs)
            found[name] = _build(layer, plans[name], part._replace(weights=weights))
        elif not _differs(layer, found[name]):
            return {}
        changed = True
        values = {name: found[name].values}
        if layer.bias in layers:
            assert layer.bias is not None
            more = found[name].values.reshape(layer.weights.shape) @ moments.mean - moments.target
            shift = np.asarray(layer.bias_sign * more, np.float32)
            found[layer.bias] = _build(layers[layer.bias], plans.get(layer.bias), None, shift)
            values[layer.bias] = found[layer.bias].values
        return values

    sequential.walk({layer.name: layer.bias in layers for layer in chosen}, others, visit)


def _differs(layer: Layer, built: Built) -> bool:
    return not np.array_equal(built.values.reshape(layer.weights.shape), layer.weights, equal_nan=True)


def _pruning(name: str, plans: Mapping[str, LayerPlan]) -> Pruning | None:
    plan = plans.get(name)
    return None if plan is None else plan.pruning


def _moves(name: str, plans: Mapping[str, LayerPlan]) -> bool:
    """Whether a tensor changes, and its bias is to make up for that."""
    plan = plans.get(name)
    if plan is None or plan.method is Method.LOSSLESS:
        return False
    how = plan.pruning
    if how is not None and how.follows is not None:
        return plan.method is Method.QUANTIZE  # rows that are missed by nobody need no bias
    return how is None or how.compensation is not Compensation.NONE


def _shift(layer: Layer, built: Built) -> NDArray[np.float32]:
    """What is to be taken from a layer's bias (R,): what its weights' change adds to the mean of its outputs."""
    assert layer.mean is not None
    change = built.values.reshape(layer.weights.shape) - layer.weights
    return np.asarray(layer.bias_sign * (change @ layer.mean), np.float32)


def _pruned(layer: Layer, how: Pruning | None, prunings: Prunings) -> _Kept:
    assert how is not None
    if not layer.prunable:
        raise RecipeError(
            f"{layer.name!r} must be the matrix of a linear or convolutional layer, of known sensitivity and with at "
            f"most 4096 rows and columns, to be pruned (it is {layer.kind}, {layer.shape}): leave its pruning out"
        )
    if how.density == 1.0:
        down, across = how.pattern.unit(layer.shape)
        rows, columns = layer.weights.shape
        return _Kept(np.ones((-(-rows // down), -(-columns // across)), bool), (down, across), layer.weights, 0.0)
    found = prunings.get(layer, how)
    return _Kept(found.units, how.pattern.unit(layer.shape), found.weights, found.cost)


def _following(layer: Layer, leader: str, kept: Mapping[str, _Kept]) -> _Kept:
    """Without the rows whose results the leader uses no more."""
    if leader not in kept:
        raise RecipeError(f"{layer.name!r}: follows must name a tensor that is pruned itself, not {leader!r}")
    units = kept[leader].units
    if units.shape != (1, len(layer.weights)):
        raise RecipeError(
            f"{layer.name!r}: follows must name a tensor pruned by column, with {len(layer.weights)} of them, "
            f"not {leader!r} with {units.shape[0]} x {units.shape[1]} units"
        )
    rows = units.T
    mask = spread(rows, (1, layer.weights.shape[1]), layer.weights.shape)
    return _Kept(rows, (1, layer.weights.shape[1]), np.where(mask, layer.weights, np.float32(0.0)), 0.0)


def _build(layer: Layer, plan: LayerPlan | None, kept: _Kept | None, shift: NDArray[np.float32] | None = None) -> Built:
    weights = layer.weights if kept is None else kept.weights
    weights = weights if shift is None else weights - shift.reshape(weights.shape)
    dtype = numpy_dtype(layer.dtype)
    if plan is None or plan.method is Method.LOSSLESS:
        return Built(None, weights.astype(dtype).astype(np.float32).reshape(layer.shape), 0, 0.0)
    _check_type(layer, weights)
    if plan.method is Method.PRUNE:
        assert kept is not None
        exact = weights.astype(dtype).reshape(layer.shape)
        sparse = Sparse.of(exact, kept.units, kept.unit)
        size = sparse_size(sparse, layer.dtype)
        return Built(sparse, exact.astype(np.float32), size, kept.loss, sparse.density)
    quantized, loss = _rounded(layer, plan, weights, kept)
    try:
        data = quantized.dequantized(layer.dtype)
    except ValueError as error:
        raise RecipeError(f"{layer.name!r}: {error}") from None
    values = data.view(dtype).astype(np.float32).reshape(layer.shape)
    if kept is None:
        return Built(quantized, values, encode_quantized(quantized, layer.dtype, seed=0).size, loss)
    sparse = Sparse.quantized(quantized, kept.units, kept.unit)
    return Built(sparse, values, sparse_size(sparse, layer.dtype), loss, sparse.density)


def _check_type(layer: Layer, weights: NDArray[np.float32]) -> None:
    if layer.dtype not in ("F32", "F16", "BF16"):
        raise RecipeError(
            f"{layer.name!r} must be F32, F16 or BF16 to be pruned or quantized, not {layer.dtype}: leave it out"
        )
    if weights.size == 0 or not np.isfinite(weights).all():
        raise RecipeError(f"{layer.name!r} must hold finite weights to be pruned or quantized: leave it out")


def _rounded(
    layer: Layer, plan: LayerPlan, weights: NDArray[np.float32], kept: _Kept | None
) -> tuple[Quantized, float]:
    """Indices of what pruning left, 0 where it left nothing, and the predicted loss of both."""
    assert plan.cell is not None
    assert plan.step is not None
    wanted = int(codes_of(plan.step)) + layer.relative_codes(plan.cell).astype(np.int32)
    codes: NDArray[np.int16] = np.clip(wanted, LOWEST, HIGHEST).astype(np.int16)
    mask = None if kept is None else spread(kept.units, kept.unit, weights.shape)
    indices, loss = layer.round(weights, scales_of(codes), plan.cell, plan.dead_zone, mask)
    if np.count_nonzero(np.abs(indices) == MOST) > weights.size * CLIPPED:
        least = float(np.abs(weights).max()) / MOST
        raise RecipeError(f"{layer.name!r}: step must be at least about {least:.2g} for its weights, not {plan.step!r}")
    quantized = Quantized(indices.reshape(layer.shape), codes, plan.cell.size(*weights.shape))
    return quantized, loss + (0.0 if kept is None else kept.loss)
