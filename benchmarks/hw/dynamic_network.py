"""The Fashion-MNIST ResNet in int8, with several variants of each matrix: what each costs, and what each loses."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "adaptation"))

import numpy as np
import torch
from emulate import losses
from grams import DAMPING, ITERATIONS, Inputs, gather, mixed
from numpy.typing import NDArray
from subjects import SHIFTS, images, resnet
from torch import Tensor

from regrain.core.granularity import Granularity
from regrain.hw.energy import Features, energy
from regrain.hw.energy_table import load
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.networks.layers import Layer, layers_of
from regrain.hw.networks.quantize import MOST, Integers
from regrain.hw.networks.schedule import PACKED, Source, scheduled
from regrain.hw.networks.simulated import Seen, watched
from regrain.hw.networks.variants import REORGANIZED, cheapest, encode, keep
from regrain.transforms.compensate import compensate
from regrain.transforms.damage import Damage

MACHINE, MEMORY, TABLE = Machine(), Memory(), load("horowitz")
GRANULARITIES = (Granularity.FINE, Granularity.MEDIUM, Granularity.COARSE)
DENSITIES = tuple(n / MACHINE.block for n in (7, 6, 5, 4, 3, 2))
VARIANTS: tuple[tuple[Granularity | None, float], ...] = (
    (None, 1.0),
    *itertools.product(GRANULARITIES, DENSITIES),
)
"""What a matrix may be: dense, or of a granularity and density."""

DOMAINS = tuple(SHIFTS)
GRAM, CALIBRATION, STREAM = 8, 4, 6
"""Calls of each domain: for ranges and least squares, for the losses that choices are calibrated by, in the stream."""

Numbers = NDArray[np.float64]
Choose = Callable[[int, int, float], int]
"""(matrix, call, mean variance of its input channels in this call) -> variant."""


@dataclass(frozen=True)
class Call:
    """Images that are served at once."""

    domain: str
    images: Tensor


def calibration(calls: slice) -> list[Call]:
    return [Call(domain, one) for domain in DOMAINS for one in images(domain, "calibration")[calls]]


def stream() -> list[Call]:
    """One domain after another."""
    return [Call(domain, one) for domain in DOMAINS for one in images(domain, "stream")[:STREAM]]


class Unit:
    """A matrix with its variants. `costs`: (packed or re-organized, variant, cycles and pJ) of a call; `alone`: of an
    image.
    """

    def __init__(self, layer: Layer, seen: Seen, inputs: Inputs | None, least_squares: bool) -> None:
        self.layer, self.inputs, self.least_squares = layer, inputs, least_squares
        self.whole = layer.matrix()
        factors = seen.range.factors(self.whole.reshape(len(self.whole), -1, layer.span))
        self.columns = np.repeat(factors, layer.span)
        self.step = seen.range.step(factors)
        self.divisor = self._by_channel(factors * np.float32(self.step))
        self.variance = np.repeat(seen.observation().variance, layer.span)
        self.chosen = 0

    def prepare(self, _: Any, args: tuple[Tensor]) -> None:
        """All variants, and what they cost for such inputs; a matrix that is not to change has only the dense one."""
        made = [self._variant(*one) for one in (VARIANTS if self.inputs is not None else VARIANTS[:1])]
        self.operands = []
        for integers, bias in made:
            kernel = torch.from_numpy(integers.values.astype(np.float32)).reshape(self.layer.weight.shape)
            scales = self._by_channel(integers.scales * np.float32(self.step))
            self.operands.append((kernel, scales, self._by_channel(bias.astype(np.float32))))
        self.costs, self.alone = (self._costs(made, self.layer.examples(x)) for x in (args[0], args[0][:1]))

    def _costs(self, made: Sequence[tuple[Integers, Numbers]], examples: Tensor) -> Numbers:
        tokens = self.layer.tokens(examples)
        features = Features(max(1.0, tokens * self.layer.shape[1] / examples.numel()))
        costs = [
            [
                _cost(one.values, granularity, again, tokens, features)
                for (one, _), (granularity, _) in zip(made, VARIANTS, strict=False)
            ]
            for again in (False, True)
        ]
        return np.array(costs)

    def _variant(self, granularity: Granularity | None, density: float) -> tuple[Integers, Numbers]:
        """What is kept makes up for what is dropped, and the bias for the means."""
        own = self.layer.bias()
        bias = np.zeros(len(self.whole)) if own is None else own.double().numpy()
        weights = self.whole
        if granularity is not None:
            assert self.inputs is not None
            scores = np.square(self.whole, dtype=np.float64) * self.variance
            mask = np.array(keep(granularity, scores, density, self.layer.span, MACHINE))
            weights = self._fitted(mask) if self.least_squares else np.where(mask, weights, np.float32(0.0))
            bias = bias + (self.whole - weights).astype(np.float64) @ self.inputs.mean
        return Integers.of(weights * self.columns, MACHINE), bias

    def _fitted(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        assert self.inputs is not None
        covariance = self.inputs.covariance
        damped = covariance + DAMPING * covariance.diagonal().mean() * np.eye(len(covariance))
        damage = Damage(damped.astype(np.float32), np.eye(len(mask), dtype=np.float32))
        return compensate(self.whole, mask, damage, iterations=ITERATIONS)

    def _by_channel(self, numbers: Any) -> Tensor:
        found = torch.from_numpy(np.asarray(numbers, np.float32))
        return found if self.layer.window is None else found[:, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        kernel, scales, bias = self.operands[self.chosen]
        steps = torch.round(x / self.divisor).clamp_(-MOST, MOST)
        window = self.layer.window
        if window is None:
            return steps @ kernel.T * scales + bias
        sums = torch.nn.functional.conv2d(steps, kernel, None, window.stride, window.padding, window.dilation)
        return sums * scales + bias


def _cost(
    weights: NDArray[np.int8], granularity: Granularity | None, again: bool, tokens: int, features: Features
) -> tuple[float, float]:
    """Cycles and pJ of a call, the weights packed as suits them, or re-organized `again` from the master copy."""
    kind = granularity or Granularity.FINE
    program = encode(REORGANIZED[kind], weights, MACHINE) if again else cheapest(weights, MACHINE, granularity)[1]
    source = Source.of(kind, program, MACHINE) if again else PACKED
    timing, runs = scheduled(program, tokens, MACHINE, MEMORY, source)
    return float(timing.cycles), sum(energy(timing, TABLE, MACHINE, MEMORY, features, runs * source.words).values())


class Net:
    """The network: `units` may change, stem and head stay dense. Losses are KL in nats, of an image of a call.

    `least_squares`: what a variant keeps is fitted anew; else weights are as they were, and the bias takes the means.
    """

    def __init__(self, *, least_squares: bool) -> None:
        network = resnet()
        self.model, self.output = network.model, network.output
        calls = calibration(slice(GRAM))
        layers, _ = layers_of(self.model)
        with watched(layers) as seen, torch.inference_mode():
            for call in calls:
                self.output(self.model, call.images)
        grams = [(1 / len(DOMAINS), gather(network, [c.images for c in calls if c.domain == d])) for d in DOMAINS]
        inputs = mixed(network, grams, {name: seen[f"{name}.weight"].observation() for name in network.layers})
        every = [Unit(one, seen[one.name], inputs.get(one.path), least_squares) for one in layers]
        handles = [one.layer.module.register_forward_pre_hook(one.prepare) for one in every]
        self(calls[0].images)
        for handle in handles:
            handle.remove()
        for one in every:
            one.layer.module.forward = one
        self.units = [one for one in every if one.inputs is not None]
        self.names = [one.layer.path for one in self.units]
        self.costs = np.array([one.costs for one in self.units])  # (matrix, mode, variant, cycles and pJ)
        self.constant = np.sum([one.costs[0, 0] for one in every if one.inputs is None], axis=0)

    def __call__(self, x: Tensor) -> NDArray[Any]:
        with torch.inference_mode():
            return self.output(self.model, x).numpy()

    def dense(self, calls: Sequence[Call]) -> tuple[list[NDArray[Any]], Numbers]:
        """Logits of the dense machine, and (calls, matrices) mean variances of the channels that come in."""
        logits: list[NDArray[Any]] = []
        metrics = np.zeros((len(calls), len(self.units)))
        for row, call in zip(metrics, calls, strict=True):

            def watch(place: int, metric: float, row: Numbers = row) -> int:
                row[place] = metric
                return 0

            with self._controlled(watch):
                logits.append(self(call.images))
        return logits, metrics

    def table(self, calls: Sequence[Call], logits: Sequence[NDArray[Any]]) -> Numbers:
        """(matrices, variants, calls): the loss where that matrix alone is that variant.

        Blocks before the one that the matrix is in see what the dense network sees, and aren't computed again.
        """
        found = np.zeros((len(self.units), len(VARIANTS), len(calls)))
        for unit in self.units:
            unit.chosen = 0
        for number, call in enumerate(calls):
            with torch.inference_mode():
                maps = [self.model.stem(call.images)]
                for block in self.model.blocks:
                    maps.append(block(maps[-1]))
                for place, unit in enumerate(self.units):
                    first = int(unit.layer.path.split(".")[1])
                    for variant in range(1, len(VARIANTS)):
                        unit.chosen = variant
                        x = maps[first]
                        for block in self.model.blocks[first:]:
                            x = block(x)
                        other = self.model.head(x.mean(dim=(2, 3))).numpy()
                        found[place, variant, number] = losses("logits", logits[number], other).mean()
                    unit.chosen = 0
        return found

    def follow(self, calls: Sequence[Call], logits: Sequence[NDArray[Any]], choose: Choose) -> tuple[Numbers, Any]:
        """(calls,) losses and (calls, matrices) variants. What is chosen for a call knows the call's own inputs: no
        controller could be quicker.
        """
        found, chosen = np.zeros(len(calls)), np.zeros((len(calls), len(self.units)), np.int64)
        for number, call in enumerate(calls):

            def chose(place: int, metric: float, number: int = number) -> int:
                chosen[number, place] = choose(place, number, metric)
                return int(chosen[number, place])

            with self._controlled(chose):
                found[number] = losses("logits", logits[number], self(call.images)).mean()
        return found, chosen

    @contextmanager
    def _controlled(self, choose: Callable[[int, float], int]) -> Iterator[None]:
        """Each matrix is told its variant when its inputs come: by its place and their mean variance."""

        def before(place: int, unit: Unit) -> Callable[..., None]:
            def hook(_: Any, args: tuple[Tensor]) -> None:
                unit.chosen = choose(place, float(args[0].var(dim=(0, 2, 3), correction=0).mean()))

            return hook

        handles = [
            unit.layer.module.register_forward_pre_hook(before(place, unit)) for place, unit in enumerate(self.units)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def spent(self, chosen: NDArray[np.int64], *, dynamic: bool) -> Numbers:
        """(calls, cycles and pJ) of the whole network: of matrices as they are stored, or from their master copies."""
        return self.constant + sum(costs[chosen[:, place]] for place, costs in enumerate(self.costs[:, int(dynamic)]))
