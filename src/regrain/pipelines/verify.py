"""`regrain verify`: every check that an artifact allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regrain.artifact.compressed import Artifact
from regrain.artifact.header import Entry
from regrain.artifact.layout import find_layout, original_name
from regrain.artifact.original import Piece, hash_pieces
from regrain.artifact.reader import open  # noqa: A004 - regrain.open
from regrain.artifact.threads import resolve_threads
from regrain.core.dtypes import DTYPES, Bytes
from regrain.core.errors import CorruptArtifactError
from regrain.models import open_any
from regrain.pipelines.differences import Difference, Differences
from regrain.pipelines.inspect import not_an_artifact
from regrain.pipelines.restore import Report


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found right. `sha256` is that of each file that restoring writes.

    `lossless`: whether they are the original files. `against`: what every exact tensor was compared with, bit by bit;
    `differences` are those of the others.
    """

    path: Path
    tensors: int
    nbytes: int
    sha256: dict[str, str]
    lossless: bool
    against: Path | None
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "path": str(self.path),
            "tensors": self.tensors,
            "bytes": self.nbytes,
            "sha256": dict(self.sha256),
            "lossless": self.lossless,
            "against": None if self.against is None else str(self.against),
            "differences": [difference.to_json() for difference in self.differences],
        }


def verify(
    artifact: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyResult:
    """Check everything: structure, each checksum, each decoder's final state, the SHA-256 of what restoring writes.

    With `against`, a model or another artifact, every tensor's name, dtype, shape and bits are compared as well; of
    quantized tensors, and others whose values were changed on purpose, the differences are measured. Files that are no
    weights are not looked at. Raises CorruptArtifactError, naming the tensor and the block where they are
    known, at the first thing wrong.
    """
    layout = find_layout(artifact)
    others = {} if against is None else _others(Path(against), [original_name(name) for name in layout.weights])
    count = resolve_threads(threads)
    opened: dict[str, Artifact] = {}
    for name in layout.weights:
        file = open(layout.root / name)
        if isinstance(file, Artifact):
            opened[name] = file
        elif layout.single:
            raise not_an_artifact(layout.root / name)
    if not opened:
        raise not_an_artifact(Path(artifact))
    report = Report(sum(file.manifest.model_bytes for file in opened.values()), progress)
    differences = Differences()
    for name, file in opened.items():
        _verify_file(file, others.get(original_name(name)), count, report, differences)
    return VerifyResult(
        path=Path(artifact),
        tensors=sum(len(file.tensors) for file in opened.values()),
        nbytes=report.total,
        sha256={original_name(name): file.manifest.restored_sha256 for name, file in opened.items()},
        lossless=all(file.manifest.lossless for file in opened.values()),
        against=None if against is None else Path(against),
        differences=differences.all(),
    )


def _verify_file(
    artifact: Artifact, other: Path | None, threads: int, report: Report, differences: Differences
) -> None:
    compare = None if other is None else _Comparison(artifact, other, threads, differences)
    _ = artifact.receipt  # read and checked, for nothing else here needs it

    def use(piece: Piece) -> None:
        if compare is not None and piece.name is not None:
            compare.piece(piece.name, piece.start, piece.data)
        report.add(piece.data.size)

    hash_pieces(artifact, threads, use)


class _Comparison:
    """Compares an artifact's tensors, as they are reconstructed, with those of another file."""

    def __init__(self, artifact: Artifact, path: Path, threads: int, differences: Differences) -> None:
        self._artifact = artifact
        self._differences = differences
        self._path = path
        self._source = open_any(path, threads)
        self._current: tuple[str, Bytes] | None = None
        mine, entries = artifact.tensors, self._source.header.entries
        if mine.keys() != entries.keys():
            odd = min(mine.keys() ^ entries.keys())
            raise CorruptArtifactError(f"tensor must be in both the artifact and {str(path)!r}", tensor=odd)
        for name, entry in entries.items():
            self._same_kind(name, mine[name], entry)

    def _same_kind(self, name: str, mine: Entry, other: Entry) -> None:
        if mine[:2] != other[:2]:
            what = f"{other.dtype} {list(other.shape)} as in {str(self._path)!r}"
            raise CorruptArtifactError(f"must be {what}, not {mine.dtype} {list(mine.shape)}", tensor=name)

    def piece(self, name: str, start: int, data: Bytes) -> None:
        """Raise CorruptArtifactError unless these bytes are the other file's, or need not be."""
        if self._current is None or self._current[0] != name:
            if self._current is not None:
                self._source.done(self._current[0])
            self._current = (name, self._source.read(name))
        wanted = self._current[1][start : start + data.size]
        if not self._artifact.exact(name):
            dtype = self._artifact.tensors[name].dtype
            size = DTYPES[dtype].itemsize
            scales = self._artifact.steps(name, start // size, data.size // size)
            self._differences.add(name, dtype, data, wanted, scales)
        elif not np.array_equal(wanted, data):
            at = start + int(np.flatnonzero(wanted != data)[0])
            element = at * 8 // DTYPES[self._source.header.entries[name].dtype].bits
            raise CorruptArtifactError(f"element {element} must be as in {str(self._path)!r}, but differs", tensor=name)


def _others(against: Path, names: list[str]) -> dict[str, Path]:
    """The file to compare each file of weights with, by the original's name."""
    layout = find_layout(against)
    if layout.single and len(names) == 1:
        return {names[0]: layout.root / layout.weights[0]}
    found = {original_name(name): layout.root / name for name in layout.weights}
    if layout.single or found.keys() != set(names):
        raise CorruptArtifactError(
            f"artifact must have the files {sorted(found)} of {str(against)!r}, not {sorted(names)}"
        )
    return found
