"""Matrices of an artifact that are int8 already, with a scale for each output: they are run as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.artifact.reader import WeightFile
from regrain.codecs.grid import scales_of
from regrain.codecs.quantized import matrix_shape
from regrain.hw.machine import Machine
from regrain.hw.networks.layers import Layer
from regrain.hw.networks.quantize import Integers
from regrain.kernels import expand


def stored(files: Sequence[WeightFile], layer: Layer, tied: Mapping[str, str], machine: Machine) -> Integers | None:
    """A layer's own integers, in files of which one has its weight or the one that this is tied to; None where the
    weights aren't int8 with scales by rows. Raises CorruptArtifactError.
    """
    if layer.turned:
        return None
    for name in (layer.name, tied.get(layer.name)):
        for file in files:
            if name is not None and name in file.tensors:
                return _integers(file, name, machine)
    return None


def _integers(file: WeightFile, name: str, machine: Machine) -> Integers | None:
    rows, columns = matrix_shape(file.descriptor(name).shape)
    sparse, quantized = file.sparse(name, 1), file.quantized(name, 1)
    codes, cell = (None, None) if sparse is None else (sparse.codes, sparse.cell)
    indices: NDArray[Any] | None = None
    if sparse is not None and codes is not None:
        indices = np.empty((rows, columns), sparse.values.dtype)
        expand(sparse.mask, sparse.unit, sparse.values, indices)
    elif sparse is None and quantized is not None:
        codes, cell, indices = quantized.codes, quantized.cell, quantized.indices.reshape(rows, columns)
    if indices is None or codes is None or cell is None or indices.dtype != np.int8 or cell[1] < columns:
        return None
    scales = np.repeat(scales_of(codes)[:, 0], cell[0])[:rows].astype(np.float32)
    return Integers.stored(indices.astype(np.int8, copy=False), scales, machine)
