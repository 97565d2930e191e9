"""What the accelerator must compute, in plain integers: the yardstick of the cycle model and of the hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regrain.core.errors import HardwareError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regrain.hw.machine import Machine
    from regrain.hw.model.program import Program

BIAS_BITS, FACTOR_BITS, MOST_SHIFT = 24, 16, 40


@dataclass(frozen=True, slots=True)
class Requantizer:
    """How accumulators become int8, for each output channel: clamp(((acc + bias) * factor + 2^(shift-1)) >> shift).

    bias (outputs,) signed 24 bits, factor unsigned 16 bits, shift 1 to 40; `relu`: what is below 0 becomes 0.
    Raises HardwareError for numbers beyond.
    """

    bias: NDArray[np.int64]
    factor: NDArray[np.int64]
    shift: NDArray[np.int64]
    relu: bool = False

    def __post_init__(self) -> None:
        limit = 1 << (BIAS_BITS - 1)
        for name, values, least, most in (
            ("bias", self.bias, -limit, limit - 1),
            ("factor", self.factor, 0, (1 << FACTOR_BITS) - 1),
            ("shift", self.shift, 1, MOST_SHIFT),
        ):
            if values.shape != self.bias.shape or values.ndim != 1 or ((values < least) | (values > most)).any():
                raise HardwareError(f"{name} must be {least} to {most} for each output, not {values!r}")

    @classmethod
    def of(cls, scale: NDArray[np.float64], bias: NDArray[np.float64], *, relu: bool = False) -> Requantizer:
        """The nearest to `scale * acc + bias`, in steps of the output; scale (outputs,) from 2^-40 to below 2^15."""
        if not ((scale >= 2.0**-MOST_SHIFT) & (scale < 2.0 ** (FACTOR_BITS - 1))).all():
            raise HardwareError(f"scale must be 2^-{MOST_SHIFT} to below 2^{FACTOR_BITS - 1}, not {scale!r}")
        exponent = np.frexp(scale)[1]
        shift = np.clip(FACTOR_BITS - exponent, 1, MOST_SHIFT)
        factor = np.minimum(np.rint(np.ldexp(scale, shift)), (1 << FACTOR_BITS) - 1).astype(np.int64)
        limit = 1 << (BIAS_BITS - 1)
        return cls(
            np.clip(np.rint(bias / scale), -limit, limit - 1).astype(np.int64), factor, shift.astype(np.int64), relu
        )

    def __call__(self, accumulators: NDArray[np.int64]) -> NDArray[np.int8]:
        """(tokens, outputs) accumulators to int8."""
        wide = (accumulators + self.bias) * self.factor + (np.int64(1) << (self.shift - 1))
        narrow: NDArray[np.int8] = np.clip(wide >> self.shift, 0 if self.relu else -128, 127).astype(np.int8)
        return narrow


def product(weights: NDArray[np.int8], activations: NDArray[np.int8]) -> NDArray[np.int64]:
    """activations (tokens, inputs) times weights (outputs, inputs) transposed, exactly: sums of so few products of
    bytes are below 2^53, where float64 is exact.
    """
    exact: NDArray[np.int64] = (activations.astype(np.float64) @ weights.astype(np.float64).T).astype(np.int64)
    return exact


def run(program: Program, activations: NDArray[np.int8], machine: Machine) -> NDArray[np.int64]:
    """Word by word, as the array does it: activations (tokens, inputs) int8 to accumulators (tokens, outputs)."""
    rows, columns = program.shape
    if activations.ndim != 2 or activations.shape[1] != columns or activations.dtype != np.int8:
        raise HardwareError(
            f"activations must be (tokens, {columns}) int8, not {activations.dtype} {activations.shape}"
        )
    inputs = np.pad(activations, ((0, 0), (0, -columns % machine.block))).astype(np.int64)
    outputs = np.zeros((len(inputs), -(-rows // machine.outputs) * machine.outputs), np.int64)
    for number, tile in zip(program.tile_numbers, program.tiles, strict=True):
        made = outputs[:, number * machine.outputs :][:, : machine.outputs]
        held = np.repeat(tile.blocks, tile.counts)
        for values, index, block in zip(tile.values, tile.index, held, strict=True):
            row = program.gather.rows[block, index] if tile.gather and program.gather is not None else block
            made += inputs[:, row.astype(np.int64) * machine.block + index] * values
    return outputs[:, :rows]
