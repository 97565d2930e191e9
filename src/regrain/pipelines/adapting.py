"""Who decides the granularity of each matrix of a simulated network, and what each granularity keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.networks.fixed import Fixed
from regrain.policies import Controlled, Policy, Static, Thresholds, VarianceThresholds

POLICIES = ("static", *Granularity, "variance-thresholds")
"""What may decide the granularity of a matrix: `static` runs it as it is stored, the granularities are predefined."""


@dataclass(frozen=True, slots=True)
class Adapting:
    """What is kept of each matrix at each granularity, and who decides which it has.

    Matrices that must not change (`WeightDescriptor.dynamic`) stay as they are stored.
    """

    policy: Policy = field(default_factory=Static)
    densities: Mapping[Granularity, float] = field(default_factory=lambda: dict.fromkeys(Granularity, 1.0))

    @classmethod
    def of(
        cls, policy: str, density: float = 1.0, thresholds: tuple[float, float] = (0.2, 0.5), *, inverted: bool = False
    ) -> Adapting:
        """A policy by its name, with the same density at each granularity. Raises HardwareError."""
        if policy not in POLICIES:
            raise HardwareError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if not 0.0 < density <= 1.0:
            raise HardwareError(f"density must be a fraction above 0 to 1, not {density!r}")
        densities = dict.fromkeys(Granularity, density)
        if policy == "static":
            return cls()
        if policy != "variance-thresholds":
            return cls(Fixed(Granularity(policy)), densities)
        try:
            rule = VarianceThresholds(Thresholds(*thresholds), scope="matrix", inverted=inverted)
        except ValueError as error:
            raise HardwareError(str(error)) from None
        return cls(Controlled(rule), densities)
