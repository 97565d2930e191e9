"""The closed table of codecs: one for each element type. A new codec is one file and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regrain.codecs.floats import FloatPlanes
from regrain.codecs.integers import IntegerPlanes
from regrain.codecs.protocol import Codec
from regrain.codecs.raw import Raw
from regrain.core.descriptor import Coder
from regrain.core.dtypes import DTYPES

__all__ = ["CODECS", "Codec", "Coder", "FloatPlanes", "IntegerPlanes", "Raw"]

_CODED: dict[str, Codec] = {
    "BF16": FloatPlanes(word_bytes=2, mantissa_bits=7),
    "F16": FloatPlanes(word_bytes=2, mantissa_bits=10),
    "F32": FloatPlanes(word_bytes=4, mantissa_bits=23),
    "F8_E4M3": FloatPlanes(word_bytes=1, mantissa_bits=3),
    "F8_E5M2": FloatPlanes(word_bytes=1, mantissa_bits=2),
    "I8": IntegerPlanes(word_bytes=1),
    "U8": IntegerPlanes(word_bytes=1),
    "I16": IntegerPlanes(word_bytes=2),
    "U16": IntegerPlanes(word_bytes=2),
    "I32": IntegerPlanes(word_bytes=4),
    "U32": IntegerPlanes(word_bytes=4),
    "I64": IntegerPlanes(word_bytes=8),
    "U64": IntegerPlanes(word_bytes=8),
}
CODECS: Mapping[str, Codec] = MappingProxyType(
    {name: _CODED.get(name, Raw(word_bytes=dtype.itemsize)) for name, dtype in DTYPES.items()}
)
"""The codec of every element type that a safetensors header may name."""
