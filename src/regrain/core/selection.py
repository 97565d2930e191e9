"""The rule that picks a granularity and a compression scheme from three statistics of a layer's weights.

    IF   entropy > high_entropy AND sparsity < max_sparsity   -> individual weights, ANS
    ELIF entropy < low_entropy                                -> feature map, quantization
    ELSE                                                      -> weight block, pruning

It needs nothing but the weights, and that is its limit: it says what a layer's numbers look like, not what the
model would lose. Many networks give the same answer for every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from regrain.core.granularity import Granularity


class Compression(StrEnum):
    """The family of compression that the rule picks; the value is its name in JSON."""

    ANS = "ans"
    QUANTIZATION = "quantization"
    PRUNING = "pruning"


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """Thresholds of the rule. Entropies are bits of an int8 index, 0 to 8; sparsity is a fraction, 0 to 1.

    The entropy meant is that of the layer's weights rounded to int8 with one scale a row: a row whose largest
    weight is k standard deviations of bell-shaped weights gives about log2(525 / k) bits. The defaults:

    high_entropy 6   Rows below k = 8: no outliers that waste the scale. Under 6 bits at least a quarter of an
                     int8 index is slack, so that something coarser than coding weight by weight has a chance.
    low_entropy 4    The indices carry no more than a 4-bit index has room for.
    max_sparsity 0.3 Where kernels that skip individual weights break even. Bell-shaped weights with 30 % zeros
                     have about 6 bits of entropy, so both conditions of the first case turn at the same point.

    Invariant: 0 <= low_entropy <= high_entropy <= 8 and 0 <= max_sparsity <= 1 (so NaN is refused).
    """

    high_entropy: float = 6.0
    low_entropy: float = 4.0
    max_sparsity: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 <= self.high_entropy <= 8.0:
            raise ValueError(f"high_entropy must be 0 to 8 bits of an int8 index, not {self.high_entropy!r}")
        if not 0.0 <= self.low_entropy <= self.high_entropy:
            raise ValueError(
                f"low_entropy must be 0 to high_entropy ({self.high_entropy:g} bits), not {self.low_entropy!r}"
            )
        if not 0.0 <= self.max_sparsity <= 1.0:
            raise ValueError(f"max_sparsity must be a fraction from 0 to 1, not {self.max_sparsity!r}")

    def to_json(self) -> dict[str, float]:
        """A JSON object with every field."""
        return {
            "high_entropy": self.high_entropy,
            "low_entropy": self.low_entropy,
            "max_sparsity": self.max_sparsity,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rule picked for one layer. `why` names the comparisons that decided, with their figures."""

    granularity: Granularity
    scheme: Compression
    why: str

    def to_json(self) -> dict[str, str]:
        """A JSON object with every field."""
        return {"granularity": self.granularity.value, "scheme": self.scheme.value, "why": self.why}


class Profiled(Protocol):
    """What the rule looks at: `TensorProfile`, or anything else that has these two."""

    @property
    def int8_entropy(self) -> float | None:
        """Bits, 0 to 8; None where there are no floating-point weights."""
        ...

    @property
    def sparsity(self) -> float | None:
        """Fraction of exact zeros, 0 to 1."""
        ...


def choose(profile: Profiled, rule: SelectionRule) -> Choice:
    """Apply `rule` to one layer. Raises ValueError if the layer has no int8 entropy (integers, bool)."""
    entropy, sparsity = profile.int8_entropy, profile.sparsity
    if entropy is None or sparsity is None:
        raise ValueError("profile must have an int8 entropy and a sparsity (floating-point weights), not None")
    zeros = f"{100 * sparsity:.2f} % zeros"
    limit = f"{100 * rule.max_sparsity:.3g} %"
    if entropy > rule.high_entropy and sparsity < rule.max_sparsity:
        why = f"entropy {entropy:.3f} > {rule.high_entropy:g} bits and {zeros} < {limit}"
        return Choice(Granularity.FINE, Compression.ANS, why)
    if entropy < rule.low_entropy:
        return Choice(
            Granularity.COARSE, Compression.QUANTIZATION, f"entropy {entropy:.3f} < {rule.low_entropy:g} bits"
        )
    if entropy > rule.high_entropy:
        why = f"entropy {entropy:.3f} > {rule.high_entropy:g} bits, but {zeros} >= {limit}"
    else:
        why = f"entropy {entropy:.3f} lies within {rule.low_entropy:g} to {rule.high_entropy:g} bits"
    return Choice(Granularity.MEDIUM, Compression.PRUNING, why)
