"""The manifest: the JSON text under the one metadata key of an artifact, parsed strictly (docs/format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as brief  # of what is not trusted to be short
from typing import NamedTuple

from regrain.artifact.container import Entry, Header, canonical_json, parse_json, parse_shape
from regrain.core.descriptor import Coder
from regrain.core.dtypes import DTYPES
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError
from regrain.core.granularity import Granularity
from regrain.kernels import crc32c

KEY = "regrain"
FORMAT = 1
READER = 1
"""The version of this reader: an artifact names the oldest one that understands it."""

SUFFIX = ".regrain"
HEADER_NAME = "regrain.header"
RECEIPT_NAME = "regrain.receipt"

_FIELDS = frozenset({"crc", "format", "header", "model", "reader", "receipt", "tensors"})
_FLAGS = frozenset({"granularity", "dynamic"})
_CODED, _KEPT, _TIED = frozenset({"coder", "dtype", "shape"}), frozenset({"coder", "crc"}), frozenset({"tied"})
_U32 = 2**32 - 1


class Coded(NamedTuple):
    """A tensor whose payload is the entry NAME + suffix. `dtype` and `shape` are the original's."""

    dtype: str
    shape: tuple[int, ...]
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False


class Kept(NamedTuple):
    """A tensor kept as the entry NAME. `crc` is the CRC-32C of le32(crc32c(name)), le32(0) and its bytes."""

    crc: int
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False


class Tied(NamedTuple):
    """A tensor with the dtype, the shape and the bytes of tensor `to`, which is not tied itself."""

    to: str
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False


Record = Coded | Kept | Tied


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself. `model_bytes` and `model_sha256` are those of the original file."""

    tensors: dict[str, Record]
    model_bytes: int
    model_sha256: str
    suffix: str = SUFFIX
    header: str = HEADER_NAME
    receipt: str = RECEIPT_NAME

    def entry_name(self, name: str) -> str | None:
        """The name of the entry that holds a tensor's bytes; None for a tied one."""
        record = self.tensors[name]
        if isinstance(record, Tied):
            return None
        return name + self.suffix if isinstance(record, Coded) else name


def manifest_crc(entries: Mapping[str, Entry], document: Mapping[str, object]) -> int:
    """The manifest's CRC-32C: over the header's entries and the manifest without its own "crc"."""
    plain = {name: entry.to_json() for name, entry in entries.items()}
    return crc32c(canonical_json([plain, {key: value for key, value in document.items() if key != "crc"}]))


def manifest_text(manifest: Manifest, entries: Mapping[str, Entry]) -> str:
    """The canonical JSON of a manifest, with its checksum."""
    document: dict[str, object] = {
        "format": FORMAT,
        "header": manifest.header,
        "model": {"bytes": manifest.model_bytes, "sha256": manifest.model_sha256},
        "reader": READER,
        "receipt": manifest.receipt,
        "tensors": {name: record_json(record) for name, record in manifest.tensors.items()},
    }
    if manifest.suffix != SUFFIX:
        document["suffix"] = manifest.suffix
    document["crc"] = manifest_crc(entries, document)
    return canonical_json(document).decode("ascii")


def record_json(record: Record) -> dict[str, object]:
    """One tensor's part of the manifest; flags at their defaults are left out."""
    value: dict[str, object]
    if isinstance(record, Tied):
        value = {"tied": record.to}
    elif isinstance(record, Kept):
        value = {"coder": str(Coder.RAW), "crc": record.crc}
    else:
        value = {"coder": str(Coder.RANS), "dtype": record.dtype, "shape": list(record.shape)}
    if record.granularity is not Granularity.FINE:
        value["granularity"] = str(record.granularity)
    if record.dynamic:
        value["dynamic"] = True
    return value


def is_artifact(header: Header) -> bool:
    """True for the header of an artifact, one whose metadata key is damaged included."""
    if header.metadata is not None and KEY in header.metadata:
        return True
    stems = {
        name.rstrip("_") for name, entry in header.entries.items() if entry.dtype == "U8" and len(entry.shape) == 1
    }
    return {HEADER_NAME, RECEIPT_NAME} <= stems


