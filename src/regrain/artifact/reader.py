"""Reading weights, from an artifact or from a plain safetensors file, through one interface."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from regrain.artifact.compressed import Artifact, Job
from regrain.artifact.container import Container, Entry, Header, name_file
from regrain.artifact.manifest import is_artifact
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError


class WeightFile(Protocol):
    """One file of weights. Names are those of the original model; bytes come back exactly as they went in."""

    label: str

    @property
    def tensors(self) -> Mapping[str, Entry]:
        """dtype and shape of each tensor, sorted by name; the offsets are those of the file that holds its bytes."""
        ...

    @property
    def original(self) -> Header:
        """The header of the plain safetensors file."""
        ...

    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """Fill the bytes of whole tensors."""
        ...

    def read_range(self, name: str, first: int, out: Bytes) -> None:
        """Fill `out` with the elements of one tensor from element `first` on, reading only what holds them."""
        ...


def open(path: str | os.PathLike[str]) -> Artifact | PlainFile:  # noqa: A001 - regrain.open
    """Open an artifact or a plain safetensors file; whichever it is, tensors come by their original names.

    Nothing but the header is read. Raises OSError if the file cannot be opened, CorruptArtifactError if its header
    contradicts itself, UnsupportedArtifactError if a newer regrain wrote it.
    """
    return open_container(Container.open(path))


def open_container(container: Container) -> Artifact | PlainFile:
    """As `open`, from bytes that are there."""
    try:
        return Artifact(container) if is_artifact(container.header) else PlainFile(container)
    except (CorruptArtifactError, UnsupportedArtifactError) as error:
        name_file(error, container.label)
        raise


class PlainFile:
    """A plain safetensors file. It has no checksums, so damage to its data cannot be seen."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.label = container.label
        self.original = container.header
        self.tensors = dict(sorted(container.header.entries.items()))

    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """See WeightFile.read. One thread copies."""
        for name, out in jobs:
            out[:] = self.container.bytes_of(name)

    def read_range(self, name: str, first: int, out: Bytes) -> None:
        """See WeightFile.read_range."""
        start = first * DTYPES[self.tensors[name].dtype].itemsize
        out[:] = self.container.bytes_of(name)[start : start + out.size]
