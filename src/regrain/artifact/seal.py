"""The seal: a checksum in the header of an artifact over that whole header (docs/format.md, 1.2).

It is checked on the bytes as they are, before any of them is parsed.
"""

from __future__ import annotations

from regrain.core.errors import CorruptArtifactError
from regrain.kernels import crc32c

PREFIX = b'{"__metadata__":{"regrain":"{\\"crc\\":\\"'
"""What the header of every artifact starts with; eight hexadecimal digits follow."""

BLANK = "00000000"
"""The digits while the checksum is computed."""

_END = len(PREFIX) + len(BLANK)
_CRC = crc32c(PREFIX + BLANK.encode("ascii"))


def seal(text: bytes) -> bytes:
    """The JSON of an artifact's header with the right digits in place of those that it has."""
    if not text.startswith(PREFIX):
        raise AssertionError(f"header must start with {PREFIX!r}, not {text[:_END]!r}")
    return PREFIX + _digits(text) + text[_END:]


def check_seal(text: bytes) -> None:
    """Raise CorruptArtifactError if a header starts as an artifact's does and its seal is not right."""
    if text.startswith(PREFIX) and text[len(PREFIX) : _END] != _digits(text):
        found = text[len(PREFIX) : _END].decode("latin-1")
        raise CorruptArtifactError(f"header's checksum must be {_digits(text).decode('ascii')}, not {found!r}")


def _digits(text: bytes) -> bytes:
    return b"%08x" % crc32c(memoryview(text)[_END:], _CRC)
