"""Reading the pruned tensors of a packed artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain import kernels
from regrain.artifact.container import Container
from regrain.artifact.part import Part, corrupt
from regrain.codecs.front import WORDS
from regrain.codecs.quantized import matrix_shape
from regrain.codecs.sparse import Sparse
from regrain.codecs.sparse_front import SparseFront, fill_rows, read_sparse_front
from regrain.core.dtypes import Bytes
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault

_AT_ONCE = 4 * 65536  # values that a thread decodes before they are used: blocks that decode together

Job = tuple[Part, int, Bytes]
"""A tensor, the element to start from, and the bytes to fill with weights."""


class Units:
    """The pruned tensors of one file. Every method raises CorruptArtifactError, naming the tensor."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._last: tuple[str, SparseFront] | None = None

    def read(self, jobs: Sequence[Job], threads: int) -> None:
        """Do every job: several side by side, or one on all threads."""
        if threads > 1 and len(jobs) > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda job: self._read(job, 1), jobs))
        else:
            for job in jobs:
                self._read(job, threads)

    def sparse(self, part: Part, threads: int) -> Sparse:
        """Mask and kept weights of a tensor."""
        assert part.pruned is not None
        front = self.front(part)
        values = np.empty(front.values.count, front.values.kind)
        self._decode(part, front, 0, values, threads)
        values = front.values.put_outliers(0, values)
        return Sparse(front.mask, front.unit, part.pruned.shape, values, front.codes, front.cell)

    def front(self, part: Part) -> SparseFront:
        """The front of a tensor's payload; the last one is kept, for slices of a tensor tend to follow each other."""
        record, last = part.pruned, self._last
        assert record is not None
        if last is not None and last[0] == part.owner:
            return last[1]
        try:
            front = read_sparse_front(self._fetch(part), part.stop - part.start, seed=part.seed)
        except PayloadFault as fault:
            raise corrupt(fault, part.owner) from None
        found = (front.dtype, (front.rows, front.columns), front.unit, front.cell, front.values.count)
        wanted = (record.dtype, matrix_shape(record.shape), record.unit, record.cell, record.kept)
        if found != wanted:
            raise CorruptArtifactError(f"payload must be of {wanted}, not of {found}", tensor=part.owner)
        self._last = (part.owner, front)
        return front

    def _read(self, job: Job, threads: int) -> None:
        part, first, out = job
        front = self.front(part)
        size = WORDS[front.dtype].itemsize
        count, columns = out.size // size, front.columns
        if not count:
            return
        begin, end = first // columns, -(-(first + count) // columns)  # whole rows
        if (end - begin) * columns == count:
            self._fill(part, front, begin, out, threads)
            return
        rows = np.empty((end - begin) * columns * size, np.uint8)
        self._fill(part, front, begin, rows, threads)
        at = (first - begin * columns) * size
        out[:] = rows[at : at + out.size]

    def _fill(self, part: Part, front: SparseFront, begin: int, out: Bytes, threads: int) -> None:
        """Fill `out` with whole rows from row `begin` on: values are decoded some blocks at a time, and used while they
        are in the cache.
        """
        listed, starts, size = front.values, front.starts, WORDS[front.dtype].itemsize * front.columns
        end, step = begin + out.size // size, _AT_ONCE * threads
        start, stop = int(starts[begin]), int(starts[end])
        buffer = np.empty(min(stop - start, step), listed.kind)
        row, have = begin, start  # values `start` to `have` are in the buffer, `start` is the first of the row
        while row < end:
            until = min(stop, have // step * step + step)
            if until - start > buffer.size:  # what is left of a row, and what comes
                buffer = np.concatenate([buffer[: have - start], np.empty(until - have, listed.kind)])
            self._decode(part, front, have, buffer[have - start : until - start], threads)
            have = until
            last = min(end, int(np.searchsorted(starts, have, side="right")) - 1) if have < stop else end
            used = int(starts[last]) - start
            values = listed.put_outliers(start, buffer[:used])
            fill_rows(front, row, values, out[(row - begin) * size : (last - begin) * size])
            buffer[: have - start - used] = buffer[used : have - start].copy()
            row, start = last, start + used

    def _decode(self, part: Part, front: SparseFront, first: int, out: NDArray[Any], threads: int) -> None:
        """Fill `out` with kept values from value `first` on, but for outliers."""
        listed = front.values
        if listed.packed is not None:
            out[:] = listed.packed[first : first + out.size]
            return
        if not out.size:
            return
        words, whole = out.view(f"<u{listed.kind.itemsize}"), None if out.size == listed.count else first
        file, at, size = self._container.file, part.start + listed.coded[0], listed.coded[1]
        try:
            if file is None:
                payload = self._container.data[at : at + size]
                kernels.decode(payload, words, seed=part.seed, first=whole, threads=threads)
            elif whole is None:
                kernels.decode_file(file, [(at, size, words, part.seed)], threads)
            else:
                kernels.decode_file_range(file, at, size, words, seed=part.seed, first=first, threads=threads)
        except PayloadFault as fault:
            raise corrupt(fault, part.owner) from None

    def _fetch(self, part: Part) -> Callable[[int, int], bytes]:
        return lambda start, count: self._container.read(part.start + start, count)
