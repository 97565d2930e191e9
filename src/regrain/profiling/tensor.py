"""Profile one tensor in two passes over its words, a piece at a time: memory does not grow with the tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.codecs import CODECS, Coder
from regrain.codecs.pay import MARGIN
from regrain.core.dtypes import Words
from regrain.core.profile import TensorProfile
from regrain.profiling.entropy import entropy
from regrain.profiling.indices import IndexHistogram, relative
from regrain.profiling.moments import Moments, Tails
from regrain.profiling.pieces import Piece, matrix_shape, pieces
from regrain.profiling.prediction import FloatPrediction, IntegerPrediction
from regrain.profiling.sparsity import ZeroCount
from regrain.profiling.values import INTEGERS, MANTISSA_BITS, Values, exponents, values

DEFAULT_BLOCK = (16, 1)
"""Rows x columns: one input channel of 16 outputs, the shape that the sparse kernels take."""


def profile_tensor(
    name: str, dtype: str, shape: Sequence[int], words: Words, block: tuple[int, int] = DEFAULT_BLOCK
) -> TensorProfile:
    """Statistics of the tensor whose elements are `words`, one dimension, of its dtype's word size.

    `block`: rows x columns of the blocks whose zeros are counted. Types that are neither integers nor sign, exponent
    and mantissa (complex, packed below 8 bits, bare exponents) get sizes only.
    """
    shape, count = tuple(shape), math.prod(shape)
    if count == 0 or (dtype not in MANTISSA_BITS and dtype not in INTEGERS):
        return _sizes_only(name, dtype, shape, words.nbytes)
    tensor = _Tensor(dtype, shape, words, block)
    first = _FirstPass(tensor)
    second = _SecondPass(tensor, first)
    rows, _ = matrix_shape(shape)
    zeros, moments, floats = first.zeros, first.moments, first.floats
    low = (None, None) if floats is None else floats.low_zeros()
    matrix, some = len(shape) > 1, moments.count > 0
    payload = None
    if floats is not None:
        payload = floats.payload_bytes()
    elif second.integers is not None:
        payload = second.integers.payload_bytes()
    return TensorProfile(
        name=name,
        dtype=dtype,
        shape=shape,
        count=count,
        bytes=words.nbytes,
        exponent_entropy=None if floats is None else entropy(floats.histogram),
        int8_entropy=None if floats is None else entropy(second.int8.counts),
        int4_entropy=None if floats is None else entropy(second.int4.counts),
        sparsity=zeros.zeros / count,
        zero_blocks=zeros.zero_blocks / zeros.blocks if matrix else None,
        zero_rows=zeros.zero_rows / rows if matrix else None,
        zero_columns=zeros.zero_channels(shape) / shape[1] if matrix else None,
        dynamic_range=math.log2(first.absmax) - math.log2(first.absmin) if first.absmax else None,
        absmax=first.absmax if some else None,
        mean=_finite(moments.mean) if some else None,
        std=_finite(moments.std) if some else None,
        outliers=second.tails.outliers / count,
        peak=second.tails.peak,
        kurtosis=second.tails.kurtosis,
        nans=first.nans,
        infinities=first.infinities,
        low_zero_bits=low[0],
        row_low_zero_bits=low[1],
        predicted_bytes=_cheaper(dtype, words.nbytes, payload),
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    words: Words
    block: tuple[int, int]

    @property
    def is_float(self) -> bool:
        return self.dtype in MANTISSA_BITS

    def pieces(self) -> Iterator[_Loaded]:
        """The tensor as a matrix, piece by piece in the order of its words."""
        rows, columns = matrix_shape(self.shape)
        for place in pieces(rows, columns, self.block[1]):
            words = self.words[place.first : place.first + place.rows * place.columns]
            words = words.reshape(place.rows, place.columns)
            weights = values(words, self.dtype)
            finite = np.isfinite(weights) if self.is_float else None
            yield _Loaded(place, words, weights, None if finite is None or finite.all() else finite)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One piece: its words and values, (rows, columns). `present` marks finite values, None if all are."""

    place: Piece
    words: Words
    weights: Values
    present: NDArray[np.bool_] | None

    @property
    def rows(self) -> slice:
        return slice(self.place.row, self.place.row + self.place.rows)

    def finite(self) -> Values:
        """The finite values, any shape."""
        return self.weights if self.present is None else self.weights[self.present]

    def filled(self) -> Values:
        """(rows, columns), 0 where a value is not finite."""
        return self.weights if self.present is None else np.where(self.present, self.weights, np.float32(0))


