"""CRC-32C (Castagnoli) of the reference coder, and how payloads seed it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> np.uint32(1) ^ np.uint32(0x82F63B78), table >> 1)
    return table.astype(np.uint32)


_CRC = _crc_table()
_BYTES: list[int] = _CRC.tolist()


def crc32c(data: bytes, value: int = 0) -> int:
    """Continue the CRC-32C `value` over `data`, as zlib.crc32 continues a CRC-32.

    Long data are cut into equal pieces that are reduced side by side. CRC is linear, so 32 more
    pieces of zeros, started at each single bit, give the map that moves a state past a piece.
    """
    state = value ^ 0xFFFFFFFF
    piece = int(len(data) ** 0.5)
    pieces = len(data) // piece if piece >= 64 else 0
    if pieces:
        rows = np.frombuffer(data, np.uint8, pieces * piece).reshape(pieces, piece)
        columns = np.zeros((piece, pieces + 32), np.uint32)
        columns[:, :pieces] = rows.T
        states = np.zeros(pieces + 32, np.uint32)
        states[pieces:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
        for column in columns:
            states = _CRC[(states ^ column) & 255] ^ states >> np.uint32(8)
        done, moved = states[:pieces].tolist(), states[pieces:].tolist()
        for own in done:
            past = own
            for bit in range(32):
                if state >> bit & 1:
                    past ^= moved[bit]
            state = past
    for byte in data[pieces * piece :]:
        state = _BYTES[(state ^ byte) & 255] ^ state >> 8
    return state ^ 0xFFFFFFFF


def seeded_crc32c(data: bytes, seed: int, block: int) -> int:
    """Checksum `data` as block number `block` of the tensor whose name gives `seed`."""
    return crc32c(data, crc32c(struct.pack("<II", seed, block)))
