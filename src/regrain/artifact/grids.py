"""Reading the quantized tensors of a packed artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.container import Container
from regrain.artifact.part import Part, corrupt
from regrain.codecs.quantized import (
    Front,
    Quantized,
    finish_weights,
    matrix_shape,
    read_front,
    read_indices,
    scales_at,
)
from regrain.core.dtypes import Bytes
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault


class Grids:
    """The quantized tensors of one file. Every method raises CorruptArtifactError, naming the tensor."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._last: tuple[str, Front] | None = None

    def read(self, jobs: Sequence[tuple[Part, int, Bytes]], threads: int) -> None:
        """Fill the bytes of each job with weights of a tensor, from an element on."""
        fronts = [self.front(part) for part, _, _ in jobs]
        coded = [(job, front) for job, front in zip(jobs, fronts, strict=True) if front.indices.packed is None]
        try:
            self._decode(coded, threads)
        except PayloadFault as fault:
            raise corrupt(fault, coded[fault.job][0][0].owner) from None
        for (_, first, out), front in zip(jobs, fronts, strict=True):
            finish_weights(front, first, out)

    def quantized(self, part: Part, threads: int) -> Quantized:
        """Indices and scales of a tensor."""
        assert part.gridded is not None
        front = self.front(part)
        try:
            payload = np.frombuffer(self._fetch(part)(0, part.stop - part.start), np.uint8)
            indices = read_indices(payload, front, seed=part.seed, threads=threads)
        except PayloadFault as fault:
            raise corrupt(fault, part.owner) from None
        return Quantized(indices.reshape(part.gridded.shape), front.codes, front.cell)

    def steps(self, part: Part, first: int, count: int) -> NDArray[np.float32]:
        """The scales of elements `first` to `first + count` of a tensor."""
        return scales_at(self.front(part), np.arange(first, first + count))

    def front(self, part: Part) -> Front:
        """The front of a tensor's payload; the last one is kept, for slices of a tensor tend to follow each other."""
        assert part.gridded is not None
        last = self._last
        if last is not None and last[0] == part.owner:
            return last[1]
        try:
            front = read_front(self._fetch(part), part.stop - part.start, seed=part.seed)
        except PayloadFault as fault:
            raise corrupt(fault, part.owner) from None
        found = (front.dtype, (front.rows, front.columns), front.cell)
        wanted = (part.gridded.dtype, matrix_shape(part.gridded.shape), part.gridded.cell)
        if found != wanted:
            raise CorruptArtifactError(f"payload must be of {wanted}, not of {found}", tensor=part.owner)
        self._last = (part.owner, front)
        return front

    def _decode(self, coded: list[tuple[tuple[Part, int, Bytes], Front]], threads: int) -> None:
        file = self._container.file
        if file is not None:
            places = [(part.start + front.indices.coded[0], front.indices.coded[1]) for (part, _, _), front in coded]
            kernels.decode_weights_file(
                file, [(place, *_how(*one)) for place, one in zip(places, coded, strict=True)], threads
            )
            return
        data = self._container.data
        payloads = [data[part.start + front.indices.coded[0] : part.stop] for (part, _, _), front in coded]
        kernels.decode_weights([(payload, *_how(*one)) for payload, one in zip(payloads, coded, strict=True)], threads)

    def _fetch(self, part: Part) -> Callable[[int, int], bytes]:
        return lambda start, count: self._container.read(part.start + start, count)


def _how(job: tuple[Part, int, Bytes], front: Front) -> tuple[int, int, kernels.Grid, int, Bytes]:
    part, first, out = job
    return front.indices.kind.itemsize, part.seed, front.grid, first, out
