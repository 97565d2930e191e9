"""Sizes as every verb reports them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from regrain.core.descriptor import WeightDescriptor
from regrain.core.dtypes import DTYPES


@dataclass(frozen=True, slots=True)
class TensorSize:
    """One tensor of an artifact: its descriptor, its bytes in the original, its bytes in `file` (0 if it is tied)."""

    descriptor: WeightDescriptor
    nbytes: int
    stored: int
    file: str

    @property
    def bits_per_element(self) -> float:
        """8 x stored bytes / elements; 0 for an empty tensor."""
        count = math.prod(self.descriptor.shape)
        return 8 * self.stored / count if count else 0.0

    def to_json(self) -> dict[str, object]:
        """A JSON object with the descriptor and the sizes."""
        return self.descriptor.to_json() | {"bytes": self.nbytes, "stored": self.stored, "file": self.file}


def weights(tensors: Iterable[TensorSize]) -> int:
    """Floating-point elements, tied ones once: what "bits per weight" divides by."""
    own = (tensor.descriptor for tensor in tensors if tensor.descriptor.tied is None)
    return sum(math.prod(descriptor.shape) for descriptor in own if DTYPES[descriptor.dtype].floating)


def bits_per_weight(nbytes: int, count: int) -> float | None:
    """8 x bytes / weights; None where a model has no floating-point weights."""
    return 8 * nbytes / count if count else None
