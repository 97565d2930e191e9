"""The sizes of the accelerator: what hardware and models are built from."""

from __future__ import annotations

from dataclasses import dataclass, fields

from regrain.core.errors import HardwareError

ACTIVATION_BITS = 8
VALUE_BITS = 8
MOST_BLOCKS = 1024
"""Blocks of inputs that a number of ten bits counts: 8,192 channels."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An output-stationary array whose processing elements hold one block of activations for some cycles.

    `rows` tokens (or pixels) by `pes` elements of `lanes` multipliers each; a `block` is so many activations, of which
    a lane picks one a cycle; accumulators of `accumulator` bits. A bank holds `bank_words` words of weights and
    `list_entries` entries of a tile's list.

    Raises HardwareError for sizes that can't be built.
    """

    rows: int = 16
    pes: int = 4
    lanes: int = 4
    block: int = 8
    accumulator: int = 24
    bank_words: int = 4608
    list_entries: int = 576

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise HardwareError(f"{field.name} must be a whole number from 1 on, not {value!r}")
        if self.rows < 2 or self.rows > 64 or self.outputs > 256:
            raise HardwareError(
                f"an array must have 2 to 64 rows and at most 256 lanes, not {self.rows}, {self.outputs}"
            )
        if self.block not in (2, 4, 8, 16):
            raise HardwareError(f"block must be 2, 4, 8 or 16 activations, not {self.block}")
        if not 18 <= self.accumulator <= 32:
            raise HardwareError(f"accumulator must have 18 to 32 bits, not {self.accumulator}")
        if self.list_entries > MOST_BLOCKS:
            raise HardwareError(f"list_entries must be at most {MOST_BLOCKS}, not {self.list_entries}")

    @property
    def outputs(self) -> int:
        """Output channels of a tile: lanes of a row."""
        return self.pes * self.lanes

    @property
    def macs(self) -> int:
        """Multiply-accumulates a cycle."""
        return self.rows * self.outputs

    @property
    def index_bits(self) -> int:
        """Bits that pick one activation of a block."""
        return (self.block - 1).bit_length()

    @property
    def word_bits(self) -> int:
        """Bits of a word of weights: a value and an index for each lane."""
        return (VALUE_BITS + self.index_bits) * self.outputs

    @property
    def most_weight(self) -> int:
        """The largest sum of |w| of an output that can't overflow: an activation is at least -128.

        |acc| <= 128 * sum |w| must be below 2^(accumulator - 1).
        """
        return ((1 << (self.accumulator - 1)) - 1) >> 7
