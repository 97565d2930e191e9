"""Numbers as the accelerator has them: int8 weights with a scale for each output, int8 activations with one for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.machine import Machine

Floats = NDArray[np.float32]

MOST = 127
"""The largest magnitude of a number that is rounded here: a symmetric range."""

SAMPLE = 1 << 15
"""Numbers of each call that a step is judged by, about."""

SMOOTHING = 0.8
"""How much of the range of a channel's inputs goes to its weights: what its authors take for models with outliers."""

_SHARES = np.linspace(1.0, 0.2, 41)


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """A matrix: values (outputs, inputs) int8, and scales (outputs,): a weight is value x scale.

    sum |values of an output| <= machine.most_weight: no accumulator overflows.
    """

    values: NDArray[np.int8]
    scales: Floats

    @classmethod
    def of(cls, weights: Floats, machine: Machine) -> Integers:
        """The nearest to finite weights, a zero staying zero. The scale of an output is that of its largest weight, or
        larger where the accumulator could overflow. Raises HardwareError.
        """
        if not np.isfinite(weights).all():
            raise HardwareError("weights must be finite, and have NaN or infinity in them: repair the model")
        size = np.abs(weights.astype(np.float64))
        scales = np.maximum(size.max(1, initial=0.0) / MOST, size.sum(1) / machine.most_weight)
        scales = np.where(scales > np.finfo(np.float32).tiny, scales, 1.0)
        while True:
            kept = scales.astype(np.float32)
            values = np.clip(np.rint(weights / kept[:, None]), -MOST, MOST)
            over = np.abs(values).sum(1) > machine.most_weight
            if not over.any():
                return cls(values.astype(np.int8), kept)
            scales = np.where(over, scales * 1.02, scales)

    @classmethod
    def stored(cls, indices: NDArray[np.int8], scales: Floats, machine: Machine) -> Integers:
        """An artifact's own indices (outputs, inputs) with a scale for each row; rounded anew only where they would
        overflow an accumulator.
        """
        sums = np.abs(indices.astype(np.int64)).sum(1)
        if (sums <= machine.most_weight).all():
            return cls(indices, scales)
        return cls.of(indices * scales[:, None], machine)

    def weights(self) -> Floats:
        """What they stand for, (outputs, inputs)."""
        found: Floats = self.values * self.scales[:, None]
        return found


class Range:
    """The range of activations, from calibration: the largest magnitude of each channel, (C,), and a sample of rows."""

    def __init__(self, channels: int) -> None:
        self.most = np.zeros(channels, np.float32)
        self._sample: list[Floats] = []

    def add(self, rows: Floats) -> None:
        """Take in some more, (n, C). Raises HardwareError for numbers that aren't finite."""
        if not rows.size:
            return
        size = np.abs(rows)
        self.most = np.maximum(self.most, size.max(0))
        if not np.isfinite(self.most).all():
            raise HardwareError("inputs must be finite, and have NaN or infinity in them: repair the model or its data")
        self._sample.append(size[:: -(-rows.size // SAMPLE)])

    def factors(self, weights: Floats) -> Floats:
        """Numbers (C,) that channels are divided by, and their weights (outputs, C, span) multiplied with, so that both
        can be rounded by few steps: max|x|^a / max|w|^(1 - a), with a geometric mean of 1.

        Xiao et al., "SmoothQuant: accurate and efficient post-training quantization for large language models" (2023),
        equation 4. They are free: what makes the inputs has a factor for each of its outputs.
        """
        largest = np.abs(weights).max((0, 2), initial=0.0)
        used = (self.most > 0) & (largest > 0)
        if not used.any():
            return np.ones(used.size, np.float32)
        logs = SMOOTHING * np.log(self.most, where=used, out=np.zeros(used.size))
        logs -= (1 - SMOOTHING) * np.log(largest, where=used, out=np.zeros(used.size))
        found: Floats = np.where(used, np.exp(logs - logs[used].mean()), 1.0).astype(np.float32)
        return found

    def step(self, factors: Floats) -> float:
        """The step whose rounding and clipping to +-127 loses least of inputs over factors, of steps from a fifth of
        the full range on.
        """
        most = float((self.most / factors).max(initial=0.0))
        if most == 0.0:
            return 1.0
        sample = (np.concatenate(self._sample) / factors).astype(np.float64)
        steps = most / MOST * _SHARES
        losses = [np.square(sample - np.minimum(np.rint(sample / step), MOST) * step).sum() for step in steps]
        return float(np.float32(steps[int(np.argmin(losses))]))
