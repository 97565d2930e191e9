"""Who decides the granularity of each matrix of a simulated network, and what each granularity keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.networks.control import OwnControl
from regrain.hw.networks.fixed import Fixed
from regrain.policies import Controlled, Policy, Ranked, Static, Thresholds, VarianceThresholds

POLICIES = ("static", *Granularity, "hardware", "variance-thresholds", "ranked")
"""What may decide the granularity of a matrix: `static` runs it as it is stored, the granularities are predefined."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "auto": "it serves by token-skip or from a bank, which the machine can't: use ranked, its third choice",
        "bank": "it exchanges the weights themselves, and a master copy has one value of each: simulate the artifact "
        "of each pattern by itself, with static",
        "token-skip": "it leaves out other columns for each token, and the tokens of a pass share their words: use "
        "coarse, or ranked",
        "normalized-variance": "it compares the channels of a matrix with one another, and the machine has one "
        "granularity for all of them, whose mean is always 1: use hardware or variance-thresholds",
    }
)
"""Policies of the run time that this machine can't run, and why."""


@dataclass(frozen=True, slots=True)
class Adapting:
    """What is kept of each matrix at each granularity, and who decides which it has.

    Matrices that must not change (`WeightDescriptor.dynamic`) stay as they are stored.
    """

    policy: Policy | OwnControl = field(default_factory=Static)
    densities: Mapping[Granularity, float] = field(default_factory=lambda: dict.fromkeys(Granularity, 1.0))

    @classmethod
    def of(
        cls,
        policy: str,
        density: float = 1.0,
        thresholds: tuple[float, float] | None = None,
        *,
        inverted: bool = False,
        dwell: int = 1,
    ) -> Adapting:
        """A policy by its name, with the same density at each granularity. `thresholds` and `inverted` are of hardware
        and variance-thresholds (0.2 and 0.5, unless others are given), `dwell` of hardware. Raises HardwareError.
        """
        if policy in REFUSED:
            raise HardwareError(f"policy must be one that the machine can run, not {policy!r}: {REFUSED[policy]}")
        if policy not in POLICIES:
            raise HardwareError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if not 0.0 < density <= 1.0:
            raise HardwareError(f"density must be a fraction above 0 to 1, not {density!r}")
        densities = dict.fromkeys(Granularity, density)
        if policy == "static":
            return cls()
        if policy == "ranked":
            return cls(Controlled(Ranked()), densities)
        if policy in tuple(Granularity):
            return cls(Fixed(Granularity(policy)), densities)
        try:
            limits = None if thresholds is None else Thresholds(*thresholds)
        except ValueError as error:
            raise HardwareError(str(error)) from None
        if policy == "hardware":
            return cls(OwnControl(limits, dwell, inverted), densities)
        rule = VarianceThresholds(limits or Thresholds(), scope="matrix", inverted=inverted)
        return cls(Controlled(rule), densities)
