"""Scales on the artifact's grid, 2^(code/8) (docs/format.md 6), as the integers that hardware multiplies with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regrain.core.errors import HardwareError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 8
"""Codes an octave."""

OCTAVE_BITS = 15
OCTAVE = tuple(round(2 ** (r / STEPS) * (1 << OCTAVE_BITS)) for r in range(STEPS))
"""2^(r/8) in 16 bits."""

LEAST_SHIFT, MOST_SHIFT = 1, 40
MOST_HALVINGS = 10
"""So many make 0 of every int8, rounded: 128 * OCTAVE[7] / 2^25 is below 1/2."""


def requantizer(code: int) -> tuple[int, int]:
    """(factor, shift) with factor / 2^shift nearest to 2^(code/8): 16 bits, and 1 to 40.

    Raises HardwareError for codes that would need another shift: below -200 or above 119.
    """
    shift = OCTAVE_BITS - code // STEPS
    if not LEAST_SHIFT <= shift <= MOST_SHIFT:
        raise HardwareError(f"a scale must be of code -200 to 119 to be a factor and a shift, not {code}")
    return OCTAVE[code % STEPS], shift


def row_codes(codes: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of (cells down, cells across) codes the largest of each row of cells: what its weights are rescaled to."""
    largest: NDArray[np.int16] = codes.max(axis=1)
    return largest


def rescale(
    indices: NDArray[np.int8], codes: NDArray[np.int16], cell: tuple[int, int]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Indices (rows, columns) in steps of their rows' largest code, not of their cells', rounded to nearest, halves up;
    and which of them rounding changed. None becomes larger, so none saturates.
    """
    rows, columns = indices.shape
    finer = (row_codes(codes)[:, None] - codes).astype(np.int64)
    finer = finer.repeat(cell[0], axis=0)[:rows].repeat(cell[1], axis=1)[:, :columns]
    shift = OCTAVE_BITS + np.minimum(-(-finer // STEPS), MOST_HALVINGS)
    product = indices.astype(np.int64) * np.array(OCTAVE)[-finer % STEPS]
    half = np.int64(1) << (shift - 1)
    return ((product + half) >> shift).astype(np.int8), product & (2 * half - 1) != 0
