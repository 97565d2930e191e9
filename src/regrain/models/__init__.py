"""Reading models of other frameworks; `open_source` takes whatever file of weights it is given."""

from __future__ import annotations

import os

from regrain.artifact.compressed import Artifact
from regrain.artifact.reader import open as open_artifact
from regrain.artifact.source import Source, from_artifact, from_file

__all__ = ["open_any", "open_source"]

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"


def open_source(path: str | os.PathLike[str]) -> Source:
    """A safetensors file or a PyTorch state dict, told apart by their first bytes.

    Raises OSError, UnsupportedModelError, and CorruptArtifactError for a broken safetensors file.
    """
    if _is_torch(path):
        from regrain.models.statedict import from_state_dict_file

        return from_state_dict_file(path)
    return from_file(path)


def open_any(path: str | os.PathLike[str], threads: int = 1) -> Source:
    """As `open_source`, and artifacts too, whose tensors are decoded as they are read."""
    source = None if _is_torch(path) else open_artifact(path)
    if isinstance(source, Artifact):
        return from_artifact(source, threads)
    return open_source(path)


def _is_torch(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        head = file.read(9)
    # A safetensors file may begin with 0x80 too, but its ninth byte is the brace of its header.
    return head.startswith(_ZIP) or (head.startswith(_PICKLE) and head[8:] != b"{")
