"""Reading the manifest of an artifact, and finding every tensor that it names: strict, and quick where all is usual."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from reprlib import repr as brief  # of what is not trusted to be short
from typing import Any

from regrain.artifact.header import (
    MAX_BYTES,
    ODD,
    PAIRS,
    Entry,
    Header,
    check_lists,
    check_types,
    parse_json,
    parse_shape,
    unique,
)
from regrain.artifact.manifest import (
    FORMAT,
    HEADER_NAME,
    KEY,
    PACKED,
    PRUNED,
    READER,
    RECEIPT_NAME,
    SUFFIX,
    Coded,
    Kept,
    Manifest,
    Record,
    Tied,
)
from regrain.artifact.seal import BLANK, PREFIX
from regrain.codecs import CODECS
from regrain.codecs.pay import most_words
from regrain.core.descriptor import Coder
from regrain.core.dtypes import DTYPES
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError
from regrain.core.granularity import Granularity

_FIELDS = frozenset({"crc", "format", "header", "model", "reader", "receipt", "tensors"})
_PACKED_FIELDS = frozenset({"crc", "format", "model", "reader", "restored"})
FLAGS = frozenset({"granularity", "dynamic"})
_CODED, _KEPT, _TIED = frozenset({"coder", "dtype", "shape"}), frozenset({"coder", "crc"}), frozenset({"tied"})
U32 = 2**32 - 1
CODABLE = frozenset(name for name, codec in CODECS.items() if codec.coder is Coder.RANS)
_RANS = ("coder", "rans")
_NOWHERE = Entry("", (), 0, 0)


def parse_manifest(header: Header) -> Manifest:
    """The manifest of an artifact's header, whose seal is checked already (artifact/seal.py).

    Raises UnsupportedArtifactError if a newer reader is needed, CorruptArtifactError for everything that is wrong.
    """
    metadata = header.metadata or {}
    if metadata.keys() != {KEY}:
        raise CorruptArtifactError(f"metadata must have the one key {KEY!r}, not {brief(sorted(metadata))}")
    if not header.text.startswith(PREFIX):
        start = header.text[: len(PREFIX)]
        raise CorruptArtifactError(f"artifact's header must start with {PREFIX.decode()}, not {brief(start)}")
    text = metadata[KEY]
    try:  # in half the time, what is usual
        _encode(text)
        document = unique(PAIRS.decode(text))
        document["model"] = unique(document["model"])
        return _manifest(document, _usual_records)
    except ODD:  # anything else, or the reason why it is wrong
        return _manifest(parse_object(parse_json(_encode(text), "manifest"), "manifest"), _records)


def _manifest(document: dict[str, object], records: Callable[[object], dict[str, Record]]) -> Manifest:
    reader = whole(document.get("reader"), "reader", U32)
    if reader > READER:
        raise UnsupportedArtifactError(f"artifact needs reader version {reader}, this one is {READER}: upgrade regrain")
    packed = document.get("format") in (PACKED, PRUNED)
    fields = _PACKED_FIELDS if packed else _FIELDS
    if document.keys() - ({} if packed else {"suffix"}) != fields:
        odd = sorted(document.keys() ^ fields)
        raise CorruptArtifactError(f"manifest must have exactly the fields {sorted(fields)}; wrong: {brief(odd)}")
    if document["format"] not in (FORMAT, PACKED, PRUNED) or type(document["format"]) is not int:
        raise CorruptArtifactError(f"format must be {FORMAT}, {PACKED} or {PRUNED}, not {brief(document['format'])}")
    if not isinstance(document["crc"], str) or len(document["crc"]) != len(BLANK):
        raise CorruptArtifactError(f"crc must be {len(BLANK)} hexadecimal digits, not {brief(document['crc'])}")
    model = parse_object(document["model"], "model")
    if model.keys() != {"bytes", "sha256"}:
        raise CorruptArtifactError(f"model must have exactly bytes and sha256, not {brief(sorted(model))}")
    if packed:
        return Manifest(
            tensors={},
            model_bytes=whole(model["bytes"], "model bytes", 2**63 - 1),
            model_sha256=_digest(model["sha256"], "model sha256"),
            restored=_digest(document["restored"], "restored"),
            pruned=document["format"] == PRUNED,
        )
    return Manifest(
        tensors=records(document["tensors"]),
        model_bytes=whole(model["bytes"], "model bytes", 2**63 - 1),
        model_sha256=_digest(model["sha256"], "model sha256"),
        suffix=_reserved(document.get("suffix", SUFFIX), SUFFIX),
        header=_reserved(document["header"], HEADER_NAME),
        receipt=_reserved(document["receipt"], RECEIPT_NAME),
    )


def find_tensors(manifest: Manifest, header: Header) -> dict[str, Entry]:
    """dtype, shape and place of every tensor, sorted by name.

    Every entry belongs to exactly one tensor, or is the header or the receipt; every tie ends at bytes. Raises
    CorruptArtifactError otherwise.
    """
    records, entries, suffix, reserved = manifest.tensors, header.entries, manifest.suffix, manifest.reserved
    tensors: dict[str, Entry] = {}
    ties: list[tuple[str, str]] = []
    new, product = tuple.__new__, math.prod
    if not records.keys().isdisjoint(reserved) or suffix in "\n".join(records):  # else no name ends with it
        _check_names(records, suffix, reserved)
    for name, record in records.items():
        if isinstance(record, Tied):
            ties.append((name, record.to))
            tensors[name] = _NOWHERE  # keeps the order; filled in below
            continue
        entry_name = name + suffix if isinstance(record, Coded) else name
        entry = entries.get(entry_name)
        if entry is None:
            raise CorruptArtifactError(f"payload {entry_name!r} must be in the header", tensor=name)
        if isinstance(record, Kept):
            tensors[name] = entry
            continue
        dtype, shape, start, stop = entry
        if dtype != "U8" or len(shape) != 1:
            raise _no_payload(name)
        if product(record.shape) > most_words(stop - start):  # before anyone allocates that much
            raise CorruptArtifactError(
                f"payload of shape {list(record.shape)} must be longer than {stop - start} bytes", tensor=name
            )
        tensors[name] = new(Entry, (record.dtype, record.shape, start, stop))
    for name, other in ties:
        if other not in records or isinstance(records[other], Tied):
            raise CorruptArtifactError(f"tied must name a tensor with bytes, not {brief(other)}", tensor=name)
        tensors[name] = tensors[other]
    for name in reserved:
        entry = entries.get(name)
        if entry is None or entry.dtype != "U8" or len(entry.shape) != 1:
            raise _no_payload(name)
    if len(entries) != len(records) - len(ties) + len(reserved):  # no two of them can have the same entry
        owned = {manifest.entry_name(name) for name in records} | set(reserved)
        raise CorruptArtifactError(f"header must have no entry {min(entries.keys() - owned)!r}: no tensor owns it")
    return tensors


def _check_names(names: Iterable[str], suffix: str, reserved: tuple[str, str]) -> None:
    for name in names:
        if name.endswith(suffix) or name in reserved:
            raise CorruptArtifactError("tensor must not have a name that the format reserves", tensor=name)


def _no_payload(name: str) -> CorruptArtifactError:
    return CorruptArtifactError("payload must be one axis of U8", tensor=name)


def _usual_records(pairs: Any) -> dict[str, Record]:
    """What `_records` gives, in a third of the time, of an object from PAIRS; raises one of ODD for what is wrong."""
    check_types([pairs], tuple)
    check_types([fields for _, fields in pairs], tuple)
    shapes = [fields[2][1] for _, fields in pairs if len(fields) == 3 and fields[0] == _RANS]
    check_lists(shapes)
    records: dict[str, Record] = {}
    new, product = tuple.__new__, math.prod
    for name, fields in pairs:
        if len(fields) == 3 and fields[0] == _RANS:
            _, (second, dtype), (third, shape) = fields
            if second != "dtype" or third != "shape" or dtype not in CODABLE:
                raise ValueError
            if not 0 < product(shape) <= MAX_BYTES // 8:
                parse_shape(shape, DTYPES[dtype].itemsize, name)
            records[name] = new(Coded, (dtype, tuple(shape), Granularity.FINE, False, False))
        else:
            records[name] = _record(name, unique(fields))
    if len(records) != len(pairs):
        raise ValueError
    return records


def _records(value: object) -> dict[str, Record]:
    return {name: _record(name, value) for name, value in parse_object(value, "tensors").items()}


def _record(name: str, value: object) -> Record:
    fields = parse_object(value, "tensor's record", name)
    keys = fields.keys() if FLAGS.isdisjoint(fields) else fields.keys() - FLAGS
    record: Record
    if keys == _CODED and fields["coder"] == Coder.RANS:
        record = _coded(name, fields["dtype"], fields["shape"])
    elif keys == _KEPT and fields["coder"] == Coder.RAW:
        record = Kept(whole(fields["crc"], "crc", U32, name))
    elif keys == _TIED and isinstance(to := fields["tied"], str):
        record = Tied(to)
    else:
        raise CorruptArtifactError(
            f"record must be that of coder {Coder.RANS} or {Coder.RAW} or of a tied tensor, not {brief(fields)}",
            tensor=name,
        )
    return record if len(keys) == len(fields) else with_flags(name, record, fields)


def _coded(name: str, dtype: object, shape: object) -> Coded:
    kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None:
        raise CorruptArtifactError(f"dtype must be one of {', '.join(DTYPES)}, not {brief(dtype)}", tensor=name)
    codec = CODECS[kind.name]
    if codec.coder is not Coder.RANS:
        raise CorruptArtifactError(f"coder of {kind.name} must be {codec.coder}, not {Coder.RANS}", tensor=name)
    return Coded(kind.name, parse_shape(shape, kind.itemsize, name))


def with_flags(name: str, record: Record, fields: Mapping[str, object]) -> Record:
    """A record with the flags that its JSON has."""
    granularity, dynamic = fields.get("granularity", record.granularity), fields.get("dynamic", False)
    if not isinstance(granularity, str) or granularity not in tuple(Granularity) or type(dynamic) is not bool:
        raise CorruptArtifactError(
            f"granularity and dynamic must be known, not {brief(granularity)}, {brief(dynamic)}", tensor=name
        )
    return record._replace(granularity=Granularity(granularity), dynamic=dynamic)


def parse_object(value: object, what: str, tensor: str | None = None) -> dict[str, object]:
    """What must be a JSON object."""
    if not isinstance(value, dict):
        raise CorruptArtifactError(f"{what} must be a JSON object, not {type(value).__name__}", tensor=tensor)
    return value


def whole(value: object, what: str, most: int, tensor: str | None = None) -> int:
    """What must be a whole number from 0 to `most`."""
    if type(value) is not int or not 0 <= value <= most:
        raise CorruptArtifactError(f"{what} must be a whole number from 0 to {most}, not {brief(value)}", tensor=tensor)
    return value


def _digest(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise CorruptArtifactError(f"{what} must be 64 lower-case hexadecimal digits, not {brief(value)}")
    return value


def _reserved(value: object, stem: str) -> str:
    if not isinstance(value, str) or value.rstrip("_") != stem:
        raise CorruptArtifactError(f"reserved name must be {stem!r}, with _ after it at most, not {brief(value)}")
    return value


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorruptArtifactError(f"manifest must be Unicode text without lone surrogates: {error}") from None
