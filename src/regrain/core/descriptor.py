"""The weight descriptor: what an artifact says of one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from regrain.core.granularity import Granularity


class Coder(StrEnum):
    """How a tensor's bytes are kept. The names stand in artifacts: they are for ever, and the list is closed."""

    RANS = "rans"  # a coded payload, docs/format.md
    RAW = "raw"  # the bytes as they are, with a checksum
    TIED = "tied"  # no bytes: equal to those of another tensor


Cell = tuple[int, int]
"""Rows and columns of a matrix that share a scale; at its edges cells may be smaller."""


class Quantizer(StrEnum):
    """What the weights that share a scale are. The list is closed."""

    NONE = "none"
    TENSOR = "tensor"
    ROW = "row"  # of a matrix: an output channel, a feature map
    GROUP = "group"  # part of a row
    BLOCK = "block"

    @classmethod
    def of(cls, cell: Cell, rows: int, columns: int) -> Quantizer:
        """The quantizer of a matrix whose scales have that cell."""
        if cell == (rows, columns):
            return cls.TENSOR
        if cell[0] > 1:
            return cls.BLOCK
        return cls.ROW if cell[1] == columns else cls.GROUP

    @property
    def granularity(self) -> Granularity:
        """How coarse it is."""
        return Granularity.MEDIUM if self in (Quantizer.GROUP, Quantizer.BLOCK) else Granularity.COARSE


def pattern_of(unit: tuple[int, int], shape: Sequence[int]) -> tuple[str, Granularity]:
    """The name of the pattern of a tensor whose units have so many rows and columns, and its granularity.

    >>> pattern_of((16, 1), (384, 1536)), pattern_of((64, 9), (64, 32, 3, 3))
    (('block:16x1', <Granularity.MEDIUM: 'medium'>), ('column', <Granularity.COARSE: 'coarse'>))
    """
    rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
    if unit == (1, 1):
        return "fine", Granularity.FINE
    if len(shape) > 1 and unit == (rows, math.prod(shape[2:])):
        return "column", Granularity.COARSE
    if unit == (1, columns):
        return "row", Granularity.COARSE
    return f"block:{unit[0]}x{unit[1]}", Granularity.MEDIUM


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one tensor is represented: sparsity pattern x quantizer x coder. A lossless one is dense and unquantized.

    `pattern` is "dense", or "fine", "block:RxC", "column" or "row" of a pruned tensor (core/pattern.py; what was pruned
    by N:M says fine). `cell` is that of the scales, None without a quantizer.
    """

    coder: Coder
    pattern: str = "dense"
    quantizer: Quantizer = Quantizer.NONE
    cell: Cell | None = None

    def __str__(self) -> str:
        return f"{self.pattern}, {self.quantizer}, {self.coder}"


@dataclass(frozen=True, slots=True)
class WeightDescriptor:
    """One tensor of an artifact.

    `dtype` is the safetensors name, `shape` counts elements. `stages` are the steps that reconstruct the tensor, in
    the order they run. `tied` names the tensor that holds the bytes of this one. `dynamic` is the flag *dynamic
    sparsity enable*: whether a run time may change the granularity of this matrix; off means as stored. `density` is
    the fraction of the weights that a pruned tensor keeps, 0 to 1; None for one that is not pruned.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    granularity: Granularity
    scheme: Scheme
    stages: tuple[str, ...]
    tied: str | None = None
    dynamic: bool = False
    density: float | None = None

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "granularity": str(self.granularity),
            "scheme": {
                "pattern": self.scheme.pattern,
                "quantizer": str(self.scheme.quantizer),
                "cell": None if self.scheme.cell is None else list(self.scheme.cell),
                "coder": str(self.scheme.coder),
            },
            "stages": list(self.stages),
            "tied": self.tied,
            "dynamic": self.dynamic,
            "density": self.density,
        }
