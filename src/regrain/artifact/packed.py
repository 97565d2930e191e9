"""Writing a packed artifact: every body in one entry, tensors quantized or pruned by choice (docs/format.md, 7)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.deflated import deflate
from regrain.artifact.digest import Digest
from regrain.artifact.header import Entry, canonical_json, file_head, header_text
from regrain.artifact.manifest import (
    DATA_NAME,
    HEADER_NAME,
    INDEX_NAME,
    KEY,
    RECEIPT_NAME,
    Coded,
    Gridded,
    Kept,
    Manifest,
    Pruned,
    Record,
    Tied,
    manifest_text,
)
from regrain.artifact.output import Sink
from regrain.artifact.packed_index import index_text
from regrain.artifact.seal import seal
from regrain.artifact.several import Task, in_order
from regrain.artifact.source import Source, array_bytes
from regrain.artifact.ties import Ties
from regrain.artifact.writer import Progress, encode_lossless
from regrain.codecs.quantized import Quantized, encode_quantized, matrix_shape
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.core.descriptor import Coder, Quantizer, pattern_of
from regrain.core.dtypes import Bytes

Form = Quantized | Sparse
"""What is kept of a tensor that loses something."""

Forms = Mapping[str, Form] | Callable[[str], Form | None]
"""Which tensors are quantized or pruned, and how; the others are not."""

Replacement = Mapping[str, NDArray[Any]] | Callable[[str], NDArray[Any] | None]
"""Which tensors have other values than the source, of the same type and shape; the others are as they were."""

_DIGEST = "f" * 64


class _Body(NamedTuple):
    """What is stored of one tensor, and the bytes that restoring it gives."""

    record: Record
    stored: Bytes
    restored: Bytes


def write_packed(
    source: Source,
    sink: Sink,
    forms: Forms,
    *,
    version: str,
    receipt: Mapping[str, object],
    threads: int = 1,
    progress: Progress | None = None,
    replaced: Replacement = MappingProxyType({}),
    dynamic: Collection[str] = (),
) -> None:
    """Write `source` to `sink`, quantized and pruned where `forms` says so, all else without loss.

    `forms` and `replaced` are asked once for each tensor, in the source's order, as it is needed. A tensor with the
    same bytes as an earlier one is tied to it if both have the same form, or both none. What `receipt` says
    joins the receipt, and wins where the two meet. `dynamic` names the tensors whose granularity a run time may change
    (`WeightDescriptor.dynamic`). The bytes written depend on all arguments but `threads`.

    Raises ValueError, naming the tensor, for a form or a replacement that does not fit it, and for weights that
    would not be finite.
    """
    choose = forms if callable(forms) else forms.get
    replace = replaced if callable(replaced) else replaced.get
    _check_names(source, forms, replaced, dynamic)
    capacity = _capacity(source, receipt)
    sink.write(bytes(8 + capacity))
    start = sink.offset
    with Digest(source.chunks()) as digest:
        # One thread hashes the original meanwhile, which takes as long as the rest on two processors.
        with closing(in_order(_tasks(source, choose, replace), threads - 1)) as results:
            bodies, restored = _write_bodies(source, sink, results, progress, dynamic)
        pruned = any(isinstance(record, Pruned) for record, _ in bodies)
        manifest = Manifest({}, source.header.file_bytes, digest.hexdigest(), restored=restored, pruned=pruned)
    entries = {DATA_NAME: Entry("U8", (sink.offset - start,), 0, sink.offset - start)}
    said = _receipt(source, bodies, version, lossless=manifest.lossless) | dict(receipt)
    texts = {
        HEADER_NAME: source.header.text,
        INDEX_NAME: index_text(bodies),
        RECEIPT_NAME: canonical_json(said),
    }
    for name, text in texts.items():
        at, data = sink.offset - start, deflate(name, text)
        sink.write(data)
        entries[name] = Entry("U8", (len(data),), at, at + len(data))
    header = seal(header_text(entries, {KEY: manifest_text(manifest)}, capacity))
    if len(header) > capacity:
        raise AssertionError(f"header of {len(header)} bytes must fit in the {capacity} that were reserved")
    sink.rewrite(file_head(header))


def _write_bodies(
    source: Source,
    sink: Sink,
    results: Iterable[tuple[str, _Body]],
    progress: Progress | None,
    dynamic: Collection[str],
) -> tuple[list[tuple[Record, int]], str]:
    """Write every body; their records and sizes, and the SHA-256 of what restoring gives."""
    restored = hashlib.sha256(file_head(source.header.text))
    bodies: list[tuple[Record, int]] = []
    done, total = 0, source.header.data_bytes
    for name, body in results:
        sink.write(body.stored.data)
        restored.update(body.restored.data)
        bodies.append((body.record._replace(dynamic=name in dynamic), body.stored.size))
        source.done(name)
        done += source.header.entries[name].nbytes
        if progress is not None:
            progress(done, total)
    return bodies, restored.hexdigest()


def _tasks(
    source: Source, choose: Callable[[str], Form | None], replace: Callable[[str], NDArray[Any] | None]
) -> Iterator[Task[_Body]]:
    changed: dict[str, Bytes] = {}
    chosen: dict[str, bytes] = {}

    def read(name: str) -> Bytes:
        return changed[name] if name in changed else source.read(name)

    ties = Ties(read)
    for name, entry in source.header.entries.items():
        new = replace(name)
        if new is not None:
            changed[name] = _replacement(name, entry, new)
        data, how = read(name), choose(name)
        other = ties.find(name, entry, data)
        if how is not None:
            chosen[name] = how.digest()
        if other is not None and chosen.get(name) == chosen.get(other):
            task = partial(_tied, entry, data, other, how)
        else:
            task = partial(_encode, name, entry, data, how, name in changed)
        yield Task(name, data.size, task)


def _encode(name: str, entry: Entry, data: Bytes, how: Form | None, changed: bool, threads: int) -> _Body:
    seed = seed_of(name)
    if how is None:
        payload = encode_lossless(name, entry, data, threads)
        if payload is None:
            return _Body(Kept(checksum(seed, data), changed=changed), data, data)
        return _Body(Coded(entry.dtype, entry.shape, changed=changed), payload, data)
    shape = how.indices.shape if isinstance(how, Quantized) else how.shape
    if shape != entry.shape:
        raise ValueError(f"form of {name!r} must have its shape {entry.shape}, not {shape}")
    try:
        if isinstance(how, Quantized):
            payload = encode_quantized(how, entry.dtype, seed=seed, threads=threads)
        else:
            payload = encode_sparse(how, entry.dtype, seed=seed, threads=threads)
        return _Body(_record(entry, how), payload, _restored(entry, how))
    except ValueError as error:
        raise ValueError(f"tensor {name!r}: {error}") from None


def _restored(entry: Entry, how: Form) -> Bytes:
    return how.dequantized(entry.dtype) if isinstance(how, Quantized) else how.dense(entry.dtype)


def _record(entry: Entry, how: Form) -> Record:
    if isinstance(how, Sparse):
        granularity = pattern_of(how.unit, entry.shape)[1]
        return Pruned(entry.dtype, entry.shape, how.unit, how.kept, how.cell, granularity)
    quantizer = Quantizer.of(how.cell, *matrix_shape(entry.shape))
    return Gridded(entry.dtype, entry.shape, how.cell, quantizer.granularity)


def _tied(entry: Entry, data: Bytes, other: str, how: Form | None, _: int) -> _Body:
    return _Body(Tied(other), np.empty(0, np.uint8), data if how is None else _restored(entry, how))


def _replacement(name: str, entry: Entry, array: NDArray[Any]) -> Bytes:
    data = array_bytes(array)
    if array.shape != entry.shape or data.size != entry.nbytes:
        raise ValueError(
            f"replacement of {name!r} must be {entry.dtype} of shape {entry.shape}, not {array.dtype} of {array.shape}"
        )
    return data


def _check_names(source: Source, *choices: Forms | Replacement | Collection[str]) -> None:
    for choice in choices:
        if not callable(choice) and (odd := set(choice) - source.header.entries.keys()):
            raise ValueError(f"names must be those of tensors of {source.label!r}, not {min(odd)!r}: leave it out")


def _receipt(source: Source, bodies: list[tuple[Record, int]], version: str, *, lossless: bool) -> dict[str, object]:
    kinds = [*(str(coder) for coder in Coder), "quantized"]
    if any(isinstance(record, Pruned) for record, _ in bodies):
        kinds.append("pruned")
    count, stored = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for record, size in bodies:
        kind = _KIND[type(record)]
        count[kind] += 1
        stored[kind] += size
    return {
        "bytes": stored,
        "mode": "lossless" if lossless else "lossy",
        "model": {"bytes": source.header.file_bytes, "tensors": len(bodies)},
        "regrain": version,
        "tensors": count,
    }


_KIND: dict[type, str] = {Coded: "rans", Kept: "raw", Tied: "tied", Gridded: "quantized", Pruned: "pruned"}


def _capacity(source: Source, receipt: Mapping[str, object]) -> int:
    """Bytes that the header can need at most, as a multiple of 8: only the digits of its sizes are not known."""
    texts = len(source.header.text) + len(canonical_json(dict(receipt))) + 1000 * (len(source.header.entries) + 1)
    end = 4 * source.header.file_bytes + texts  # no index has more than 16 bits, no scale more than an index
    entry = Entry("U8", (end,), end, end)
    manifest = Manifest({}, source.header.file_bytes, _DIGEST, restored=_DIGEST)
    entries = dict.fromkeys((DATA_NAME, HEADER_NAME, INDEX_NAME, RECEIPT_NAME), entry)
    return len(header_text(entries, {KEY: manifest_text(manifest)}))
