"""Reading weights, from an artifact or from a plain safetensors file, through one interface."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from regrain.artifact.compressed import Artifact, Job
from regrain.artifact.container import Container, name_file
from regrain.artifact.header import Entry, Header
from regrain.artifact.manifest import is_artifact
from regrain.codecs.quantized import Quantized
from regrain.codecs.sparse import Sparse
from regrain.core.descriptor import Coder, Scheme, WeightDescriptor
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError
from regrain.core.granularity import Granularity


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

    def descriptor(self, name: str) -> WeightDescriptor:
        """How a tensor is stored. Raises KeyError for a name that is none."""
        ...

    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """Fill the bytes of whole tensors."""
        ...

    def read_range(self, name: str, first: int, out: Bytes, threads: int) -> None:
        """Fill `out` with the elements of one tensor from element `first` on, reading only what holds them."""
        ...

    def quantized(self, name: str, threads: int) -> Quantized | None:
        """Indices and scales of a tensor, None if it is not quantized or pruned too. Raises KeyError for a name that is
        none.
        """
        ...

    def sparse(self, name: str, threads: int) -> Sparse | None:
        """Which units of a tensor are kept, and their weights; None if it is not pruned. Raises KeyError likewise."""
        ...


def open(path: str | os.PathLike[str]) -> Artifact | PlainFile:  # noqa: A001 - as in `tarfile.open`
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

    def descriptor(self, name: str) -> WeightDescriptor:
        """See WeightFile.descriptor."""
        dtype, shape, _, _ = self.tensors[name]
        return WeightDescriptor(name, dtype, shape, Granularity.FINE, Scheme(Coder.RAW), ("copy",))

    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """See WeightFile.read. One thread copies."""
        for name, out in jobs:
            self.container.read_into(self.container.place(self.tensors[name])[0], out)

    def read_range(self, name: str, first: int, out: Bytes, threads: int) -> None:
        """See WeightFile.read_range."""
        entry = self.tensors[name]
        self.container.read_into(self.container.place(entry)[0] + first * DTYPES[entry.dtype].itemsize, out)

    def quantized(self, name: str, threads: int) -> None:
        """See WeightFile.quantized: nothing is."""
        _ = self.tensors[name]

    def sparse(self, name: str, threads: int) -> None:
        """See WeightFile.sparse: nothing is."""
        _ = self.tensors[name]
