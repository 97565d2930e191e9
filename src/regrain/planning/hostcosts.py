"""What loading weights costs on this machine, by the form that they are kept in: measured, not assumed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

import regrain.numpy
from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.codecs.grid import codes_of
from regrain.codecs.quantized import Quantized
from regrain.core.dtypes import numpy_dtype
from regrain.planning.layer import Layer

ROUNDS = 9

SAMPLE = 1 << 20
"""Weights that are loaded to find out, in whole rows."""

STEP = 0.35
"""Step of the quantized sample in standard deviations: about 3.5 bits a weight."""


@dataclass(frozen=True, slots=True)
class HostCosts:
    """Seconds on one thread: of a byte that is read (from memory, as from the page cache), and of a weight that is
    decoded, lossless or quantized.
    """

    byte: float
    lossless: float
    quantized: float

    def to_json(self) -> dict[str, float]:
        """A JSON object with every field."""
        return asdict(self)


def measure_costs(layer: Layer) -> HostCosts:
    """Costs of weights like this layer's, which must be usable: real artifacts of some of its rows, loaded."""
    rows = max(1, min(layer.weights.shape[0], SAMPLE // layer.weights.shape[1]))
    sample = np.ascontiguousarray(layer.weights[:rows]).astype(numpy_dtype(layer.dtype))
    step = float(layer.weights[:rows].std()) * STEP or 1.0
    indices = np.clip(np.rint(layer.weights[:rows] / step), -(2**15), 2**15 - 1).astype(np.int16)
    chosen = Quantized(indices, codes_of([[step]]), sample.shape)
    whole, coarse = _artifact(layer.dtype, sample, None), _artifact(layer.dtype, sample, chosen)
    block = np.empty(16 << 20, np.uint8)
    target = np.empty_like(block)
    byte = _seconds(lambda: np.copyto(target, block)) / block.size

    def weight(artifact: bytes) -> float:
        seconds = _seconds(lambda: regrain.numpy.load(artifact, threads=1)) - len(artifact) * byte
        return max(seconds, 0.0) / sample.size

    return HostCosts(byte, weight(whole), weight(coarse))


def _artifact(dtype: str, sample: np.ndarray, quantized: Quantized | None) -> bytes:
    source = from_tensors({"w": Lazy(dtype, sample.shape, lambda: array_bytes(sample))}, None, "sample")
    sink = OutputBytes()
    write_packed(source, sink, {} if quantized is None else {"w": quantized}, version="", receipt={})
    return sink.getvalue()


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
