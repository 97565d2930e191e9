"""What feeds the array: how fast a tile's words and the activations of a pass arrive."""

from __future__ import annotations

from dataclasses import dataclass

from regrain.core.errors import HardwareError


@dataclass(frozen=True, slots=True)
class Memory:
    """Two streams out of one memory. The first word of a tile comes `latency` cycles after the bank that takes it is
    free, the others as `weight_bits` a cycle allow. Activations of a tile of tokens come at `activation_bits` a cycle
    into a buffer of `buffer_bits`; what it still holds isn't fetched again. None: no limit.

    Raises HardwareError for numbers that are no bandwidth.
    """

    weight_bits: int | None = None
    activation_bits: int | None = None
    latency: int = 0
    buffer_bits: int = 8 * (1 << 18)

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "buffer_bits"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise HardwareError(f"{name} must be bits, from 1 on, not {value!r}")
        if type(self.latency) is not int or not 0 <= self.latency < 1 << 20:
            raise HardwareError(f"latency must be cycles, 0 to 2^20, not {self.latency!r}")
