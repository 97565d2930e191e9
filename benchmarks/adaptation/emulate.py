"""Networks whose matrices follow decisions: masks are multiplied into dense weights, so that only the loss is measured.

Multiply-adds are counted as an engine would do them; its speed is measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regrain.policies import Decision, Matrix, Observation, folded, kept_weights, panel_energy

Floats = NDArray[np.float32]


@dataclass
class Layer:
    """A matrix with its original weights (R, C x span) and bias (R,). `calls` is how often it serves a token."""

    name: str
    module: Any
    weights: Floats
    bias: Floats
    span: int
    energy: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, module: Any) -> Layer:
        array = module.weight.detach().numpy().copy()
        if module.bias is None:
            module.bias = nn.Parameter(torch.zeros(array.shape[0]), requires_grad=False)
        span = math.prod(array.shape[2:])
        return cls(
            name, module, array.reshape(len(array), -1), module.bias.detach().numpy().copy(), span, panel_energy(array)
        )

    def put(self, weights: Floats, bias: NDArray[Any]) -> None:
        self.module.weight.data = torch.from_numpy(np.ascontiguousarray(weights)).reshape(self.module.weight.shape)
        self.module.bias.data = torch.from_numpy(bias.astype(np.float32))

    def decide(self, decision: Decision) -> None:
        mask = kept_weights(decision, self.weights, self.energy)
        self.put(np.where(mask, self.weights, np.float32(0)), self.bias + folded(decision, self.weights, mask))

    def restore(self) -> None:
        self.put(self.weights, self.bias)

    def rows(self, x: Tensor) -> Tensor:
        """Inputs (positions, C) of a call."""
        return (
            x.reshape(-1, x.shape[-1])
            if isinstance(self.module, nn.Linear)
            else x.movedim(1, -1).reshape(-1, x.shape[1])
        )


@dataclass
class Sums:
    """Sums about 0 in double precision: what the monitor must agree with."""

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0

    def add(self, rows: Tensor) -> None:
        x = rows.double()
        self.count += len(x)
        self.total = self.total + x.sum(0)
        self.squares = self.squares + (x * x).sum(0)

    def observation(self) -> Observation:
        mean = (self.total / self.count).numpy()
        variance = np.maximum((self.squares / self.count).numpy() - mean * mean, 0.0)
        return Observation(self.count, mean, variance)


@dataclass
class Network:
    model: nn.Module
    layers: dict[str, Layer]
    output: Callable[[nn.Module, Any], Tensor]
    kind: str  # of the outputs: "embeddings" or "logits"
    shared: dict[str, str] = field(default_factory=dict)  # layers with the same input as another one

    @contextmanager
    def watched(self, add: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Calls `add(name, rows)` for each matrix that is reached; of those that share an input, for the first."""

        def hook(layer: Layer) -> Callable[..., None]:
            return lambda module, inputs: add(layer.name, layer.rows(inputs[0].detach()))

        handles = [
            layer.module.register_forward_pre_hook(hook(layer))
            for name, layer in self.layers.items()
            if name not in self.shared
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def observe(self, batches: Sequence[Any]) -> dict[str, Observation]:
        sums: dict[str, Sums] = {}
        with self.watched(lambda name, rows: sums.setdefault(name, Sums()).add(rows)), torch.inference_mode():
            for batch in batches:
                self.output(self.model, batch)
        return {name: sums[self.shared.get(name, name)].observation() for name in self.layers}

    @torch.inference_mode()
    def outputs(self, batch: Any) -> NDArray[Any]:
        return self.output(self.model, batch).numpy()

    def matrix(self, name: str, seen: Observation, **fields: Any) -> Matrix:
        layer = self.layers[name]
        return Matrix(
            name,
            len(layer.weights),
            layer.span,
            layer.energy,
            seen.mean,
            seen.variance,
            calibrated=seen.count,
            **fields,
        )


def losses(kind: str, original: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine distances of embeddings (n, d), or KL(original || other) of logits (n, classes) in nats: (n,)."""
    if kind == "embeddings":
        return 1.0 - (original * other).sum(1) / np.linalg.norm(original, axis=1) / np.linalg.norm(other, axis=1)
    p, q = (torch.log_softmax(torch.from_numpy(x).double(), 1) for x in (original, other))
    return (p.exp() * (p - q)).sum(1).numpy()
