"""Weights on their way into a layout: numbers, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regrain.kernels.integers import COLUMNS, Integers
from regrain.kernels.panels import Panels, Value
from regrain.kernels.rows import UNIT, Rows
from regrain.runtime.host import Host
from regrain.runtime.layers import Floats
from regrain.runtime.layout import Biased, Layout

Mask = NDArray[np.bool_]

Activations = Literal["f32", "i8"]
"""What inputs are for calls of many tokens: i8 rounds those of each token to eight bits."""

SCATTERED = 0.7
"""Where fewer of the weights in kept units are not zero, lists of single weights are considered."""

ALIGNED = 1.1
"""Lists are shared by four rows where that adds fewer weights than this factor says."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A matrix (R, C). `units`, (C,) or (panels, C), is True for what panels keep of it, None for all. It has `values`
    (R, C), or 8-bit `indices` (R, C) with a scale for each row, (R, 1), or each `group` of columns, (R, groups). What
    was dropped is 0.
    """

    units: Mask | None
    values: Floats | None
    indices: NDArray[np.int8] | None = None
    scales: Floats | None = None
    group: int | None = None

    def dense(self) -> Floats:
        """The numbers (R, C)."""
        if self.values is not None:
            return self.values
        assert self.indices is not None
        assert self.scales is not None
        columns = self.indices.shape[1]
        scales = self.scales if self.group is None else np.repeat(self.scales, self.group, axis=1)[:, :columns]
        return self.indices * scales

    def panels(self, bias: Floats | None, value: Value | None, into: NDArray[np.uint8] | None = None) -> Panels:
        """In panels. Without a `value` as they are: 8-bit indices, or else float32."""
        if self.indices is not None and self.scales is not None and value in (None, "i8"):
            return Panels.from_indices(
                self.indices, self.scales, keep=self.units, bias=bias, group=self.group, into=into
            )
        return Panels.pack(self.dense(), keep=self.units, bias=bias, value=value or "f32", into=into)

    def integers(self, bias: Floats | None) -> Integers:
        """For products of integers."""
        keep = self.units
        if keep is not None and keep.ndim == 2:
            keep = np.logical_or.reduceat(keep, np.arange(0, keep.shape[1], COLUMNS), axis=1)
        if self.indices is not None and self.scales is not None and self.group is None:
            return Integers.from_indices(self.indices, self.scales[:, 0].copy(), keep=keep, bias=bias)
        return Integers.pack(self.dense(), keep=keep, bias=bias)

    def rows(self, bias: Floats | None) -> Rows | None:
        """In lists of single weights, or of four that are below each other; None where hardly any of them is 0."""
        if self.units is None:
            return None
        values = self.dense()
        mask = values != 0.0
        kept = int(np.count_nonzero(mask))
        if kept > SCATTERED * float(self.units.mean()) * mask.size:
            return None
        shared = np.logical_or.reduceat(mask, np.arange(0, len(mask), UNIT), axis=0)
        aligned = UNIT * int(np.count_nonzero(shared)) < ALIGNED * kept
        return Rows.pack(values, shared if aligned else mask, bias)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How matrices are to be laid out: what weights are kept as, None as they are; what inputs of many tokens are; what
    knows how long products take.
    """

    value: Value | None
    activations: Activations
    host: Host

    def lay_out(
        self, weights: Weights, bias: Floats | None, linear: bool, into: NDArray[np.uint8] | None = None
    ) -> Layout:
        """What is fastest on this machine: panels for few tokens, and for many what suits the pattern, if it pays.
        Convolutions have panels only.
        """
        few = weights.panels(bias, self.value, into)
        if not linear:
            return Layout(few)
        many: Biased | None
        if self.activations == "i8":
            many = weights.integers(bias)
        else:
            many = weights.rows(bias) if self.value in (None, "f32") else None
        return Layout(few) if many is None else Layout(few, many, self.host.border(few, many))
