"""The header of a safetensors file: a strict parser, and a builder. Knows nothing of coding.

A file is the length N of the header (8 bytes, little-endian), N bytes of JSON, then the data. Offsets count bytes
from the start of the data. https://huggingface.co/docs/safetensors describes the format; this parser takes what
the safetensors library takes, but for repeated names and unknown fields, which it refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from reprlib import repr as brief  # of what is not trusted to be short
from typing import Any, NamedTuple, NoReturn

from regrain.core.dtypes import BITS, DTYPES
from regrain.core.errors import CorruptArtifactError

METADATA = "__metadata__"
MAX_HEADER = 100_000_000
"""Bytes of JSON that a header may have: the safetensors library's own limit."""

_MAX_AXES = 64  # NumPy's limit
MAX_BYTES = 2**63 - 1

_FIELDS = {"dtype", "shape", "data_offsets"}


class Entry(NamedTuple):
    """One tensor of a container: its bytes are start..stop of the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.stop - self.start

    def to_json(self) -> dict[str, object]:
        """The entry as a header has it."""
        return {"dtype": self.dtype, "shape": list(self.shape), "data_offsets": [self.start, self.stop]}


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header. `text` is its JSON verbatim, padding included; `entries` stand in the order of their bytes."""

    text: bytes
    metadata: dict[str, str] | None
    entries: dict[str, Entry]

    @property
    def data_start(self) -> int:
        """Bytes of the file before the data."""
        return 8 + len(self.text)

    @property
    def data_bytes(self) -> int:
        """Bytes of the data: the entries cover it."""
        return max((entry.stop for entry in self.entries.values()), default=0)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file."""
        return self.data_start + self.data_bytes


ODD = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""What taking JSON for granted may raise where it is not as expected."""

PAIRS = json.JSONDecoder(object_pairs_hook=tuple)
"""Parses objects as tuples of (key, value), arrays as lists. No pair is lost, so repeated keys can still be seen."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def parse_json(text: bytes, what: str) -> object:
    """Parse UTF-8 JSON. Repeated keys, NaN, nesting beyond the interpreter's limit and huge numbers are errors."""
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise CorruptArtifactError(f"{what} must be nested less deeply") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CorruptArtifactError(f"{what} must be UTF-8 JSON with unique keys: {error}") from None


def unique(pairs: Any) -> dict[str, Any]:
    """The dictionary of an object that PAIRS gave. Raises one of ODD for a repeated key or what is no object."""
    found = dict(pairs)
    if type(pairs) is not tuple or len(found) != len(pairs):
        raise ValueError
    return found


def check_types(values: Iterable[object], kind: type) -> None:
    """Raise one of ODD unless all are of exactly that type."""
    if not set(map(type, values)) <= {kind}:
        raise TypeError


def check_lists(lists: list[Any]) -> None:
    """Raise one of ODD unless all are lists of whole numbers from 0 on, none longer than a shape may be."""
    check_types(lists, list)
    numbers = list(chain.from_iterable(lists))
    check_types(numbers, int)
    if min(numbers, default=0) < 0 or max(map(len, lists), default=0) > _MAX_AXES:
        raise ValueError


def canonical_json(value: object) -> bytes:
    """The one text of a JSON value: sorted keys, no blanks, ASCII."""
    return _CANONICAL.encode(value).encode("ascii")


def compact_json(value: object) -> bytes:
    """JSON as headers have it: keys in the order given, no blanks, UTF-8."""
    return _COMPACT.encode(value).encode("utf-8")


def parse_header(text: bytes, data_bytes: int) -> Header:
    """Parse the JSON of a header whose file has `data_bytes` after it.

    Raises CorruptArtifactError unless the entries cover the data without a gap or an overlap and each has the bytes
    that its shape and dtype need.
    """
    try:
        return _parse_usual(text, data_bytes)
    except ODD:
        return _parse_any(text, data_bytes)


