"""Texts of an artifact: zlib streams with a checksum before them (docs/format.md, 1.1)."""

from __future__ import annotations

import struct
import zlib

from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import Container
from regrain.core.errors import CorruptArtifactError


def deflate(name: str, text: bytes) -> bytes:
    """The entry of that name that holds a text."""
    stream = zlib.compress(text, 9)
    return struct.pack("<I", checksum(seed_of(name), stream)) + stream


def inflate(container: Container, name: str, most: int) -> bytes:
    """The text of an entry, at most `most` bytes. Raises CorruptArtifactError."""
    start, stop = container.place(container.header.entries[name])
    stored = container.read(start, stop - start)
    crc = checksum(seed_of(name), stored[4:])
    if stored[:4] != struct.pack("<I", crc):
        raise CorruptArtifactError(f"checksum must be {stored[3::-1].hex()}, not {crc:08x}", tensor=name)
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(stored[4:], most + 1)
    except zlib.error as error:
        raise CorruptArtifactError(f"payload must be a zlib stream: {error}", tensor=name) from None
    if len(text) > most:
        raise CorruptArtifactError(f"payload must inflate to at most {most} bytes", tensor=name)
    if not inflater.eof or inflater.unused_data:
        raise CorruptArtifactError("payload must be one whole zlib stream", tensor=name)
    return text
