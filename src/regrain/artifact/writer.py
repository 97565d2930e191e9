"""Writing an artifact: a few tensors in memory at a time, every byte written once, the header last."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from functools import partial

from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.deflated import deflate
from regrain.artifact.digest import Digest
from regrain.artifact.header import MAX_HEADER, Entry, canonical_json, compact_json, file_head, header_text
from regrain.artifact.manifest import (
    HEADER_NAME,
    KEY,
    RECEIPT_NAME,
    SUFFIX,
    Coded,
    Kept,
    Manifest,
    Record,
    Tied,
    manifest_text,
    record_json,
)
from regrain.artifact.output import Sink
from regrain.artifact.seal import seal
from regrain.artifact.several import Task, in_order
from regrain.artifact.source import Source
from regrain.artifact.ties import Ties
from regrain.codecs import CODECS
from regrain.core.descriptor import Coder
from regrain.core.dtypes import DTYPES, Bytes, word_dtype
from regrain.core.errors import UnsupportedModelError

Progress = Callable[[int, int], None]
"""Called with the bytes of the original that are done, and all of them."""

_DIGEST = "f" * 64


def write_artifact(
    source: Source,
    sink: Sink,
    *,
    version: str,
    threads: int = 1,
    progress: Progress | None = None,
    dynamic: Collection[str] = (),
) -> None:
    """Write `source` to `sink`. `dynamic` names the tensors whose granularity a run time may change. The bytes depend
    on all arguments but `threads`.
    """
    names = list(source.header.entries)
    suffix = unused_suffix(names)
    capacity = _capacity(source, suffix, dynamic)
    sink.write(bytes(8 + capacity))
    with Digest(source.chunks()) as digest:
        body = _Body(source, sink, suffix, threads, progress, dynamic)
        body.write_coded()
        body.write_kept()
        sha256 = digest.hexdigest()
    manifest = Manifest(
        tensors=body.records,
        model_bytes=source.header.file_bytes,
        model_sha256=sha256,
        suffix=suffix,
        header=unused_name(names, HEADER_NAME),
        receipt=unused_name(names, RECEIPT_NAME),
    )
    body.append(manifest.header, deflate(manifest.header, source.header.text))
    body.append(manifest.receipt, deflate(manifest.receipt, canonical_json(_receipt(source, body, version))))
    text = seal(header_text(body.entries, {KEY: manifest_text(manifest)}, capacity))
    if len(text) > capacity:
        raise AssertionError(f"header of {len(text)} bytes must fit in the {capacity} that were reserved")
    sink.rewrite(file_head(text))


def unused_suffix(names: list[str]) -> str:
    """The suffix of payload names: lengthened until no tensor's own name ends with it."""
    suffix = SUFFIX
    while any(name.endswith(suffix) for name in names):
        suffix += "_"
    return suffix


def unused_name(names: list[str], name: str) -> str:
    """A name that no tensor has."""
    while name in names:
        name += "_"
    return name


class _Body:
    """The data part as it grows. Coded payloads come first: their lengths are multiples of 8, so all stay aligned."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        suffix: str,
        threads: int,
        progress: Progress | None,
        dynamic: Collection[str],
    ) -> None:
        self._source = source
        self._sink = sink
        self._suffix = suffix
        self._threads = threads
        self._progress = progress
        self._dynamic = dynamic
        self._start = sink.offset
        self._total = source.header.data_bytes
        self._done = 0
        self.entries: dict[str, Entry] = {}
        self.records: dict[str, Record] = {}
        self.stored: dict[str, int] = {}

    def append(self, name: str, data: bytes | Bytes, like: Entry | None = None) -> None:
        """Write one entry, as U8 unless it is to be like another."""
        start = self._sink.offset - self._start
        self._sink.write(data if isinstance(data, bytes) else data.data)
        dtype, shape = ("U8", (len(data),)) if like is None else like[:2]
        self.entries[name] = Entry(dtype, shape, start, start + len(data))

    def write_coded(self) -> None:
        """Every tensor that is tied or worth coding; the others are put off."""
        # One thread hashes the original meanwhile, which takes as long as the rest on two processors.
        with closing(in_order(self._tasks(), self._threads - 1)) as results:
            for name, result in results:
                if isinstance(result, Tied):
                    self._finish(name, result, 0)
                elif result is not None:
                    entry = self._source.header.entries[name]
                    self.append(name + self._suffix, result)
                    self._finish(name, Coded(entry.dtype, entry.shape), result.size)

    def _tasks(self) -> Iterator[Task[Bytes | Tied | None]]:
        """For each tensor its payload, the tensor that it is tied to, or None."""
        source = self._source
        ties = Ties(source.read)
        for name, entry in source.header.entries.items():
            data = source.read(name)
            other = ties.find(name, entry, data)
            yield Task(name, data.size if other is None else 0, partial(_encode, name, entry, data, other))

    def write_kept(self) -> None:
        """The raw tensors, the widest elements first: so each starts at a multiple of its element's bytes."""
        entries = self._source.header.entries
        left = [name for name in entries if name not in self.records]
        for name in sorted(left, key=lambda name: -DTYPES[entries[name].dtype].bits):
            data = self._source.read(name)
            self.append(name, data, entries[name])
            self._finish(name, Kept(checksum(seed_of(name), data)), data.size)

    def _finish(self, name: str, record: Record, stored: int) -> None:
        self.records[name], self.stored[name] = record._replace(dynamic=name in self._dynamic), stored
        self._source.done(name)
        self._done += self._source.header.entries[name].nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)


