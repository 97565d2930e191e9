"""The index of a packed artifact: a record for each tensor of the original, in its order (docs/format.md, 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from reprlib import repr as brief  # of what is not trusted to be short

from regrain.artifact.header import MAX_BYTES, Entry, Header, canonical_json, parse_json
from regrain.artifact.manifest import (
    DATA_NAME,
    HEADER_NAME,
    INDEX_NAME,
    RECEIPT_NAME,
    Coded,
    Gridded,
    Kept,
    Pruned,
    Record,
    Tied,
    record_json,
)
from regrain.artifact.manifest_reader import CODABLE, FLAGS, U32, parse_object, whole, with_flags
from regrain.codecs.front import DTYPES
from regrain.codecs.numbers import MOST_PACKED
from regrain.codecs.pay import most_words
from regrain.codecs.quantized import matrix_shape
from regrain.core.descriptor import Coder, Quantizer, pattern_of
from regrain.core.errors import CorruptArtifactError

_CODED, _GRIDDED = frozenset({"coder", "bytes"}), frozenset({"coder", "bytes", "cell"})
_PRUNED = frozenset({"coder", "bytes", "unit", "kept"})
_KEPT, _TIED = frozenset({"coder", "crc"}), frozenset({"tied"})
_CHANGED = "changed"


def index_text(records: Iterable[tuple[Record, int]]) -> bytes:
    """The canonical JSON of an index: records, each with the bytes of its body."""
    return canonical_json([_record_json(record, size) for record, size in records])


def check_packed(header: Header) -> None:
    """Raise CorruptArtifactError unless an artifact has the entries of a packed one and no more."""
    entries, wanted = header.entries, {DATA_NAME, HEADER_NAME, INDEX_NAME, RECEIPT_NAME}
    if entries.keys() != wanted:
        raise CorruptArtifactError(f"entries must be {sorted(wanted)}, not {brief(sorted(entries))}")
    for name, entry in entries.items():
        if entry.dtype != "U8" or len(entry.shape) != 1:
            raise CorruptArtifactError("payload must be one axis of U8", tensor=name)


def parse_index(text: bytes, original: Header, data: Entry) -> tuple[dict[str, Record], dict[str, Entry]]:
    """The record and the place of each tensor, sorted by name: bodies follow each other and fill `data`.

    Raises CorruptArtifactError for an index that does not fit the original's header, or bodies too short for what they
    are to hold.
    """
    values = parse_json(text, "index")
    if not isinstance(values, list) or len(values) != len(original.entries):
        raise CorruptArtifactError(f"index must be a list of {len(original.entries)} records, not {brief(values)}")
    records: dict[str, Record] = {}
    places: dict[str, Entry] = {}
    at = data.start
    for (name, entry), value in zip(original.entries.items(), values, strict=True):
        records[name], size = _parse_record(name, entry, value)
        places[name] = Entry(entry.dtype, entry.shape, at, at + size)
        at += size
    if at != data.stop:
        raise CorruptArtifactError(f"bodies must have {data.nbytes} bytes together, not {at - data.start}")
    for name, record in records.items():
        if isinstance(record, Tied):
            places[name] = places[_tied_to(name, record, records, original)]
    return dict(sorted(records.items())), dict(sorted(places.items()))


def _tied_to(name: str, record: Tied, records: Mapping[str, Record], original: Header) -> str:
    if record.to not in records or isinstance(records[record.to], Tied):
        raise CorruptArtifactError(f"tied must name a tensor with bytes, not {brief(record.to)}", tensor=name)
    mine, other = original.entries[name], original.entries[record.to]
    if mine[:2] != other[:2]:
        raise CorruptArtifactError(f"tied must name a tensor of {mine[:2]}, not {other[:2]}", tensor=name)
    return record.to


def _record_json(record: Record, size: int) -> dict[str, object]:
    value: dict[str, object] = {"coder": str(Coder.RANS), "bytes": size}
    if isinstance(record, Gridded):
        value["cell"] = list(record.cell)
    elif isinstance(record, Pruned):
        value |= {"unit": list(record.unit), "kept": record.kept}
        if record.cell is not None:
            value["cell"] = list(record.cell)
    elif not isinstance(record, Coded):
        value = record_json(record)
    if isinstance(record, Coded | Kept) and record.changed:
        value[_CHANGED] = True
    if record.dynamic:
        value["dynamic"] = True
    return value


def _parse_record(name: str, entry: Entry, value: object) -> tuple[Record, int]:
    fields = dict(parse_object(value, "tensor's record", name))
    changed = fields.pop(_CHANGED, False)
    keys = fields.keys() - FLAGS
    record: Record
    size = 0
    if keys == _CODED and fields["coder"] == Coder.RANS:
        size = whole(fields["bytes"], "bytes", MAX_BYTES, name)
        record = _coded(name, entry, size)
    elif keys == _GRIDDED and fields["coder"] == Coder.RANS:
        size = whole(fields["bytes"], "bytes", MAX_BYTES, name)
        record = _gridded(name, entry, size, fields["cell"])
    elif keys - {"cell"} == _PRUNED and fields["coder"] == Coder.RANS:
        size = whole(fields["bytes"], "bytes", MAX_BYTES, name)
        record = _pruned(name, entry, size, fields)
    elif keys == _KEPT and fields["coder"] == Coder.RAW:
        record, size = Kept(whole(fields["crc"], "crc", U32, name)), entry.nbytes
    elif keys == _TIED and isinstance(to := fields["tied"], str):
        record = Tied(to)
    else:
        raise CorruptArtifactError(
            f"record must be that of coder {Coder.RANS} or {Coder.RAW} or of a tied tensor, not {brief(fields)}",
            tensor=name,
        )
    if changed is not False:
        if changed is not True or not isinstance(record, Coded | Kept):
            raise CorruptArtifactError(
                f"changed must be true, of a tensor neither quantized nor pruned, not {brief(changed)}", tensor=name
            )
        record = record._replace(changed=True)
    return record if len(keys) == len(fields) else with_flags(name, record, fields), size


def _coded(name: str, entry: Entry, size: int) -> Coded:
    if entry.dtype not in CODABLE:
        raise CorruptArtifactError(f"coder of {entry.dtype} must be {Coder.RAW}, not {Coder.RANS}", tensor=name)
    _check_count(name, entry, most_words(size), size)
    return Coded(entry.dtype, entry.shape)


def _gridded(name: str, entry: Entry, size: int, cell: object) -> Gridded:
    _check_weights(name, entry, size, "quantized")
    rows, columns = matrix_shape(entry.shape)
    found = _sides(name, "cell", cell, rows, columns)
    return Gridded(entry.dtype, entry.shape, found, Quantizer.of(found, rows, columns).granularity)


def _pruned(name: str, entry: Entry, size: int, fields: Mapping[str, object]) -> Pruned:
    _check_weights(name, entry, size, "pruned")
    rows, columns = matrix_shape(entry.shape)
    unit = _sides(name, "unit", fields["unit"], rows, columns)
    kept = whole(fields["kept"], "kept", rows * columns, name)
    cell = _sides(name, "cell", fields["cell"], rows, columns) if "cell" in fields else None
    return Pruned(entry.dtype, entry.shape, unit, kept, cell, pattern_of(unit, entry.shape)[1])


def _check_weights(name: str, entry: Entry, size: int, what: str) -> None:
    if entry.dtype not in DTYPES:
        raise CorruptArtifactError(f"a {what} tensor must be {', '.join(DTYPES)}, not {entry.dtype}", tensor=name)
    _check_count(name, entry, max(most_words(size), MOST_PACKED), size)


def _sides(name: str, what: str, sides: object, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a part of a matrix."""
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(side) is int for side in sides):
        raise CorruptArtifactError(f"{what} must be two whole numbers, not {brief(sides)}", tensor=name)
    down, across = sides
    if not (1 <= down <= rows and 1 <= across <= columns):
        raise CorruptArtifactError(
            f"{what} must be within the {rows} x {columns} matrix, not {brief(sides)}", tensor=name
        )
    return down, across


def _check_count(name: str, entry: Entry, most: int, size: int) -> None:
    if math.prod(entry.shape) > most:  # before anyone allocates that much
        raise CorruptArtifactError(
            f"payload of shape {list(entry.shape)} must be longer than {size} bytes", tensor=name
        )
