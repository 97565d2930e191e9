"""What a matrix in C order becomes in the memory of the master copy, write by write: the yardstick of its writer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regrain.hw.machine import Machine


@dataclass(frozen=True, slots=True)
class Written:
    """Writes in their order, one a cycle where weights come and the memory takes them at once.

    address: (writes,) of words. lanes: (writes, outputs) bool, those that are written. values: (writes, outputs) int8;
    the fine tag of a lane is whether its value isn't 0. `taken`: (writes,) bool, those that take a weight; the others
    are of channels without an input.
    """

    address: NDArray[np.int64]
    lanes: NDArray[np.bool_]
    values: NDArray[np.int8]
    taken: NDArray[np.bool_]

    @classmethod
    def of(cls, weights: NDArray[np.int8], machine: Machine, *, base: int = 0) -> Written:
        """Of a matrix (outputs, inputs): row by row; those that begin a tile write whole words, of all its blocks."""
        rows, columns = weights.shape
        width = -(-columns // machine.block) * machine.block
        whole = np.arange(rows) % machine.outputs == 0
        row, column = np.nonzero((np.arange(width) < columns) | whole[:, None])
        own = row[:, None] % machine.outputs == np.arange(machine.outputs)
        given = np.pad(weights, ((0, 0), (0, width - columns)))[row, column]
        return cls(
            base + row // machine.outputs * width + column,
            own | whole[row][:, None],
            np.where(own, given[:, None], np.int8(0)),
            column < columns,
        )

    def apply(self, words: NDArray[np.uint8]) -> None:
        """Into a memory of bytes as `Master.words` has them, (words, outputs + ceil(outputs / 8))."""
        outputs = self.lanes.shape[1]
        for address, lanes, values in zip(self.address, self.lanes, self.values, strict=True):
            tags = np.unpackbits(words[address, outputs:], bitorder="little")[:outputs]
            words[address, :outputs] = np.where(lanes, values.view(np.uint8), words[address, :outputs])
            words[address, outputs:] = np.packbits(np.where(lanes, values != 0, tags), bitorder="little")