def _encode(name: str, entry: Entry, data: Bytes, other: str | None, threads: int) -> Bytes | Tied | None:
    return encode_lossless(name, entry, data, threads) if other is None else Tied(other)


def encode_lossless(name: str, entry: Entry, data: Bytes, threads: int) -> Bytes | None:
    """The payload of a tensor; None if it does not pay."""
    words = data.view(word_dtype(DTYPES[entry.dtype]))
    return CODECS[entry.dtype].encode(words, entry.shape, seed=seed_of(name), threads=threads)


def _receipt(source: Source, body: _Body, version: str) -> dict[str, object]:
    count = dict.fromkeys((str(coder) for coder in Coder), 0)
    stored = dict.fromkeys((str(coder) for coder in Coder), 0)
    for name, record in body.records.items():
        coder = coder_of(record)
        count[coder] += 1
        stored[coder] += body.stored[name]
    return {
        "bytes": stored,
        "mode": "lossless",
        "model": {"bytes": source.header.file_bytes, "tensors": len(body.records)},
        "regrain": version,
        "tensors": count,
    }


def coder_of(record: Record) -> Coder:
    """The coder of a manifest's record."""
    return Coder.TIED if isinstance(record, Tied) else Coder.RANS if isinstance(record, Coded) else Coder.RAW


def _capacity(source: Source, suffix: str, dynamic: Collection[str]) -> int:
    """Bytes that the header can need at most, as a multiple of 8: every tensor takes its longest form."""
    # What is coded is smaller than it was, so no offset is beyond the original, its header (zlib adds little) and a
    # receipt of well under 1000 bytes.
    end = source.header.file_bytes + len(source.header.text) + 1000
    longest: dict[tuple[str, tuple[int, ...]], str] = {}
    most = 0
    for name, entry in source.header.entries.items():
        payload = Entry("U8", (end,), end, end)
        flag = name in dynamic
        forms = [
            _size(name, Coded(entry.dtype, entry.shape, dynamic=flag), name + suffix, payload),
            _size(name, Kept(2**32 - 1, dynamic=flag), name, Entry(entry.dtype, entry.shape, end, end)),
        ]
        other = longest.get(entry[:2])
        if other is not None:
            forms.append(_size(name, Tied(other, dynamic=flag), None, payload))
        if other is None or len(json.dumps(name)) > len(json.dumps(other)):
            longest[entry[:2]] = name
        most += max(forms)
    names = list(source.header.entries)
    header, receipt = unused_name(names, HEADER_NAME), unused_name(names, RECEIPT_NAME)
    fixed = {name: Entry("U8", (end,), end, end) for name in (header, receipt)}
    manifest = Manifest({}, end, _DIGEST, suffix, header, receipt)
    most += len(header_text(fixed, {KEY: manifest_text(manifest)}))
    if most > MAX_HEADER - 8:
        raise UnsupportedModelError(f"model must need a header of at most {MAX_HEADER} bytes, not {most}: split it")
    return -(-most // 8) * 8


def _size(name: str, record: Record, entry_name: str | None, entry: Entry) -> int:
    """Bytes that one tensor adds to the header: its record, escaped twice, and its entry, with their commas."""
    inner = canonical_json({name: record_json(record)}).decode("ascii")
    size = len(json.dumps(inner)) - 2
    if entry_name is not None:
        size += len(compact_json({entry_name: entry.to_json()}))
    return size
