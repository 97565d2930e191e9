"""What a network is simulated on."""

from __future__ import annotations

from dataclasses import dataclass, field

from regrain.core.errors import HardwareError
from regrain.hw.energy_table import Table, load
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory


@dataclass(frozen=True, slots=True)
class Hardware:
    """The array, what feeds it, and what its actions cost.

    `kept_bytes`: of a memory on chip that keeps feature maps from one layer to the next, 0 without one. Raises
    HardwareError.
    """

    machine: Machine = field(default_factory=Machine)
    memory: Memory = field(default_factory=Memory)
    table: Table = field(default_factory=lambda: load("horowitz"))
    kept_bytes: int = 0

    def __post_init__(self) -> None:
        if type(self.kept_bytes) is not int or self.kept_bytes < 0:
            raise HardwareError(f"kept_bytes must be bytes, 0 or more, not {self.kept_bytes!r}")
