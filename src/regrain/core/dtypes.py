"""The closed list of element types, by the names that a safetensors header gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import UnsupportedModelError

Words = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64]
"""Elements as unsigned integers of 1, 2, 4 or 8 bytes, little-endian, one dimension."""

Bytes = NDArray[np.uint8]
"""Bytes, one dimension."""


@dataclass(frozen=True, slots=True)
class DType:
    """One element type.

    `bits` of one element; types under 8 bits are packed without gaps. `floating` says whether the elements count
    as weights in "bits per weight". `numpy` is the name of the NumPy (or ml_dtypes) type with the same bytes, None
    where there is none.
    """

    name: str
    bits: int
    floating: bool
    numpy: str | None

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 1 for packed types, whose bytes are what can be addressed."""
        return max(1, self.bits // 8)

    def nbytes(self, shape: Sequence[int]) -> int | None:
        """Bytes of a dense tensor of that shape, None if its bits do not fill whole bytes."""
        bits = math.prod(shape) * self.bits
        return None if bits % 8 else bits // 8


_DTYPES = (
    DType("BF16", 16, True, "bfloat16"),
    DType("F16", 16, True, "float16"),
    DType("F32", 32, True, "float32"),
    DType("F64", 64, True, "float64"),
    DType("F8_E4M3", 8, True, "float8_e4m3fn"),
    DType("F8_E5M2", 8, True, "float8_e5m2"),
    DType("F8_E4M3FNUZ", 8, True, "float8_e4m3fnuz"),
    DType("F8_E5M2FNUZ", 8, True, "float8_e5m2fnuz"),
    DType("F8_E8M0", 8, True, "float8_e8m0fnu"),
    DType("F6_E2M3", 6, True, None),
    DType("F6_E3M2", 6, True, None),
    DType("F4", 4, True, None),
    DType("C64", 64, True, "complex64"),
    DType("I8", 8, False, "int8"),
    DType("U8", 8, False, "uint8"),
    DType("I16", 16, False, "int16"),
    DType("U16", 16, False, "uint16"),
    DType("I32", 32, False, "int32"),
    DType("U32", 32, False, "uint32"),
    DType("I64", 64, False, "int64"),
    DType("U64", 64, False, "uint64"),
    DType("BOOL", 8, False, "bool"),
)
DTYPES: Mapping[str, DType] = MappingProxyType({dtype.name: dtype for dtype in _DTYPES})
BITS: Mapping[str, int] = {dtype.name: dtype.bits for dtype in _DTYPES}
"""Bits of one element of each type."""

_FROM_NUMPY = {dtype.numpy: dtype for dtype in _DTYPES if dtype.numpy is not None}
_WORDS: dict[int, np.dtype[np.unsignedinteger[Any]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}


def word_dtype(dtype: DType) -> np.dtype[np.unsignedinteger[Any]]:
    """The unsigned integer as wide as one element (one byte for packed types)."""
    return _WORDS[dtype.itemsize]


@cache
def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The NumPy type of a safetensors dtype; ml_dtypes, imported on first need, has those NumPy lacks.

    Raises UnsupportedModelError for packed types, which have no array type of the same bytes.
    """
    found = DTYPES[name].numpy
    if found is None:
        raise UnsupportedModelError(
            f"dtype must be one that NumPy can hold, not {name!r}: open the file with regrain.torch"
        )
    if found.startswith(("bfloat", "float8")):
        import ml_dtypes

        found = getattr(ml_dtypes, found)
    dtype: np.dtype[np.generic] = np.dtype(found)
    return dtype


def from_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The element type of a NumPy array. Raises UnsupportedModelError if a safetensors file cannot say it."""
    found = _FROM_NUMPY.get(dtype.name)
    if found is None:
        raise UnsupportedModelError(
            f"dtype must be one of {', '.join(sorted(_FROM_NUMPY))}, not {dtype.name!r}: cast it"
        )
    return found
