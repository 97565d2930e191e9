"""What a network is simulated on."""

from __future__ import annotations

from dataclasses import dataclass, field

from regrain.core.errors import HardwareError
from regrain.hw import area, energy_table
from regrain.hw.area import Area, AreaTable
from regrain.hw.energy_table import Table
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory


@dataclass(frozen=True, slots=True)
class Hardware:
    """The array, what feeds it, what its actions cost, and what its components take.

    `kept_bytes`: of a memory on chip that keeps feature maps from one layer to the next, 0 without one. Raises
    HardwareError.
    """

    machine: Machine = field(default_factory=Machine)
    memory: Memory = field(default_factory=Memory)
    table: Table = field(default_factory=lambda: energy_table.load("horowitz"))
    kept_bytes: int = 0
    areas: AreaTable = field(default_factory=lambda: area.load("osu018"))

    def __post_init__(self) -> None:
        if type(self.kept_bytes) is not int or self.kept_bytes < 0:
            raise HardwareError(f"kept_bytes must be bytes, 0 or more, not {self.kept_bytes!r}")

    @property
    def area(self) -> Area:
        """Of the machine's logic, and the bits of its memories."""
        return area.area(self.areas, self.machine, self.memory, self.kept_bytes)
