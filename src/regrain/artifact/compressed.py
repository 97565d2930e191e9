"""An artifact that is open: where each tensor's bytes are, and how they become the tensor again."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import Container, name_file
from regrain.artifact.header import MAX_HEADER, Entry, Header, parse_header, parse_json
from regrain.artifact.manifest import Coded, Manifest, Tied
from regrain.artifact.manifest_reader import find_tensors, parse_manifest
from regrain.codecs import CODECS, FloatPlanes, IntegerPlanes
from regrain.codecs.pay import payload_count
from regrain.core.descriptor import Coder, Scheme, WeightDescriptor
from regrain.core.dtypes import DTYPES, Bytes, word_dtype
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault

P = ParamSpec("P")
R = TypeVar("R")

PIECE = 8 * 1024 * 1024
"""Bytes of a large tensor that are held at once, at most."""

_CACHED = 512 * 1024  # bytes that are still in the cache when they are checked

Job = tuple[str, Bytes]
"""A tensor's name and the bytes that it is to fill."""


_WORD = {name: word_dtype(DTYPES[name]) for name, codec in CODECS.items() if codec.coder is Coder.RANS}


class Part(NamedTuple):
    """Where the bytes of a tensor are: `owner` is the tensor that has them, itself or the one it is tied to."""

    owner: str
    start: int  # in the file
    stop: int
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
        self.tensors: dict[str, Entry] = find_tensors(self.manifest, container.header)
        self._parts: dict[str, Part] = {}
        self._checked: set[str] = set()

    @_naming_its_file
    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """See WeightFile.read. Every block and every raw tensor is checked before its bytes are used."""
        coded: list[tuple[int, int, NDArray[np.unsignedinteger[Any]], int]] = []
        kept: list[tuple[Part, Bytes]] = []
        owners: list[str] = []
        records, tensors, first = self.manifest.tensors, self.tensors, self.container.header.data_start
        for name, out in jobs:
            record = records[name]
            if isinstance(record, Tied):
                name, record = record.to, records[record.to]
            if isinstance(record, Coded):
                _, _, start, stop = tensors[name]
                coded.append((first + start, stop - start, out.view(_WORD[record.dtype]), seed_of(name)))
                owners.append(name)
            else:
                kept.append((self.part(name), out))
        try:
            if self.container.file is not None:
                kernels.decode_file(self.container.file, coded, threads)
            else:
                data = self.container.data
                kernels.decode_many([(data[at : at + size], out, seed) for at, size, out, seed in coded], threads)
        except PayloadFault as fault:
            raise self.corrupt(fault, owners[fault.job]) from None
        if threads > 1 and sum(out.size for _, out in kept) > PIECE:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self._copy, kept))
        else:
            for job in kept:
                self._copy(job)

    def _copy(self, job: tuple[Part, Bytes]) -> None:
        part, out = job
        crc = checksum(part.seed, b"")
        for start in range(0, out.size, _CACHED):
            piece = out[start : start + _CACHED]
            self.container.read_into(part.start + start, piece)
            crc = kernels.crc32c(piece, crc)
        check_crc(part, crc)

    @_naming_its_file
    def read_range(self, name: str, first: int, out: Bytes, threads: int) -> None:
        """See WeightFile.read_range. The checksum of a raw tensor covers all of it: it is checked once."""
        part = self.part(name)
        if part.word is None:
            if part.owner not in self._checked:
                self.check_raw(name)
                self._checked.add(part.owner)
            self.container.read_into(part.start + first * DTYPES[self.tensors[name].dtype].itemsize, out)
            return
        count = math.prod(self.tensors[name].shape)
        found = payload_count(self.container.read(part.start, min(16, part.stop - part.start)))
        if found != count:  # a range alone would not show it
            raise CorruptArtifactError(f"payload must hold {count} words, not {found}", tensor=name)
        self.decode_range(part, first, out, threads)

    def decode_range(self, part: Part, first: int, out: Bytes, threads: int) -> None:
        """Fill `out` with words of a coded tensor from word `first` on."""
        assert part.word is not None
        words, file = out.view(part.word), self.container.file
        try:
            if file is None:
                payload = self.container.data[part.start : part.stop]
                kernels.decode(payload, words, seed=part.seed, first=first, threads=threads)
            else:
                size = part.stop - part.start
                kernels.decode_file_range(file, part.start, size, words, seed=part.seed, first=first, threads=threads)
        except PayloadFault as fault:
            raise self.corrupt(fault, part.owner) from None

    def check_raw(self, name: str) -> None:
        """Raise CorruptArtifactError unless a raw tensor has its checksum."""
        part = self.part(name)
        crc, buffer = checksum(part.seed, b""), np.empty(min(_CACHED, part.stop - part.start), np.uint8)
        for start in range(part.start, part.stop, _CACHED):
            piece = buffer[: part.stop - start]
            self.container.read_into(start, piece)
            crc = kernels.crc32c(piece, crc)
        check_crc(part, crc)

    def part(self, name: str) -> Part:
        """Where a tensor's bytes are."""
        part = self._parts.get(name)
        if part is not None:
            return part
        record = self.manifest.tensors[name]
        if isinstance(record, Tied):
            part = self.part(record.to)
        else:
            _, _, start, stop = self.tensors[name]
            word, crc = (_WORD[record.dtype], 0) if isinstance(record, Coded) else (None, record.crc)
            first = self.container.header.data_start
            part = Part(name, first + start, first + stop, seed_of(name), word, crc)
        self._parts[name] = part
        return part

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
        start, stop = self.container.place(self.container.header.entries[name])
        stored = self.container.read(start, stop - start)
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


def check_crc(part: Part, crc: int) -> None:
    """Raise CorruptArtifactError unless `crc` is the checksum of a raw tensor."""
    if crc != part.crc:
        raise CorruptArtifactError(f"checksum must be {part.crc:08x}, not {crc:08x}", tensor=part.owner, block=0)
