"""How the inputs of each matrix vary together, and weights that make up for what is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from emulate import Floats, Layer, Network, Sums
from numpy.typing import NDArray
from torch import Tensor, nn

from regrain.policies import Decision, Observation, kept_weights
from regrain.transforms.compensate import compensate
from regrain.transforms.damage import Damage

DAMPING, ITERATIONS = 0.01, 20
"""Of the mean variance, added to every variance; steps of conjugate gradients."""

OWN = 0.8
"""What a domain's own data weigh in its candidate, beside the pool of all: a small sample can't be trusted alone."""


@dataclass(frozen=True)
class Inputs:
    """Of a layer's C x span inputs: means and covariance; `seen` is what a monitor would say of the channels."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    seen: Observation


@dataclass
class Gathering:
    count: int = 0
    total: Any = 0.0
    gram: Any = 0.0
    channels: Sums = field(default_factory=Sums)

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.total = self.total + rows.double().sum(0)
        self.gram = self.gram + (rows.T @ rows).double()


def gather(network: Network, batches: Sequence[Any]) -> dict[str, Gathering]:
    found: dict[str, Gathering] = {}

    def hook(layer: Layer) -> Any:
        def add(module: Any, inputs: Any) -> None:
            one = found.setdefault(layer.name, Gathering())
            one.add(_patches(module, inputs[0]))
            one.channels.add(layer.rows(inputs[0]))

        return add

    layers = [layer for name, layer in network.layers.items() if name not in network.shared]
    handles = [layer.module.register_forward_pre_hook(hook(layer)) for layer in layers]
    with torch.inference_mode():
        for batch in batches:
            network.output(network.model, batch)
    for handle in handles:
        handle.remove()
    return found


def mixed(
    network: Network, parts: Sequence[tuple[float, Mapping[str, Gathering]]], seen: Mapping[str, Observation]
) -> dict[str, Inputs]:
    """Of data of which each part has that weight, however much of it there is."""
    result = {}
    for name in parts[0][1]:
        mean = sum(weight * part[name].total.numpy() / part[name].count for weight, part in parts)
        gram = sum(weight * part[name].gram.numpy() / part[name].count for weight, part in parts)
        result[name] = mean, gram - np.outer(mean, mean)
    return {name: Inputs(*result[network.shared.get(name, name)], seen[name]) for name in network.layers}


def compensated(layer: Layer, decision: Decision, inputs: Inputs) -> tuple[Floats, NDArray[np.float64]]:
    """Weights and bias: what is kept makes up for what is dropped, and the bias for the means."""
    mask = kept_weights(decision, layer.weights, layer.energy)
    damped = inputs.covariance + DAMPING * inputs.covariance.diagonal().mean() * np.eye(len(inputs.mean))
    damage = Damage(damped.astype(np.float32), np.eye(len(layer.weights), dtype=np.float32))
    weights = compensate(layer.weights, mask, damage, iterations=ITERATIONS)
    return weights, layer.bias + (layer.weights - weights) @ inputs.mean


def _patches(module: Any, x: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    patches = nn.functional.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])
