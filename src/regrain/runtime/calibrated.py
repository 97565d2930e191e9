"""What is known of the inputs of each matrix before anything is served, from calibration data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regrain.core.errors import AttachError
from regrain.core.pattern import Pattern
from regrain.models.trace import evaluating
from regrain.policies import Observation
from regrain.policies.token_skip import calibrate as token_threshold
from regrain.runtime.layers import Floats, Layer, layers_of, obstacle
from regrain.runtime.master import Candidate
from regrain.runtime.stored import panel_units
from regrain.transforms.damage import Damage
from regrain.transforms.prune import prune

Run = Callable[[], Iterable[object]]
"""Uses the model for a batch with each step."""

SAMPLE = 4096
"""Inputs that a threshold is found on, at most."""

RIDGE = 0.01
"""Added to the diagonal of a Gram matrix, as a fraction of its mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """Of one matrix: its `inputs` on calibration data; the `density`, above 0 to 1, that layouts may have; the
    `threshold` of token-skip, None without; patterns with compensated weights, of which the first holds at the start;
    the `positions` of an image, 1 where tokens follow each other.
    """

    inputs: Observation
    density: float = 1.0
    threshold: float | None = None
    candidates: tuple[Candidate, ...] = ()
    positions: int = 1


def calibrate(
    model: nn.Module,
    runs: Run | Sequence[Run],
    *,
    density: float | Mapping[str, float] = 1.0,
    pattern: str | None = None,
    skip: bool = False,
) -> dict[str, Calibrated]:
    """What `attach` wants to know of a model's layers, by the names of their weights.

    runs: each uses the model for data of one kind. density: of all layers, or of those named. pattern: with one, such
    as "block:16x1" or "column", a bank is built: what is compensated for all data together, then for those of each run
    where there are several. skip: find thresholds for choosing columns by token. Layers that the runs don't reach are
    left out. The model is called in eval mode, without gradients. Raises AttachError for inputs that aren't finite, or
    none.
    """
    kinds = [runs] if callable(runs) else list(runs)
    layers = [layer for layer in layers_of(model) if obstacle(layer) is None]
    wanted = density if isinstance(density, Mapping) else dict.fromkeys((layer.name for layer in layers), density)
    banked = {name for name, share in wanted.items() if pattern is not None and share < 1.0}
    found: dict[str, Calibrated] = {}
    sums = [_gathered(model, layers, run, banked, skip) for run in kinds]
    if not any(sums):
        raise AttachError("the runs must reach a linear layer of the model, and reach none")
    for layer in layers:
        parts = [each[layer.name] for each in sums if layer.name in each]
        if not parts:
            continue
        whole, share = _pooled(parts), float(wanted.get(layer.name, 1.0))
        inputs = whole.observation(layer)
        threshold = None
        if skip and layer.window is None and share < 1.0:
            energy = np.square(layer.matrix(), dtype=np.float64).sum(axis=0)
            threshold = token_threshold(np.concatenate(whole.sample), inputs.mean, energy, share)
        candidates: tuple[Candidate, ...] = ()
        if pattern is not None and share < 1.0:
            groups = [whole, *(parts if len(parts) > 1 else ())]
            candidates = tuple(_candidate(layer, group, Pattern(pattern), share) for group in groups)
        found[layer.name] = Calibrated(inputs, share, threshold, candidates, whole.positions)
    return found


def seen_by(model: nn.Module, layers: Sequence[Layer], run: Run) -> dict[str, Observation]:
    """Moments of the inputs of those layers that a run reaches, as `calibrate` counts them. Raises AttachError."""
    found = _gathered(model, layers, run, set(), sampled=False)
    return {layer.name: found[layer.name].observation(layer) for layer in layers if layer.name in found}


