"""What profiling finds: statistics of each tensor of a model, as frozen values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from regrain.core.activity import Activity
from regrain.core.dtypes import DTYPES
from regrain.core.selection import Choice, SelectionRule, choose

PROFILE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class TensorProfile:
    """Statistics of one tensor's weights.

    A matrix is a tensor of two or more dimensions, seen as `shape[0]` rows (output channels) of all the rest;
    its input channels run along `shape[1]`. Other tensors are one row. NaNs and infinities are counted and then
    taken as absent: every other statistic is over the finite weights; fractions are of all weights.
    None means: not defined here (entropies of integers, blocks of vectors, moments of nothing, element types that
    regrain knows the size of only).
    """

    name: str
    dtype: str  # safetensors' name: "F32", "BF16", "I64", ...
    shape: tuple[int, ...]
    count: int  # elements
    bytes: int
    predicted_bytes: int  # size after lossless compression, without the file's index
    exponent_entropy: float | None = None  # bits, order 0
    int8_entropy: float | None = None  # bits, order 0, of rint(127 w / the row's absmax)
    int4_entropy: float | None = None  # bits, order 0, of rint(7 w / the row's absmax)
    sparsity: float | None = None  # fraction of exact zeros
    zero_blocks: float | None = None  # fraction of blocks (ModelProfile.block) that hold nothing but zeros
    zero_rows: float | None = None  # fraction of output channels that are all zero
    zero_columns: float | None = None  # fraction of input channels that are all zero
    dynamic_range: float | None = None  # log2(largest / smallest nonzero magnitude)
    absmax: float | None = None
    mean: float | None = None
    std: float | None = None  # of the population
    outliers: float | None = None  # fraction further than 6 std from the mean
    peak: float | None = None  # largest distance from the mean, in std
    kurtosis: float | None = None  # excess: 0 for a normal distribution
    nans: int = 0
    infinities: int = 0
    low_zero_bits: int | None = None  # low mantissa bits that are zero in every weight
    row_low_zero_bits: float | None = None  # the same for each row on its own, mean over the rows
    tied_to: str | None = None  # an earlier tensor with the same dtype, shape and bytes; then stored once

    @property
    def is_float(self) -> bool:
        """Whether the elements count as weights."""
        return DTYPES[self.dtype].floating

    @property
    def is_matrix(self) -> bool:
        """Two or more dimensions of floating-point weights: what a granularity can be chosen for."""
        return len(self.shape) >= 2 and self.int8_entropy is not None

    @property
    def predicted_bits(self) -> float:
        """Predicted bits an element; 0 for an empty tensor."""
        return 8 * self.predicted_bytes / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Profiles of all tensors of a model in the order of its files, and the rule that judges them.

    `block` is rows x columns of the blocks that `TensorProfile.zero_blocks` counts; `overhead_bytes` the predicted
    size of the compressed file's header, index, receipt and so on. `activity` is by tensor, for tensors of a task's
    network; empty without a task.
    """

    tensors: tuple[TensorProfile, ...]
    block: tuple[int, int]
    rule: SelectionRule
    overhead_bytes: int
    activity: Mapping[str, Activity] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors as they are stored now, tied copies included."""
        return sum(t.bytes for t in self.tensors)

    @property
    def weights(self) -> int:
        """Floating-point elements, tied ones once: the denominator of bits per weight."""
        return sum(t.count for t in self.tensors if t.is_float and t.tied_to is None)

    @property
    def predicted_bytes(self) -> int:
        """Predicted size of the whole lossless artifact."""
        return sum(t.predicted_bytes for t in self.tensors) + self.overhead_bytes

    @property
    def bits_per_weight(self) -> float:
        """Of the tensors as they are stored now; NaN for a model without weights."""
        return 8 * self.bytes / self.weights if self.weights else math.nan

    @property
    def predicted_bits_per_weight(self) -> float:
        """Of the lossless artifact; NaN for a model without weights."""
        return 8 * self.predicted_bytes / self.weights if self.weights else math.nan

    def choice(self, tensor: TensorProfile) -> Choice | None:
        """The rule's choice; None for what is no matrix of floating-point weights."""
        return choose(tensor, self.rule) if tensor.is_matrix else None

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field, the rule's choice for each tensor, and totals; it holds no NaN."""
        tensors: list[dict[str, object]] = []
        for tensor in self.tensors:
            choice = self.choice(tensor)
            value = asdict(tensor) | {"choice": None if choice is None else choice.to_json()}
            if tensor.name in self.activity:
                value["activity"] = self.activity[tensor.name].to_json()
            tensors.append(value)
        return {
            "format": PROFILE_FORMAT,
            "block": list(self.block),
            "rule": self.rule.to_json(),
            "tensors": tensors,
            "totals": {
                "tensors": len(self.tensors),
                "bytes": self.bytes,
                "weights": self.weights,
                "bits_per_weight": _finite(self.bits_per_weight),
                "predicted_bytes": self.predicted_bytes,
                "predicted_bits_per_weight": _finite(self.predicted_bits_per_weight),
            },
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
