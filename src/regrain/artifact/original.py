"""The file that an artifact stands for, piece by piece: the original, or the same with the weights that were kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from regrain import kernels
from regrain.artifact.compressed import PIECE, Artifact
from regrain.artifact.container import name_file
from regrain.artifact.header import file_head
from regrain.artifact.part import Part, corrupt
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import CorruptArtifactError
from regrain.kernels.fault import PayloadFault


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the file: of tensor `name` from its byte `start` on, or of the header where `name` is None.

    `data` may be overwritten once the next but one piece is asked for.
    """

    name: str | None
    start: int
    data: Bytes


def pieces(artifact: Artifact, threads: int) -> Iterator[Piece]:
    """Every byte of the file in order, each checked by its checksum before it is given out."""
    header = artifact.original
    yield Piece(None, 0, np.frombuffer(file_head(header.text), np.uint8))
    buffers = _Buffers()
    for name in header.entries:
        part = artifact.part(name)
        if part.gridded is not None or part.pruned is not None:
            yield from _ranges(artifact, name, buffers, threads)
        elif part.word is None:
            artifact.check_raw(name)
            for start in range(part.start, part.stop, PIECE):
                out = buffers.take(min(PIECE, part.stop - start))
                artifact.container.read_into(start, out)
                yield Piece(name, start - part.start, out)
        else:
            yield from _decoded(artifact, name, part, buffers, threads)


def hash_pieces(artifact: Artifact, threads: int, use: Callable[[Piece], None]) -> None:
    """Give every piece to `use` while a second thread hashes it; the digest and the length must be the model's.

    Raises CorruptArtifactError otherwise, and for whatever cannot be decoded.
    """
    try:
        _hash(artifact, pieces(artifact, threads), use)
    except CorruptArtifactError as error:
        name_file(error, artifact.label)
        raise


def _hash(artifact: Artifact, parts: Iterable[Piece], use: Callable[[Piece], None]) -> None:
    manifest, digest, size = artifact.manifest, hashlib.sha256(), 0
    with ThreadPoolExecutor(1, thread_name_prefix="regrain-sha256") as pool:
        pending = pool.submit(digest.update, b"")
        for piece in parts:
            pending.result()
            pending = pool.submit(digest.update, piece.data.data)
            size += piece.data.size
            use(piece)
    if size != manifest.model_bytes:
        raise CorruptArtifactError(f"original file must have {manifest.model_bytes} bytes, not {size}")
    if digest.hexdigest() != manifest.restored_sha256:
        what = "original" if manifest.lossless else "restored file"
        found = digest.hexdigest()
        raise CorruptArtifactError(f"SHA-256 of the {what} must be {manifest.restored_sha256}, not {found}")


def _decoded(artifact: Artifact, name: str, part: Part, buffers: _Buffers, threads: int) -> Iterator[Piece]:
    container = artifact.container
    try:
        if container.file is None:
            info = kernels.info(container.data[part.start : part.stop], seed=part.seed)
        else:
            info = kernels.info_file(container.file, part.start, part.stop - part.start, seed=part.seed)
    except PayloadFault as fault:
        raise corrupt(fault, name) from None
    artifact.check_kind(name, info)
    step = max(1, PIECE // (info.block_words * info.word_bytes)) * info.block_words
    for first in range(0, info.count, step):
        out = buffers.take(min(step, info.count - first) * info.word_bytes)
        artifact.decode_range(part, first, out, threads)
        yield Piece(name, first * info.word_bytes, out)


def _ranges(artifact: Artifact, name: str, buffers: _Buffers, threads: int) -> Iterator[Piece]:
    entry = artifact.tensors[name]
    size, nbytes = DTYPES[entry.dtype].itemsize, artifact.original.entries[name].nbytes
    for start in range(0, nbytes, PIECE):  # whole blocks, for that many bytes hold a multiple of 65536 words
        out = buffers.take(min(PIECE, nbytes - start))
        artifact.read_range(name, start // size, out, threads)
        yield Piece(name, start, out)


class _Buffers:
    """Two buffers in turn: one is filled while the other is used."""

    def __init__(self) -> None:
        self._all = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def take(self, size: int) -> Bytes:
        """The buffer that was used longest ago, `size` bytes of it."""
        self._all.reverse()
        if self._all[0].size < size:
            self._all[0] = np.empty(size, np.uint8)
        return self._all[0][:size]
