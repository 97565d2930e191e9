"""Matrices as an artifact stores them, decoded into what panels are made of: indices stay indices, masks stay masks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.artifact.handle import open_all
from regrain.artifact.reader import WeightFile
from regrain.codecs.grid import scales_of
from regrain.codecs.quantized import Quantized, matrix_shape
from regrain.codecs.sparse import Sparse
from regrain.core.descriptor import WeightDescriptor
from regrain.core.dtypes import BITS, numpy_dtype
from regrain.core.errors import AttachError
from regrain.kernels import WEIGHTS, expand
from regrain.kernels.panels import ROWS
from regrain.runtime.layers import Floats, Layer
from regrain.runtime.weights import Mask, Weights


class Stored(NamedTuple):
    """A matrix of an artifact, and what is said of it."""

    descriptor: WeightDescriptor
    weights: Weights


class Artifact:
    """An artifact, or a plain file, whose matrices are decoded for a model: of tied weights, the name in `tied` leads
    to another one that the file may have instead.
    """

    def __init__(self, path: str | os.PathLike[str], tied: Mapping[str, str]) -> None:
        self.label = os.fspath(path)
        self._files = open_all(path)
        self._tied = tied

    def check(self, layer: Layer) -> WeightDescriptor:
        """What is said of a layer's weight. Raises AttachError unless it is one, of the shape that the model has."""
        file, name = self._find(layer.name)
        found = file.descriptor(name)
        if found.dtype not in WEIGHTS:
            raise AttachError(
                f"dtype must be one of {', '.join(WEIGHTS)}, not {found.dtype} as in {self.label}: compress the "
                "model's own weights",
                tensor=layer.name,
            )
        own = tuple(layer.weight.shape)
        if found.shape != own:
            raise AttachError(
                f"shape must be {own} as in the model, not {found.shape} as in {self.label}: attach the model that the "
                "artifact was made of",
                tensor=layer.name,
            )
        if found.density is not None and not 0.0 <= found.density <= 1.0:
            raise AttachError(f"density must be 0 to 1, not {found.density}", tensor=layer.name)
        return found

    def read(self, layer: Layer) -> Stored:
        """A layer's weight."""
        file, name = self._find(layer.name)
        descriptor, sparse = file.descriptor(name), file.sparse(name, 1)
        if sparse is not None and not layer.turned:
            return _pruned(descriptor, sparse)
        quantized = file.quantized(name, 1)
        if quantized is not None and not layer.turned and quantized.indices.dtype == np.int8:
            indices: NDArray[np.int8] = np.asarray(quantized.indices, np.int8).reshape(matrix_shape(descriptor.shape))
            scales, group = _scales(quantized.codes, quantized.cell, *indices.shape)
            return Stored(descriptor, Weights(None, None, indices, scales, group))
        weights = self._floats(file, name)
        matrix = np.ascontiguousarray(weights.T) if layer.turned else weights.reshape(layer.shape)
        return Stored(descriptor, Weights(None, matrix))

    def read_all(self, layers: list[Layer], threads: int) -> Iterator[Stored]:
        """The weights of several layers, decoded side by side."""
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(self.read, layers)

    def bias(self, layer: Layer) -> Floats | None:
        """The bias that belongs to a layer's weight: the artifact's, where it has one."""
        own = layer.bias()
        name = layer.name.removesuffix("weight") + "bias"
        for file in self._files:
            if own is not None and name in file.tensors:
                found = self._floats(file, name)
                if found.shape != own.shape:
                    raise AttachError(
                        f"shape must be {own.shape} as in the model, not {found.shape} as in {self.label}: attach the "
                        "model that the artifact was made of",
                        tensor=name,
                    )
                return found
        return own

    def _find(self, name: str) -> tuple[WeightFile, str]:
        for known in (name, self._tied.get(name)):
            for file in self._files:
                if known is not None and known in file.tensors:
                    return file, known
        raise AttachError(
            f"it must be in {self.label}, which has no weight of this name: attach the model that the artifact was "
            "made of",
            tensor=name,
        )

    def _floats(self, file: WeightFile, name: str) -> Floats:
        dtype, shape = file.tensors[name][:2]
        data = np.empty(math.prod(shape) * BITS[dtype] // 8, np.uint8)
        file.read([(name, data)], 1)
        return np.ndarray(shape, numpy_dtype(dtype), data).astype(np.float32, copy=False)


def _pruned(descriptor: WeightDescriptor, sparse: Sparse) -> Stored:
    rows, columns = matrix_shape(sparse.shape)
    units = panel_units(sparse.mask, sparse.unit, rows, columns)
    whole = np.empty((rows, columns), sparse.values.dtype)
    expand(sparse.mask, sparse.unit, sparse.values, whole)
    if sparse.codes is None or sparse.cell is None:
        values = whole.view(numpy_dtype(descriptor.dtype)).astype(np.float32, copy=False)
        return Stored(descriptor, Weights(units, values))
    scales, group = _scales(sparse.codes, sparse.cell, rows, columns)
    if whole.dtype == np.int8:
        return Stored(descriptor, Weights(units, None, whole, scales, group))
    quantized = Quantized(whole, sparse.codes, sparse.cell)
    return Stored(descriptor, Weights(units, quantized.dequantized("F32").view(np.float32).reshape(rows, columns)))


def panel_units(mask: Mask, unit: tuple[int, int], rows: int, columns: int) -> Mask:
    """Which columns are kept, (C,), or (panels, C) those of each panel, of units of any size: what is kept of a panel
    is a column that has any weight in it.
    """
    across = np.repeat(mask, unit[1], axis=1)[:, :columns]
    if unit[0] >= rows:
        return np.ascontiguousarray(across[0])
    first = np.arange(0, rows, ROWS)
    last = np.minimum(first + ROWS, rows) - 1
    found = across[first // unit[0]]
    for step in range(1, int((last // unit[0] - first // unit[0]).max()) + 1):
        found = found | across[np.minimum(first // unit[0] + step, last // unit[0])]
    return np.ascontiguousarray(found)


def _scales(codes: NDArray[np.int16], cell: tuple[int, int], rows: int, columns: int) -> tuple[Floats, int | None]:
    """(R, 1), or (R, groups) with the columns of a group, of scales for each cell."""
    scales = np.ascontiguousarray(np.repeat(scales_of(codes), cell[0], axis=0)[:rows])
    return scales, None if cell[1] >= columns else cell[1]
