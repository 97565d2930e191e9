"""The layers as the page needs them: what the receipt says, completed by the descriptors, in columns, within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from regrain.pipelines.report.receipt import Histogram, Layer
from regrain.pipelines.sizes import TensorSize

MOST_LAYERS = 5000
"""Layers that a page lists; of more, the largest."""

_MOST_BINS = 40_000  # of all histograms together
_FEWEST_BINS, _USUAL_BINS = 8, 32
_LONGEST = 400  # characters of a name or a reason


def complete(layers: Iterable[Layer], tensors: Iterable[TensorSize]) -> list[Layer]:
    """The receipt's layers with what only descriptors know, then the tensors that it does not mention."""
    described = {tensor.descriptor.name: tensor for tensor in tensors}
    made = [_completed(layer, described.pop(layer.name, None)) for layer in layers]
    return made + [_completed(Layer(name, ()), tensor) for name, tensor in described.items()]


def columns(layers: Sequence[Layer]) -> dict[str, object]:
    """The layers as columns of equal length, at most MOST_LAYERS of them; histograms thinned to what fits a page."""
    shown = largest(layers)
    bins = min(_USUAL_BINS, _MOST_BINS // max(1, len(shown)))
    made: dict[str, object] = {
        "name": [shorten(layer.name) for layer in shown],
        "shape": [list(layer.shape) for layer in shown],
        "kind": [layer.kind for layer in shown],
        "weights": [layer.weights for layer in shown],
        "granularity": [layer.granularity for layer in shown],
        "cell": [list(layer.cell) for layer in shown],
        "scheme": [layer.scheme for layer in shown],
        "kept": [None if layer.kept is None else shorten(layer.kept) for layer in shown],
        "density": [_rounded(layer.density) for layer in shown],
        "step": [_rounded(layer.step) for layer in shown],
        "bits": [_rounded(layer.bits) for layer in shown],
        "bytes": [layer.nbytes for layer in shown],
        "damage": [_rounded(layer.predicted_loss) for layer in shown],
        "sensitivity": [_rounded(layer.sensitivity) for layer in shown],
        "why": [None if layer.why is None else shorten(layer.why) for layer in shown],
    }
    measured = sorted({key for layer in shown for key in layer.statistics or {}})
    made["statistics"] = {key: [_rounded((layer.statistics or {}).get(key)) for layer in shown] for key in measured}
    if bins >= _FEWEST_BINS:
        made["histogram"] = [_drawn(layer.histogram, bins) for layer in shown]
    return made


def largest(layers: Sequence[Layer]) -> Sequence[Layer]:
    """The MOST_LAYERS largest, in their order."""
    if len(layers) <= MOST_LAYERS:
        return layers
    order = sorted(range(len(layers)), key=lambda index: (-(layers[index].nbytes or 0), index))
    return [layers[index] for index in sorted(order[:MOST_LAYERS])]


def thin(histogram: Histogram, bins: int) -> Histogram:
    """The histogram with at most `bins` bins: neighbors are joined, and nothing is lost of the sum."""
    size = math.ceil(len(histogram.counts) / bins)
    starts = range(0, len(histogram.counts), size)
    edges = (*(histogram.edges[start] for start in starts), histogram.edges[-1])
    return Histogram(edges, tuple(sum(histogram.counts[start : start + size]) for start in starts))


def shorten(text: str) -> str:
    """The text, with its middle left out if it is too long for a page."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def _completed(layer: Layer, tensor: TensorSize | None) -> Layer:
    if tensor is None:
        return layer
    descriptor = tensor.descriptor
    scheme = descriptor.scheme
    known = "quantized" if scheme.cell is not None else f"lossless, {scheme.coder}"
    pruned = descriptor.density is not None and descriptor.tied is None
    if pruned:
        known = "pruned" if scheme.cell is None else "pruned, quantized"
    return replace(
        layer,
        shape=descriptor.shape,
        weights=math.prod(descriptor.shape) if layer.weights is None else layer.weights,
        granularity=layer.granularity or str(descriptor.granularity),
        cell=layer.cell or scheme.cell or (),
        scheme=layer.scheme or known,
        bits=tensor.bits_per_element if layer.bits is None else layer.bits,
        nbytes=tensor.stored if layer.nbytes is None else layer.nbytes,
        pattern=layer.pattern or (scheme.pattern if pruned else None),
        density=descriptor.density if pruned else layer.density,
        why=layer.why or (f"the same bytes as {descriptor.tied}" if descriptor.tied else None),
    )


def _drawn(histogram: Histogram | None, bins: int) -> dict[str, object] | None:
    """Edges from and to, and heights from 0 to 99: enough for a drawing of a few dozen pixels."""
    if histogram is None:
        return None
    thinned = thin(histogram, bins)
    highest = max(thinned.counts) or 1.0
    heights = [math.ceil(99 * count / highest) for count in thinned.counts]
    return {"from": _rounded(thinned.edges[0]), "to": _rounded(thinned.edges[-1]), "heights": heights}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
