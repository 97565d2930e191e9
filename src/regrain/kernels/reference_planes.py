"""Words as coded field and raw bits, and the planes that hold the raw bits (docs/format.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Words of any width, widened for the arithmetic, which is modulo 2^64."""

LANES = 64
"""Words of a step: each lane of the coder takes one."""


def split_floats(words: Words, mantissa_bits: int, top: int) -> tuple[Words, Words]:
    """Part floats into exponent field and sign << M | mantissa; bit `top` is the sign."""
    mantissa = words & np.uint64((1 << mantissa_bits) - 1)
    sign: Words = (words >> np.uint64(top)) << np.uint64(mantissa_bits)
    field = (words >> np.uint64(mantissa_bits)) & np.uint64((1 << (top - mantissa_bits)) - 1)
    return field, sign | mantissa


def join_floats(field: Words, raw: Words, width: int, mantissa_bits: int, top: int) -> Words:
    """Put floats together from exponent field and `width` raw bits: sign, then mantissa."""
    word: Words = field << np.uint64(mantissa_bits)
    if width == 0:
        return word
    sign: Words = (raw >> np.uint64(width - 1)) << np.uint64(top)
    mantissa: Words = (raw & np.uint64((1 << (width - 1)) - 1)) << np.uint64(mantissa_bits + 1 - width)
    return word | sign | mantissa


def planes_size(count: int, width: int) -> int:
    """Bytes that the planes of `count` words of `width` raw bits take, nothing carried."""
    return -(-count // LANES) * 8 * width


def pack(raw: Words, width: int) -> NDArray[np.uint8]:
    """Lay out one run of raw bits (each below 2^width): byte planes, then 4, 2 and 1 bits.

    Each plane is filled up with zeros to whole steps of 64 words.
    """
    steps = -(-raw.size // LANES)
    rest: Words = np.zeros((steps, LANES), np.uint64)
    rest.reshape(-1)[: raw.size] = raw
    planes = []
    for _ in range(width // 8):
        planes.append(rest.astype(np.uint8).ravel())
        rest = rest >> np.uint64(8)
    for bits in (4, 2, 1):
        if width & bits:
            parts = (rest & np.uint64((1 << bits) - 1)).astype(np.uint8)
            planes.append(_fold(parts, bits).ravel())
            rest = rest >> np.uint64(bits)
    return np.concatenate(planes) if planes else np.zeros(0, np.uint8)


def unpack(data: NDArray[np.uint8], count: int, width: int) -> Words:
    """Undo `pack`: give the raw bits of `count` words; data holds `planes_size` bytes."""
    steps = -(-count // LANES)
    raw = np.zeros((steps, LANES), np.uint64)
    shift = at = 0
    for _ in range(width // 8):
        plane = data[at : at + steps * LANES].reshape(steps, LANES)
        raw |= plane.astype(np.uint64) << np.uint64(shift)
        at, shift = at + plane.size, shift + 8
    for bits in (4, 2, 1):
        if width & bits:
            plane = data[at : at + steps * 8 * bits].reshape(steps, 8 * bits)
            raw |= _unfold(plane, bits).astype(np.uint64) << np.uint64(shift)
            at, shift = at + plane.size, shift + bits
    return raw.ravel()[:count]


def _fold(parts: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack (steps, 64) parts of `bits` bits to (steps, 8 * bits) bytes."""
    if bits == 1:
        return np.packbits(parts, axis=1, bitorder="little")
    bytes_ = 8 * bits
    folded = np.zeros((parts.shape[0], bytes_), np.uint8)
    for i in range(LANES // bytes_):
        folded |= parts[:, i * bytes_ : (i + 1) * bytes_] << np.uint8(i * bits)
    return folded


def _unfold(plane: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Undo `_fold`."""
    if bits == 1:
        return np.unpackbits(plane, axis=1, bitorder="little")
    mask = np.uint8((1 << bits) - 1)
    parts = [plane >> np.uint8(i * bits) & mask for i in range(8 // bits)]
    return np.concatenate(parts, axis=1)
