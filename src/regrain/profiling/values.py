"""What the words of each element type mean: their values, their exponents, how many mantissa bits they have."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from regrain.core.dtypes import DTYPES, Words, numpy_dtype

Values = NDArray[np.float32] | NDArray[np.float64]

MANTISSA_BITS = {
    "BF16": 7,
    "F16": 10,
    "F32": 23,
    "F64": 52,
    "F8_E4M3": 3,
    "F8_E5M2": 2,
    "F8_E4M3FNUZ": 3,
    "F8_E5M2FNUZ": 2,
}
"""Of the types that are sign, exponent, mantissa."""

INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL"})


def values(words: Words, dtype: str) -> Values:
    """The numbers that `words` hold: float32 where that is exact for every value of the type, else float64."""
    if dtype == "F32":
        return words.view(np.float32)
    if dtype == "F64":
        return words.view(np.float64)
    if dtype == "F16":
        return words.view(np.float16).astype(np.float32)
    if dtype == "BF16":
        return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype in MANTISSA_BITS:
        return _table(dtype)[words]
    return words.view(numpy_dtype(dtype)).astype(np.float64)


def exponents(words: Words, dtype: str) -> Words:
    """The exponent field of each word, as unsigned integers of any width."""
    mantissa = MANTISSA_BITS[dtype]
    field = words >> words.dtype.type(mantissa)
    field &= field.dtype.type((1 << (DTYPES[dtype].bits - 1 - mantissa)) - 1)
    return field


@cache
def _table(dtype: str) -> NDArray[np.float32]:
    """The value of each of the 256 words of an 8-bit float."""
    return np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float32)
