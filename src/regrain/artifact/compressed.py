"""An artifact that is open: where each tensor's bytes are, and how they become the tensor again."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import MAX_HEADER, Container, Entry, Header, name_file, parse_header, parse_json
from regrain.artifact.manifest import Coded, Kept, Manifest, Tied, parse_manifest
from regrain.codecs import CODECS, FloatPlanes, IntegerPlanes
from regrain.codecs.pay import least_payload, payload_count
from regrain.core.descriptor import Coder, Scheme, WeightDescriptor
from regrain.core.dtypes import DTYPES, Bytes, word_dtype
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault

P = ParamSpec("P")
R = TypeVar("R")

Job = tuple[str, Bytes]
"""A tensor's name and the bytes that it is to fill."""


class Part(NamedTuple):
    """Where the bytes of a tensor are: `owner` is the tensor that has them, itself or the one it is tied to."""

    owner: str
    stored: Bytes
    seed: int
    word: np.dtype[np.unsignedinteger[Any]] | None  # None for raw bytes
    crc: int  # of raw bytes


def _naming_its_file(method: Callable[Concatenate[Artifact, P], R]) -> Callable[Concatenate[Artifact, P], R]:
    """A method whose errors name the file."""

    @wraps(method)
    def named(self: Artifact, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except CorruptArtifactError as error:
            name_file(error, self.label)
            raise

    return named


class Artifact:
    """A file that regrain wrote."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.label = container.label
        self.manifest: Manifest = parse_manifest(container.header)
        self._parts: dict[str, Part] = {}
        self._checked: set[str] = set()
        entries = container.header.entries
        self.tensors: dict[str, Entry] = {}
        tied: list[tuple[str, str]] = []
        for name, record in self.manifest.tensors.items():  # sorted: the manifest is canonical
            if isinstance(record, Coded):
                entry = entries[name + self.manifest.suffix]
                if entry.nbytes < least_payload(math.prod(record.shape)):  # before anyone allocates that much
                    raise CorruptArtifactError(
                        f"payload of shape {list(record.shape)} must be longer than {entry.nbytes} bytes", tensor=name
                    )
                self.tensors[name] = Entry(record.dtype, record.shape, entry.start, entry.stop)
            elif isinstance(record, Kept):
                self.tensors[name] = entries[name]
            else:
                tied.append((name, record.to))
                self.tensors[name] = Entry("", (), 0, 0)  # keeps the order; filled in below
        for name, to in tied:
            self.tensors[name] = self.tensors[to]

    @_naming_its_file
    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """See WeightFile.read. Every block and every raw tensor is checked before its bytes are used."""
        coded: list[tuple[Bytes, NDArray[np.unsignedinteger[Any]], int]] = []
        kept: list[tuple[Bytes, Bytes, int, int]] = []
        coded_names: list[str] = []
        kept_names: list[str] = []
        for name, out in jobs:
            part = self.part(name)
            if part.word is not None:
                coded.append((part.stored, out.view(part.word), part.seed))
                coded_names.append(part.owner)
            else:
                kept.append((part.stored, out, part.crc, part.seed))
                kept_names.append(part.owner)
        if coded:
            try:
                kernels.decode_many(coded, threads)
            except PayloadFault as fault:
                raise self.corrupt(fault, coded_names[fault.job]) from None
        if kept:
            try:
                kernels.copy_many(kept, threads)
            except PayloadFault as fault:
                raise self.corrupt(fault, kept_names[fault.job]) from None

    @_naming_its_file
    def read_range(self, name: str, first: int, out: Bytes) -> None:
        """See WeightFile.read_range. The checksum of a raw tensor covers all of it: it is checked once."""
        part = self.part(name)
        if part.word is not None:
            count = math.prod(self.tensors[name].shape)
            if payload_count(part.stored) != count:  # a range alone would not show it
                raise CorruptArtifactError(
                    f"payload must hold {count} words, not {payload_count(part.stored)}", tensor=name
                )
            try:
                kernels.decode(part.stored, out.view(part.word), seed=part.seed, first=first)
            except PayloadFault as fault:
                raise self.corrupt(fault, part.owner) from None
            return
        if part.owner not in self._checked:
            check_raw(name, part)
            self._checked.add(part.owner)
        start = first * DTYPES[self.tensors[name].dtype].itemsize
        out[:] = part.stored[start : start + out.size]

    def part(self, name: str) -> Part:
        """Where a tensor's bytes are, unchecked."""
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = self._find(name)
        return part

    def _find(self, name: str) -> Part:
        record = self.manifest.tensors[name]
        if isinstance(record, Tied):
            return self.part(record.to)
        seed = seed_of(name)
        if isinstance(record, Kept):
            return Part(name, self.container.bytes_of(name), seed, None, record.crc)
        stored = self.container.bytes_of(name + self.manifest.suffix)
        codec = CODECS[record.dtype]
        if codec.coder is not Coder.RANS:
            raise CorruptArtifactError(f"coder of {record.dtype} must be {codec.coder}, not {Coder.RANS}", tensor=name)
        return Part(name, stored, seed, word_dtype(DTYPES[record.dtype]), 0)

    def check_kind(self, name: str, info: kernels.PayloadInfo) -> None:
        """Raise CorruptArtifactError unless a payload's head is of this tensor's codec and count."""
        dtype, shape = self.tensors[name][:2]
        codec, count = CODECS[dtype], math.prod(shape)
        found = FloatPlanes(info.word_bytes, info.mantissa_bits) if info.family == 0 else IntegerPlanes(info.word_bytes)
        if found != codec or info.count != count:
            raise CorruptArtifactError(
                f"payload must hold {count} words of {codec}, not {info.count} of {found}", tensor=name
            )

    @cached_property
    @_naming_its_file
    def original(self) -> Header:
        """The original file's header; it must agree with the manifest on every name, dtype and shape."""
        text = self._inflate(self.manifest.header, min(MAX_HEADER, self.manifest.model_bytes))
        header = parse_header(text, self.manifest.model_bytes - 8 - len(text))
        if header.entries.keys() != self.tensors.keys():
            odd = min(header.entries.keys() ^ self.tensors.keys())
            raise CorruptArtifactError("tensor must be in both the original header and the manifest", tensor=odd)
        for name, entry in header.entries.items():
            if entry[:2] != self.tensors[name][:2]:
                raise CorruptArtifactError(
                    f"dtype and shape must be {entry[:2]} as in the original header, not {self.tensors[name][:2]}",
                    tensor=name,
                )
        return header

    @cached_property
    @_naming_its_file
    def receipt(self) -> dict[str, object]:
        """What was done, as the writer recorded it."""
        receipt = parse_json(self._inflate(self.manifest.receipt, MAX_HEADER), "receipt")
        if not isinstance(receipt, dict):
            raise CorruptArtifactError(f"receipt must be a JSON object, not {type(receipt).__name__}")
        return receipt

    def descriptor(self, name: str) -> WeightDescriptor:
        """What the artifact says of one tensor."""
        record, entry = self.manifest.tensors[name], self.tensors[name]
        owner = self.manifest.tensors[record.to] if isinstance(record, Tied) else record
        coder = Coder.RANS if isinstance(owner, Coded) else Coder.RAW
        stages = CODECS[entry.dtype].stages if coder is Coder.RANS else ("checksum", "copy")
        return WeightDescriptor(
            name=name,
            dtype=entry.dtype,
            shape=entry.shape,
            granularity=record.granularity,
            scheme=Scheme(Coder.TIED if isinstance(record, Tied) else coder),
            stages=stages,
            tied=record.to if isinstance(record, Tied) else None,
            dynamic=record.dynamic,
        )

    def _inflate(self, name: str, most: int) -> bytes:
        stored = self.container.bytes_of(name).tobytes()
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

    def corrupt(self, fault: PayloadFault, name: str) -> CorruptArtifactError:
        """The error of a payload, with the tensor's name."""
        return CorruptArtifactError(fault.reason, tensor=name, block=fault.block)


def check_raw(name: str, part: Part) -> None:
    """Raise CorruptArtifactError unless raw bytes have their checksum."""
    crc = checksum(part.seed, part.stored)
    if crc != part.crc:
        raise CorruptArtifactError(f"checksum must be {part.crc:08x}, not {crc:08x}", tensor=name, block=0)