class _Sums:
    """Of inputs (n, C): their count, sum, sum of squares or Gram matrix, and some of them; `positions` of an image."""

    def __init__(self, columns: int, gram: bool, sampled: bool, positions: int = 1) -> None:
        self.count = 0
        self.positions = positions
        self.total = np.zeros(columns)
        self.squares: NDArray[np.float64] = np.zeros((columns, columns) if gram else columns)
        self.sample: list[Floats] = []
        self._sampled = sampled

    def add(self, rows: torch.Tensor) -> None:
        """Take in some more."""
        self.count += len(rows)
        self.total += rows.double().sum(0).numpy()
        self.squares += (rows.T @ rows if self.squares.ndim == 2 else rows.double().square_().sum(0)).numpy()
        if self._sampled and sum(map(len, self.sample)) < SAMPLE:
            self.sample.append(rows[: SAMPLE // 8].numpy().copy())

    def observation(self, layer: Layer) -> Observation:
        """Mean and variance of the channels: of all kernel positions of one."""
        mean = self.total / self.count
        squares = self.squares.diagonal() if self.squares.ndim == 2 else self.squares
        with np.errstate(invalid="ignore", over="ignore"):
            variance = np.maximum(squares / self.count - mean * mean, 0.0)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise AttachError("its inputs must be finite, and have NaN or infinity in them", tensor=layer.name)
        spread = mean.reshape(-1, layer.span)
        channels = spread.mean(axis=1)
        variance = variance.reshape(-1, layer.span).mean(axis=1) + np.square(spread - channels[:, None]).mean(axis=1)
        return Observation(self.count, channels, variance)

    def damage(self, rows: int) -> Damage:
        """What a change of the weights does to the outputs: their inputs' covariance, a little more on its diagonal."""
        mean = self.total / self.count
        covariance = self.squares / self.count - np.outer(mean, mean)
        covariance[np.diag_indices_from(covariance)] += RIDGE * covariance.diagonal().mean() + 1e-12
        return Damage(covariance.astype(np.float32), np.eye(rows, dtype=np.float32))


def _pooled(parts: Sequence[_Sums]) -> _Sums:
    if len(parts) == 1:
        return parts[0]
    whole = _Sums(parts[0].total.size, parts[0].squares.ndim == 2, False, max(part.positions for part in parts))
    for part in parts:
        whole.count += part.count
        whole.total += part.total
        whole.squares += part.squares
        whole.sample += part.sample
    return whole


def _candidate(layer: Layer, sums: _Sums, pattern: Pattern, density: float) -> Candidate:
    weights = layer.matrix()
    unit = pattern.unit(layer.weight.shape if not layer.turned else weights.shape)
    (pruned,) = prune(weights, sums.damage(len(weights)), unit, [density], among=pattern.among)
    return Candidate.of(pruned.weights, panel_units(pruned.units, unit, *weights.shape), sums.observation(layer))


def _gathered(model: nn.Module, layers: Sequence[Layer], run: Run, banked: set[str], sampled: bool) -> dict[str, _Sums]:
    found: dict[str, _Sums] = {}
    with evaluating(model), _hooked(layers, found, banked, sampled):
        for _ in run():
            pass
    return found


@contextmanager
def _hooked(layers: Sequence[Layer], found: dict[str, _Sums], banked: set[str], sampled: bool) -> Iterator[None]:
    handles = []
    for layer in layers:

        def hook(_: nn.Module, args: Any, named: Any, layer: Layer = layer) -> None:
            x = args[0] if args else named["input"]
            rows = _rows(layer, x.detach().float())
            if len(rows):
                name = layer.name
                if name not in found:
                    found[name] = _Sums(layer.shape[1], name in banked, sampled, _positions(layer, x))
                found[name].add(rows)

        handles.append(layer.module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """What the matrix of a layer is multiplied with, (n, columns): of a convolution patches, padding and all."""
    window = layer.window
    if window is None:
        return x.reshape(-1, layer.shape[1])
    channels, axes = layer.weight.shape[1], layer.weight.dim() - 2
    size = x.shape[-axes:]
    images = x.reshape(-1, channels, *((1, size[0]) if axes == 1 else size))
    patches = nn.functional.unfold(images, window.kernel, window.dilation, window.padding, window.stride)
    return patches.transpose(1, 2).reshape(-1, layer.shape[1])


def _positions(layer: Layer, x: torch.Tensor) -> int:
    """Of one example: what a monitor counts of an image."""
    return 1 if layer.window is None else math.prod(x.shape[2 - layer.weight.dim() :])