def parse_manifest(header: Header) -> Manifest:
    """The manifest of an artifact's header, after its checksum and before anything else of the file is believed.

    Raises UnsupportedArtifactError if a newer reader is needed, CorruptArtifactError for everything that is wrong.
    """
    metadata = header.metadata or {}
    if metadata.keys() != {KEY}:
        raise CorruptArtifactError(f"metadata must have the one key {KEY!r}, not {brief(sorted(metadata))}")
    document = _object(parse_json(_encode(metadata[KEY]), "manifest"), "manifest")
    crc, wanted = _whole(document.get("crc"), "crc", _U32), _wanted_crc(header, document)
    if crc != wanted:
        raise CorruptArtifactError(f"manifest checksum must be {crc:08x}, not {wanted:08x}")
    reader = _whole(document.get("reader"), "reader", _U32)
    if reader > READER:
        raise UnsupportedArtifactError(f"artifact needs reader version {reader}, this one is {READER}: upgrade regrain")
    if document.keys() - {"suffix"} != _FIELDS:
        odd = sorted(document.keys() ^ _FIELDS)
        raise CorruptArtifactError(f"manifest must have exactly the fields {sorted(_FIELDS)}; wrong: {brief(odd)}")
    if document["format"] != FORMAT or type(document["format"]) is not int:
        raise CorruptArtifactError(f"format must be {FORMAT}, not {brief(document['format'])}")
    model = _object(document["model"], "model")
    if model.keys() != {"bytes", "sha256"}:
        raise CorruptArtifactError(f"model must have exactly bytes and sha256, not {brief(sorted(model))}")
    tensors = _object(document["tensors"], "tensors")
    manifest = Manifest(
        tensors={name: _record(name, value) for name, value in tensors.items()},
        model_bytes=_whole(model["bytes"], "model bytes", 2**63 - 1),
        model_sha256=_digest(model["sha256"]),
        suffix=_reserved(document.get("suffix", SUFFIX), SUFFIX),
        header=_reserved(document["header"], HEADER_NAME),
        receipt=_reserved(document["receipt"], RECEIPT_NAME),
    )
    _check_names(manifest, header)
    return manifest


def _wanted_crc(header: Header, document: Mapping[str, object]) -> int:
    try:
        return manifest_crc(header.entries, document)
    except RecursionError:  # what could just be parsed may be too deep to be written again
        raise CorruptArtifactError("manifest must be nested less deeply") from None


def _check_names(manifest: Manifest, header: Header) -> None:
    """Every entry belongs to exactly one tensor, or is the header or the receipt; every tie ends at bytes."""
    wanted = {manifest.header, manifest.receipt}
    for name, record in manifest.tensors.items():
        if name.endswith(manifest.suffix) or name in (manifest.header, manifest.receipt):
            raise CorruptArtifactError("tensor must not have a name that the format reserves", tensor=name)
        if isinstance(record, Tied):
            target = manifest.tensors.get(record.to)
            if target is None or isinstance(target, Tied):
                raise CorruptArtifactError(f"tied must name a tensor with bytes, not {brief(record.to)}", tensor=name)
            continue
        entry_name = name + manifest.suffix if isinstance(record, Coded) else name
        wanted.add(entry_name)
        entry = header.entries.get(entry_name)
        if entry is None:
            raise CorruptArtifactError(f"payload {entry_name!r} must be in the header", tensor=name)
        if isinstance(record, Coded):
            _check_payload(name, entry)
    for name in (manifest.header, manifest.receipt):
        _check_payload(name, header.entries.get(name))
    if wanted != header.entries.keys():
        raise CorruptArtifactError(
            f"header must have no entry {min(header.entries.keys() - wanted)!r}: no tensor owns it"
        )


def _check_payload(name: str, entry: Entry | None) -> None:
    if entry is None or entry.dtype != "U8" or len(entry.shape) != 1:
        raise CorruptArtifactError("payload must be one axis of U8", tensor=name)


def _record(name: str, value: object) -> Record:
    fields = _object(value, "tensor's record", name)
    keys = fields.keys() if _FLAGS.isdisjoint(fields) else fields.keys() - _FLAGS
    record: Record
    if keys == _CODED and fields["coder"] == Coder.RANS:
        record = _coded(name, fields["dtype"], fields["shape"])
    elif keys == _KEPT and fields["coder"] == Coder.RAW:
        record = Kept(_whole(fields["crc"], "crc", _U32, name))
    elif keys == _TIED and isinstance(to := fields["tied"], str):
        record = Tied(to)
    else:
        raise CorruptArtifactError(
            f"record must be that of coder {Coder.RANS} or {Coder.RAW} or of a tied tensor, not {brief(fields)}",
            tensor=name,
        )
    return record if len(keys) == len(fields) else _with_flags(name, record, fields)


def _coded(name: str, dtype: object, shape: object) -> Coded:
    kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None:
        raise CorruptArtifactError(f"dtype must be one of {', '.join(DTYPES)}, not {brief(dtype)}", tensor=name)
    return Coded(kind.name, parse_shape(shape, kind.itemsize, name))


def _with_flags(name: str, record: Record, fields: Mapping[str, object]) -> Record:
    granularity, dynamic = fields.get("granularity", Granularity.FINE), fields.get("dynamic", False)
    if not isinstance(granularity, str) or granularity not in tuple(Granularity) or type(dynamic) is not bool:
        raise CorruptArtifactError(
            f"granularity and dynamic must be known, not {brief(granularity)}, {brief(dynamic)}", tensor=name
        )
    return record._replace(granularity=Granularity(granularity), dynamic=dynamic)


def _object(value: object, what: str, tensor: str | None = None) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CorruptArtifactError(f"{what} must be a JSON object, not {type(value).__name__}", tensor=tensor)
    return value


def _whole(value: object, what: str, most: int, tensor: str | None = None) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise CorruptArtifactError(f"{what} must be a whole number from 0 to {most}, not {brief(value)}", tensor=tensor)
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise CorruptArtifactError(f"model sha256 must be 64 lower-case hexadecimal digits, not {brief(value)}")
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