class _FirstPass:
    """Zeros, magnitudes, mean and deviation, exponents. Magnitudes are 0 and infinity where no weight is nonzero."""

    def __init__(self, tensor: _Tensor) -> None:
        rows, columns = matrix_shape(tensor.shape)
        self.zeros = ZeroCount(rows, columns, tensor.block)
        self.moments = Moments()
        self.row_absmax = np.zeros(rows)
        self.absmin = math.inf
        self.nans = self.infinities = 0
        self.floats: FloatPrediction | None = None
        if tensor.is_float:
            row_words = columns if len(tensor.shape) > 1 else 0
            mantissa = MANTISSA_BITS[tensor.dtype]
            self.floats = FloatPrediction(tensor.words.itemsize, mantissa, row_words, tensor.words.size)
        for piece in tensor.pieces():
            if self.floats is not None:
                self.floats.add(piece.words, exponents(piece.words, tensor.dtype))
            self._add(piece)
        self.absmax = float(self.row_absmax.max())

    def _add(self, piece: _Loaded) -> None:
        if piece.present is not None:
            nans = int(np.count_nonzero(np.isnan(piece.weights)))
            self.nans += nans
            self.infinities += int(np.count_nonzero(~piece.present)) - nans
        self.zeros.add(piece.place, piece.weights != 0)
        self.moments.add(piece.finite())
        magnitudes = np.abs(piece.filled())
        self.row_absmax[piece.rows] = np.maximum(self.row_absmax[piece.rows], magnitudes.max(axis=1))
        # Magnitudes are ordered as their bits are; a zero less one wraps around to the largest integer.
        bits = magnitudes.view(f"u{magnitudes.itemsize}")
        one = bits.dtype.type(1)
        bits -= one
        smallest = np.array([bits.min()]) + one
        if smallest[0]:
            self.absmin = min(self.absmin, float(smallest.view(magnitudes.dtype)[0]))


class _SecondPass:
    """What needs the mean, the deviation and each row's largest magnitude first."""

    def __init__(self, tensor: _Tensor, first: _FirstPass) -> None:
        self.tails = Tails(first.moments)
        self.int8, self.int4 = IndexHistogram(127), IndexHistogram(7)
        self.integers: IntegerPrediction | None = None
        if not tensor.is_float:
            self.integers = IntegerPrediction(tensor.words, signed=tensor.dtype.startswith("I"))
        for piece in tensor.pieces():
            self.tails.add(piece.finite())
            if self.integers is not None:
                self.integers.add(piece.words)
            else:
                scaled = relative(piece.filled(), first.row_absmax[piece.rows])
                self.int8.add(scaled, piece.present)
                self.int4.add(scaled, piece.present)


def _sizes_only(name: str, dtype: str, shape: tuple[int, ...], size: int) -> TensorProfile:
    return TensorProfile(name, dtype, shape, math.prod(shape), size, predicted_bytes=size)


def _cheaper(dtype: str, raw: int, payload: int | None) -> int:
    """The payload's size if the artifact would keep one, else that of the bytes as they are."""
    coded = payload is not None and CODECS[dtype].coder is Coder.RANS and payload + MARGIN <= raw
    return payload if coded and payload is not None else raw


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
