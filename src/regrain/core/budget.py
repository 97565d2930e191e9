"""The budget: what compression must not exceed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from regrain.core.errors import BudgetError

_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    f"{prefix}{infix}b": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that all hold together; None is no limit, and one at least is given.

    A drop is how much worse a metric gets. What is judged is not the drop that was measured, but its upper bound at
    `confidence` (one-sided). A limit of 0 allows lossless compression only. Without metrics, both drops limit
    1 - fidelity. Raises BudgetError.
    """

    max_drop: float | None = None  # fraction of each metric's baseline, 0 <= x < 1
    max_drop_abs: float | None = None  # in each metric's own units, >= 0
    min_fidelity: float | None = None  # 0 to 1: D <= 1 - min_fidelity, or KL in nats for logits
    max_bytes: int | None = None  # of all files of the artifact
    bits: float | None = None  # bits per weight, all files
    max_work: float | None = None  # multiply-adds, a fraction of the original's, 0 < x <= 1
    confidence: float = 0.95  # 0.5 <= x < 1

    def __post_init__(self) -> None:
        if not (self.limits_quality or self.limits_size or self.max_work is not None):
            raise BudgetError("budget must have a limit: a largest drop, a least fidelity, a largest size or most work")
        if self.max_drop is not None and not 0.0 <= self.max_drop < 1.0:
            raise BudgetError(f"max_drop must be a fraction from 0 to below 1, as 0.01 or 1%, not {self.max_drop!r}")
        if self.max_drop_abs is not None and not 0.0 <= self.max_drop_abs < math.inf:
            raise BudgetError(f"max_drop_abs must be 0 or more, in the metric's units, not {self.max_drop_abs!r}")
        if self.min_fidelity is not None and not 0.0 <= self.min_fidelity <= 1.0:
            raise BudgetError(f"min_fidelity must be 0 to 1, as 0.995, not {self.min_fidelity!r}")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise BudgetError(f"max_bytes must be positive, not {self.max_bytes!r}")
        if self.bits is not None and not 0.0 < self.bits < math.inf:
            raise BudgetError(f"bits must be a positive number of bits per weight, not {self.bits!r}")
        if self.max_work is not None and not 0.0 < self.max_work <= 1.0:
            raise BudgetError(f"max_work must be a fraction above 0 to 1, as 0.5 or 50%, not {self.max_work!r}")
        if self.max_work is not None and self.limits_size and not self.limits_quality:
            raise BudgetError("max_work and a size must not be given alone together: add a limit of quality")
        if not 0.5 <= self.confidence < 1.0:
            raise BudgetError(f"confidence must be from 0.5 to below 1, not {self.confidence!r}")

    @property
    def limits_quality(self) -> bool:
        """Whether a drop or fidelity is limited."""
        return any(limit is not None for limit in (self.max_drop, self.max_drop_abs, self.min_fidelity))

    @property
    def limits_size(self) -> bool:
        """Whether bytes or bits are limited."""
        return self.max_bytes is not None or self.bits is not None

    def byte_limit(self, weights: int) -> int | None:
        """The largest size in bytes for a model with so many weights: the lower of both limits; None for no limit."""
        limits = [self.max_bytes] if self.max_bytes is not None else []
        if self.bits is not None:
            limits.append(math.floor(self.bits * weights / 8))
        return min(limits, default=None)

    def to_json(self) -> dict[str, float | None]:
        """A JSON object with every field."""
        return {
            "max_drop": self.max_drop,
            "max_drop_abs": self.max_drop_abs,
            "min_fidelity": self.min_fidelity,
            "max_bytes": self.max_bytes,
            "bits": self.bits,
            "max_work": self.max_work,
            "confidence": self.confidence,
        }


def parse_fraction(text: str, name: str = "max_drop") -> float:
    """`1%` or `0.01`; `name` is for the error. Raises BudgetError."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if rest or not math.isfinite(value):
        raise BudgetError(f"{name} must be a fraction such as 1% or 0.01, not {text!r}")
    return value / 100 if percent else value


def parse_size(text: str, name: str = "max_size") -> int:
    """Bytes from `12MB`, `500 kB`, `1.5GB` (powers of 1,000), `12MiB` (of 1,024) or a plain number of bytes.

    Raises BudgetError.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise BudgetError(f"{name} must be a size such as 12MB, 500kB or 1.5GB, not {text!r}")
    return math.floor(float(match[1]) * _UNITS[match[2]] + 1e-6)  # 1.1 * 1000**3 must not lose a byte to rounding
