"""Where the bytes of one tensor are, and the errors that name it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from regrain.artifact.manifest import Gridded, Pruned
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault


class Part(NamedTuple):
    """Where the bytes of a tensor are: `owner` is the tensor that has them, itself or the one it is tied to."""

    owner: str
    start: int  # in the file
    stop: int
    seed: int
    word: np.dtype[np.unsignedinteger[Any]] | None  # None but for coded tensors
    crc: int  # of raw bytes
    gridded: Gridded | None  # of quantized tensors
    pruned: Pruned | None  # of pruned ones


def corrupt(fault: PayloadFault, name: str) -> CorruptArtifactError:
    """The error of a payload, with the tensor's name."""
    return CorruptArtifactError(fault.reason, tensor=name, block=fault.block)


def check_crc(part: Part, crc: int) -> None:
    """Raise CorruptArtifactError unless `crc` is the checksum of a raw tensor."""
    if crc != part.crc:
        raise CorruptArtifactError(f"checksum must be {part.crc:08x}, not {crc:08x}", tensor=part.owner, block=0)
