"""Seeded checksums (docs/format.md, 1.4): bytes that stray to another tensor or place are found too."""

from __future__ import annotations

import struct

from regrain.core.dtypes import Bytes
from regrain.kernels import crc32c


def seed_of(name: str) -> int:
    """What goes into every checksum of a tensor: the CRC-32C of its name."""
    return crc32c(name.encode("utf-8"))


def checksum(seed: int, data: bytes | Bytes) -> int:
    """The CRC-32C of le32(seed), le32(0) and the bytes: that of raw tensors, of the header and of the receipt."""
    return crc32c(data, crc32c(struct.pack("<II", seed, 0)))