def _parse_usual(text: bytes, data_bytes: int) -> Header:
    """What `_parse_any` gives, in half the time, for a header as the safetensors library and regrain write it.

    That is: the metadata first, the entries in the order of their bytes, the fields of each in the usual order. For
    any other header, a wrong one included, it raises one of ODD.
    """
    pairs = PAIRS.decode(text.decode("utf-8"))
    if type(pairs) is not tuple:
        raise TypeError
    metadata = None
    if pairs and pairs[0][0] == METADATA:
        metadata, pairs = _metadata(unique(pairs[0][1])), pairs[1:]
    check_types([fields for _, fields in pairs], tuple)
    check_lists([fields[1][1] for _, fields in pairs])
    check_lists([fields[2][1] for _, fields in pairs])
    entries: dict[str, Entry] = {}
    end, new, product = 0, tuple.__new__, math.prod
    for name, ((first, dtype), (second, shape), (third, (start, stop))) in pairs:
        if (
            first != "dtype"
            or second != "shape"
            or third != "data_offsets"
            or start != end
            or product(shape) * BITS[dtype] != 8 * (stop - start)
        ):
            raise ValueError
        if start == stop:  # no bytes, however large the other sizes are
            parse_shape(shape, DTYPES[dtype].itemsize, name)
        entries[name] = new(Entry, (dtype, tuple(shape), start, stop))
        end = stop
    "".join(entries).encode("utf-8")
    if len(entries) != len(pairs) or METADATA in entries or end != data_bytes:
        raise ValueError
    return Header(text, metadata, entries)


def _parse_any(text: bytes, data_bytes: int) -> Header:
    """Every sound header, or the reason why a header is not."""
    document = parse_json(text, "header")
    if not isinstance(document, dict):
        raise CorruptArtifactError(f"header must be a JSON object, not {type(document).__name__}")
    metadata = _metadata(document.pop(METADATA, None))
    found = {name: _entry(name, value) for name, value in document.items()}
    entries = dict(sorted(found.items(), key=lambda item: item[1][2:]))
    end = 0
    for name, entry in entries.items():
        if entry.start != end:
            raise CorruptArtifactError(f"data_offsets must start at {end}, not {entry.start}", tensor=name)
        end = entry.stop
    if end != data_bytes:
        raise CorruptArtifactError(f"data must have {end} bytes as the header says, not {data_bytes}")
    return Header(text, metadata, entries)


def header_text(entries: Mapping[str, Entry], metadata: Mapping[str, str] | None, capacity: int = 0) -> bytes:
    """The JSON of a header, entries in the order given, padded with blanks to `capacity` or a multiple of 8."""
    document: dict[str, object] = {} if metadata is None else {METADATA: dict(metadata)}
    document.update((name, entry.to_json()) for name, entry in entries.items())
    text = compact_json(document)
    return text.ljust(max(capacity, -(-len(text) // 8) * 8))


def file_head(text: bytes) -> bytes:
    """The first bytes of a file with that header: its length and its text."""
    return len(text).to_bytes(8, "little") + text


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise CorruptArtifactError(f"{METADATA} must map strings to strings")
    return value


def _entry(name: str, value: object) -> Entry:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise CorruptArtifactError("header entry must have exactly dtype, shape and data_offsets", tensor=name)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None:
        raise CorruptArtifactError(f"dtype must be one of {', '.join(DTYPES)}, not {brief(dtype)}", tensor=name)
    dims = parse_shape(shape, kind.itemsize, name)
    if not isinstance(offsets, list) or len(offsets) != 2 or type(offsets[0]) is not int or type(offsets[1]) is not int:
        raise CorruptArtifactError("data_offsets must be two whole numbers", tensor=name)
    start, stop = offsets
    if not 0 <= start <= stop <= MAX_BYTES:
        raise CorruptArtifactError(
            f"data_offsets must ascend within a file, not {brief(start)}, {brief(stop)}", tensor=name
        )
    nbytes = kind.nbytes(dims)
    if nbytes != stop - start:
        needed = "whole bytes" if nbytes is None else f"{brief(nbytes)} bytes"
        reason = f"{dtype} of shape {brief(list(dims))} must have {needed}, not {stop - start}"
        raise CorruptArtifactError(reason, tensor=name)
    if not _encodable(name):
        raise CorruptArtifactError("tensor name must be Unicode text without lone surrogates", tensor=name)
    return Entry(kind.name, dims, start, stop)


def parse_shape(value: object, itemsize: int, name: str) -> tuple[int, ...]:
    """A shape that an array can have: at most 64 axes, and zero axes apart at most 2^63 - 1 bytes."""
    if not isinstance(value, list) or not all(type(dim) is int for dim in value):
        raise CorruptArtifactError("shape must be a list of whole numbers", tensor=name)
    if len(value) > _MAX_AXES:
        raise CorruptArtifactError(f"shape must have at most {_MAX_AXES} axes, not {len(value)}", tensor=name)
    if min(value, default=0) < 0 or math.prod(dim or 1 for dim in value) * itemsize > MAX_BYTES:
        reason = f"shape must have sizes from 0 and fewer than 2^63 bytes, not {brief(value)}"
        raise CorruptArtifactError(reason, tensor=name)
    return tuple(value)


def _encodable(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        again = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise ValueError(f"key {brief(again)} stands twice")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
