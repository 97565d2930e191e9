"""What changing the weights of a matrix costs: a quadratic form with one Gram matrix for each side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Damage:
    """tr(G D A D^T) for a change D (R, C): `inputs` A (C, C) and `outputs` G (R, R), positive definite."""

    inputs: Floats
    outputs: Floats

    def of(self, change: Floats) -> float:
        """The cost of a change (R, C)."""
        return float(np.einsum("ij,ij->", change, self.gradient(change), dtype=np.float64))

    def gradient(self, change: Floats) -> Floats:
        """G D A, half the derivative of the cost by D."""
        product: Floats = self.outputs @ (change @ self.inputs)
        return product

    @cached_property
    def free_inputs(self) -> Floats:
        """A^-1: the covariance of what inputs say that no other input says."""
        return _inverse(self.inputs)

    @cached_property
    def free_outputs(self) -> Floats:
        """G^-1."""
        return _inverse(self.outputs)

    @property
    def transposed(self) -> Damage:
        """The same of the transposed matrix."""
        return Damage(self.outputs, self.inputs)


def _inverse(gram: Floats) -> Floats:
    inverse: Floats = np.linalg.inv(gram.astype(np.float64)).astype(np.float32)
    return inverse
