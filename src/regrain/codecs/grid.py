"""The logarithmic grid that scales lie on: eight steps an octave, the same bits on every machine.

scale(code) = OCTAVE[code mod 8] * 2^(code div 8), with division rounded down: a multiplication by a power of two, hence
exact. Neighbors differ by 9 %, so the nearest one is within 4.4 % of any step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 8
"""Codes an octave."""

OCTAVE = np.array(
    [1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.8340081], np.float32
)  # 2^(r/8), rounded to float32
OCTAVE.flags.writeable = False

LOWEST = -126 * STEPS
"""The code of the smallest normal float32."""

HIGHEST = 128 * STEPS - 1
"""The code of the largest scale below 2^128."""


_EVERY = np.arange(LOWEST, HIGHEST + 1)
_SCALES = np.ldexp(OCTAVE[_EVERY % STEPS], _EVERY // STEPS)


def scales_of(codes: NDArray[np.signedinteger]) -> NDArray[np.float32]:
    """The scale of each code, same shape. Codes must be LOWEST to HIGHEST, which makes every scale a normal number."""
    scales: NDArray[np.float32] = _SCALES[codes - LOWEST]
    return scales


def codes_of(steps: ArrayLike) -> NDArray[np.int16]:
    """The code whose scale is nearest to each step, by ratio, same shape. Steps below or above the grid get its end.

    Raises ValueError unless every step is positive and finite.
    """
    wanted = np.asarray(steps, np.float64)
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        raise ValueError("steps must be positive and finite: keep a tensor lossless that has none")
    codes: NDArray[np.int16] = np.clip(np.rint(STEPS * np.log2(wanted)), LOWEST, HIGHEST).astype(np.int16)
    return codes
