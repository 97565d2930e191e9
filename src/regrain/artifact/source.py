"""What an artifact is made from: a header and the bytes of each tensor, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from regrain.artifact.compressed import Artifact
from regrain.artifact.container import Container
from regrain.artifact.header import METADATA, Entry, Header, file_head, header_text
from regrain.artifact.manifest import is_artifact
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import UnsupportedModelError

CHUNK = 4 * 1024 * 1024
"""Bytes that are hashed or compared at once."""

# The order in which the safetensors library sorts tensors of different types, widest first (its enum, reversed).
_ORDER = (
    "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 "
    "F6_E3M2 F6_E2M3 F4 BOOL"
).split()


class Lazy(NamedTuple):
    """A tensor in memory: its safetensors dtype, its shape, and a function that gives its contiguous bytes."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Bytes]


@dataclass(frozen=True, slots=True)
class Source:
    """A model about to be written. `header` is that of the plain safetensors file; `read` gives a tensor's bytes.

    `done` is called when a tensor's bytes are needed no more. `notes` say what of the model is left out.
    """

    label: str
    header: Header
    read: Callable[[str], Bytes]
    done: Callable[[str], None] = field(default=lambda _: None)
    notes: tuple[str, ...] = ()

    @property
    def matrices(self) -> frozenset[str]:
        """Tensors of floating-point numbers with two axes or more: what has a granularity that could change."""
        entries = self.header.entries.items()
        return frozenset(name for name, entry in entries if len(entry.shape) > 1 and DTYPES[entry.dtype].floating)

    def chunks(self) -> Iterator[memoryview]:
        """The plain safetensors file from its first byte to its last, in pieces of at most 4 MiB."""
        yield memoryview(file_head(self.header.text))
        for name in self.header.entries:
            data = self.read(name)
            for start in range(0, data.size, CHUNK):
                yield data[start : start + CHUNK].data


def from_file(path: str | os.PathLike[str]) -> Source:
    """A plain safetensors file, mapped. Raises UnsupportedModelError if it is an artifact already."""
    return from_container(Container.open(path))


def from_container(container: Container) -> Source:
    """A plain safetensors file whose bytes are there."""
    if is_artifact(container.header):
        raise UnsupportedModelError(
            f"model must be plain weights, not the artifact {container.label!r}: restore it first"
        )
    container.sequential()
    return Source(container.label, container.header, container.bytes_of, container.release)


def from_artifact(artifact: Artifact, threads: int = 1) -> Source:
    """The original of an artifact: each tensor is decoded when it is read."""
    header = artifact.original

    def read(name: str) -> Bytes:
        out = np.empty(header.entries[name].nbytes, np.uint8)
        artifact.read([(name, out)], threads)
        return out

    return Source(artifact.label, header, read)


def from_tensors(
    tensors: Mapping[str, Lazy], metadata: Mapping[str, str] | None, label: str, notes: tuple[str, ...] = ()
) -> Source:
    """Tensors in memory. The header is the one that the safetensors library would write."""
    if METADATA in tensors:
        raise UnsupportedModelError(f"tensor must not be named {METADATA!r}: safetensors keeps that name for itself")
    entries: dict[str, Entry] = {}
    offset = 0
    for name in sorted(tensors, key=lambda name: (_ORDER.index(tensors[name].dtype), name.encode("utf-8"))):
        dtype, shape, _ = tensors[name]
        nbytes = DTYPES[dtype].nbytes(shape)
        if nbytes is None:
            raise UnsupportedModelError(f"{dtype} of shape {list(shape)} must fill whole bytes: tensor {name!r}")
        entries[name] = Entry(dtype, shape, offset, offset + nbytes)
        offset += nbytes
    text = header_text(entries, None if metadata is None else dict(sorted(metadata.items())))
    header = Header(text, None if metadata is None else dict(metadata), entries)
    return Source(label, header, lambda name: tensors[name].read(), notes=notes)


def array_bytes(array: np.ndarray) -> Bytes:
    """The little-endian bytes of an array in C order: a view where it is contiguous already."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
