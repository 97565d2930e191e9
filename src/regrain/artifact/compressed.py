"""An artifact that is open: where each tensor's bytes are, and how they become the tensor again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import Container, name_file
from regrain.artifact.deflated import inflate
from regrain.artifact.grids import Grids
from regrain.artifact.header import MAX_HEADER, Entry, Header, parse_header, parse_json
from regrain.artifact.manifest import DATA_NAME, INDEX_NAME, PRUNED, Coded, Gridded, Kept, Manifest, Pruned, Tied
from regrain.artifact.manifest_reader import find_tensors, parse_manifest
from regrain.artifact.packed_index import check_packed, parse_index
from regrain.artifact.part import Part, check_crc, corrupt
from regrain.artifact.units import Units
from regrain.codecs import CODECS, FloatPlanes, IntegerPlanes, quantized, sparse
from regrain.codecs.pay import payload_count
from regrain.codecs.quantized import Quantized, matrix_shape
from regrain.codecs.sparse import Sparse
from regrain.core.descriptor import Coder, Quantizer, Scheme, WeightDescriptor, pattern_of
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
        self.tensors: dict[str, Entry] = {}
        if self.manifest.packed:
            self._open_packed()
        else:
            self.tensors = find_tensors(self.manifest, container.header)
        self._parts: dict[str, Part] = {}
        self._checked: set[str] = set()
        self._grids = Grids(container)
        self._units = Units(container)

    def _open_packed(self) -> None:
        header = self.container.header
        check_packed(header)
        text = inflate(self.container, INDEX_NAME, MAX_HEADER)
        records, self.tensors = parse_index(text, self._read_original(), header.entries[DATA_NAME])
        pruned = [name for name, record in records.items() if isinstance(record, Pruned)]
        if pruned and not self.manifest.pruned:
            raise CorruptArtifactError(f"format must be {PRUNED} where a tensor is pruned", tensor=pruned[0])
        self.manifest = replace(self.manifest, tensors=records)

    @_naming_its_file
    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """See WeightFile.read. Every block and every raw tensor is checked before its bytes are used."""
        coded: list[tuple[int, int, NDArray[np.unsignedinteger[Any]], int]] = []
        kept: list[tuple[Part, Bytes]] = []
        others: dict[type, list[tuple[Part, int, Bytes]]] = {Gridded: [], Pruned: []}
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
            elif isinstance(record, Kept):
                kept.append((self.part(name), out))
            else:
                others[type(record)].append((self.part(name), 0, out))
        try:
            if self.container.file is not None:
                kernels.decode_file(self.container.file, coded, threads)
            else:
                data = self.container.data
                kernels.decode_many([(data[at : at + size], out, seed) for at, size, out, seed in coded], threads)
        except PayloadFault as fault:
            raise corrupt(fault, owners[fault.job]) from None
        if threads > 1 and sum(out.size for _, out in kept) > PIECE:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(self._copy, kept))
        else:
            for job in kept:
                self._copy(job)
        self._grids.read(others[Gridded], threads)
        self._units.read(others[Pruned], threads)

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
        if part.gridded is not None:
            self._grids.read([(part, first, out)], threads)
            return
        if part.pruned is not None:
            self._units.read([(part, first, out)], threads)
            return
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
            raise corrupt(fault, part.owner) from None

    def exact(self, name: str) -> bool:
        """Whether a tensor has every bit of the original's."""
        record = self.manifest.tensors[self.part(name).owner]
        return isinstance(record, Coded | Kept) and not record.changed

    @_naming_its_file
    def steps(self, name: str, first: int, count: int) -> NDArray[np.float32] | None:
        """The scales of elements `first` to `first + count`; None of a tensor that is not quantized, or pruned too."""
        part = self.part(name)
        return None if part.gridded is None else self._grids.steps(part, first, count)

    @_naming_its_file
    def quantized(self, name: str, threads: int) -> Quantized | None:
        """See WeightFile.quantized."""
        part = self.part(name)
        return None if part.gridded is None else self._grids.quantized(part, threads)

    @_naming_its_file
    def sparse(self, name: str, threads: int) -> Sparse | None:
        """See WeightFile.sparse."""
        part = self.part(name)
        return None if part.pruned is None else self._units.sparse(part, threads)

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
            word = _WORD[record.dtype] if isinstance(record, Coded) else None
            crc = record.crc if isinstance(record, Kept) else 0
            gridded = record if isinstance(record, Gridded) else None
            pruned = record if isinstance(record, Pruned) else None
            first = self.container.header.data_start
            part = Part(name, first + start, first + stop, seed_of(name), word, crc, gridded, pruned)
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
        header = self._read_original()
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

    def _read_original(self) -> Header:
        text = inflate(self.container, self.manifest.header, min(MAX_HEADER, self.manifest.model_bytes))
        return parse_header(text, self.manifest.model_bytes - 8 - len(text))

    @cached_property
    @_naming_its_file
    def receipt(self) -> dict[str, object]:
        """What was done, as the writer recorded it."""
        receipt = parse_json(inflate(self.container, self.manifest.receipt, MAX_HEADER), "receipt")
        if not isinstance(receipt, dict):
            raise CorruptArtifactError(f"receipt must be a JSON object, not {type(receipt).__name__}")
        return receipt

    def descriptor(self, name: str) -> WeightDescriptor:
        """What the artifact says of one tensor."""
        record, entry = self.manifest.tensors[name], self.tensors[name]
        owner = self.manifest.tensors[record.to] if isinstance(record, Tied) else record
        coder = Coder.RAW if isinstance(owner, Kept) else Coder.RANS
        pattern, quantizer, cell, density = "dense", Quantizer.NONE, None, None
        stages = CODECS[entry.dtype].stages if coder is Coder.RANS else ("checksum", "copy")
        if isinstance(owner, Gridded | Pruned) and owner.cell is not None:
            quantizer, cell = Quantizer.of(owner.cell, *matrix_shape(owner.shape)), owner.cell
            stages = quantized.STAGES
        if isinstance(owner, Pruned):
            pattern, density = pattern_of(owner.unit, owner.shape)[0], owner.kept / math.prod(owner.shape)
            stages = sparse.STAGES if cell is None else sparse.QUANTIZED_STAGES
        return WeightDescriptor(
            name=name,
            dtype=entry.dtype,
            shape=entry.shape,
            granularity=owner.granularity if isinstance(owner, Gridded | Pruned) else record.granularity,
            scheme=Scheme(Coder.TIED if isinstance(record, Tied) else coder, pattern, quantizer, cell),
            stages=stages,
            tied=record.to if isinstance(record, Tied) else None,
            dynamic=record.dynamic,
            density=density,
        )

    def stored_bytes(self, name: str) -> int:
        """Bytes that a tensor takes in the file; 0 for a tied one."""
        return 0 if isinstance(self.manifest.tensors[name], Tied) else self.tensors[name].nbytes
