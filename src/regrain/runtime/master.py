"""The weights that a matrix's layouts are made from, and how a decision becomes a layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from regrain.core.granularity import Granularity
from regrain.kernels.panels import Panels
from regrain.kernels.skipping import Skipping, SkipValue
from regrain.policies import Class, Decision, Matrix, Observation, kept_blocks, kept_weights
from regrain.runtime.buffers import Buffers
from regrain.runtime.layers import Floats
from regrain.runtime.layout import Biased, Layout
from regrain.runtime.weights import Form, Weights

SKIPPED = 2
"""Up to so many tokens choose their columns: more of them would have few in common."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A pattern whose weights (R, C) were compensated off line, 0 where they are dropped, for inputs of the decision's
    mean and variance. `units`, (C,) or (panels, C), is True where a layout of panels stores them.
    """

    decision: Decision
    weights: Floats
    units: NDArray[np.bool_]

    @classmethod
    def of(cls, weights: Floats, units: NDArray[np.bool_], inputs: Observation) -> Self:
        """What such units are, as a decision: channels that some panels have are BLOCK, others all or nothing."""
        parts = np.atleast_2d(units).reshape(-1, inputs.mean.size, units.shape[-1] // inputs.mean.size)
        classes = np.full(inputs.mean.size, Class.BLOCK, np.uint8)
        classes[parts.all(axis=(0, 2))] = Class.DENSE
        classes[~parts.any(axis=(0, 2))] = Class.DROPPED
        density = max(float(units.mean()), 1.0 / units.size)
        grain = Granularity.MEDIUM if (classes == Class.BLOCK).any() else Granularity.COARSE
        decision = Decision(grain, classes, density, inputs.mean, inputs.variance)
        return cls(decision, weights, units)


@dataclass(frozen=True, slots=True, eq=False)
class Master:
    """The original weights (R, C) and bias (R,) of a matrix. They are only read."""

    matrix: Matrix
    weights: Floats
    bias: Floats
    candidates: tuple[Candidate, ...]
    form: Form
    linear: bool = True

    def lay_out(self, decision: Decision, buffers: Buffers) -> Layout:
        """What follows a decision, in idle memory: y = b + W m + V (x - m), with V the weights that are kept, as they
        are laid out, and m the decision's mean.
        """
        if decision.threshold is not None and self.linear:
            panels = Panels.pack(self.weights, bias=self.bias, value=self.form.value or "f32", into=buffers.idle())
            buffers.used(panels)
            return self._skipping(decision, panels)
        weights = self._kept(decision)
        layout = replace(self.form.lay_out(weights, None, self.linear, buffers.idle()), decision=decision)
        assert isinstance(layout.few, Panels)
        buffers.used(layout.few)
        if weights.values is self.weights and layout.few.density == 1.0 and self.form.value in (None, "f32"):
            return _with_bias(layout, self.bias)
        return self.fold(layout, decision)

    def fold(self, layout: Layout, decision: Decision) -> Layout:
        """The same weights with the bias for a decision's mean."""
        if decision.threshold is not None and self.linear and layout.many is not None:
            return self._skipping(decision, layout.many)
        mean = np.repeat(decision.mean, self.matrix.span).astype(np.float32)
        whole: Floats = np.einsum("rc,c->r", self.weights, mean)  # not `@`: see `outputs`
        bias = self.bias + whole - _product(layout.few.with_bias(np.zeros_like(self.bias)), mean)
        return replace(_with_bias(layout, bias), decision=decision)

    def outputs(self, inputs: Floats) -> Floats:
        """What the original gives for inputs (N, C): (N, R). On this thread: a BLAS would wake others that serve."""
        found: Floats = np.empty((len(inputs), len(self.bias)), np.float32)
        Panels.pack(self.weights, bias=self.bias).multiply(inputs, found)
        return found

    def _skipping(self, decision: Decision, many: Biased) -> Layout:
        """Columns chosen for each token, where there are few of these."""
        assert decision.threshold is not None
        mean = np.repeat(decision.mean, self.matrix.span).astype(np.float32)
        kept: SkipValue = "f32" if self.form.value is None else "i8" if self.form.value == "i4" else self.form.value
        few = Skipping.pack(self.weights, value=kept, mean=mean, bias=self.bias, threshold=decision.threshold)
        return Layout(few, many, SKIPPED + 1, decision=decision)

    def _kept(self, decision: Decision) -> Weights:
        if decision.candidate is not None:
            chosen = self.candidates[decision.candidate]
            return Weights(chosen.units, chosen.weights)
        energy = self.matrix.energy
        keep = np.repeat(kept_blocks(decision, energy), self.matrix.span, axis=1)
        weights = self.weights
        if decision.granularity is Granularity.FINE:
            weights = np.where(kept_weights(decision, weights, energy), weights, np.float32(0.0))
        if keep.all():
            return Weights(None, weights)
        return Weights(np.ascontiguousarray(keep[0]) if (keep == keep[0]).all() else keep, weights)


def _with_bias(layout: Layout, bias: Floats) -> Layout:
    many = None if layout.many is None else layout.many.with_bias(bias)
    return replace(layout, few=layout.few.with_bias(bias), many=many)


def _product(panels: Biased, x: Floats) -> Floats:
    """W x (R,) for one vector x (C,)."""
    out: Floats = np.empty((1, panels.rows), np.float32)
    panels.multiply(x[None], out)
    return out.reshape(-1)
