"""`regrain restore`: plain files again, byte for byte the original's where nothing was quantized."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from regrain.artifact.compressed import Artifact
from regrain.artifact.layout import Layout, check_apart, find_layout, original_name
from regrain.artifact.original import Piece, hash_pieces
from regrain.artifact.output import check_output, output_directory, output_file
from regrain.artifact.reader import PlainFile, WeightFile, open  # noqa: A004 - regrain.open
from regrain.artifact.source import Source, from_artifact
from regrain.artifact.threads import resolve_threads
from regrain.pipelines.channels import read_channels
from regrain.pipelines.inspect import not_an_artifact
from regrain.pipelines.lossless import copy_file, copy_others
from regrain.pipelines.slim import array_of, cut_of, slim_source


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was written: a file or a directory, the bytes of its weights, and the SHA-256 of each file, checked.

    `lossless`: whether all of it is the original's.
    """

    path: Path
    nbytes: int
    sha256: dict[str, str]
    lossless: bool

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "path": str(self.path),
            "bytes": self.nbytes,
            "sha256": dict(self.sha256),
            "lossless": self.lossless,
        }


def restore(
    artifact: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    slim: bool = False,
    force: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RestoreResult:
    """Write the model that an artifact was made from: the byte-identical file or directory.

    Of a lossy artifact: the same, with the weights that were kept. The SHA-256 is checked while writing, so that `out`
    is right or not there. What was a PyTorch state dict comes back as the safetensors file of its tensors. `progress`
    is called with the bytes done and all bytes.

    With `slim`, channels that nothing uses any more are left out of all tensors: a smaller model, which
    `regrain.models.slim.fit(model, load_file(out))` makes of the task's. Raises UnsupportedArtifactError if there are
    none.

    Raises CorruptArtifactError, OutputExistsError unless `force` is set, OutputError if writing fails.
    """
    layout = find_layout(artifact)
    target, count = Path(out), resolve_threads(threads)
    check_apart(layout, target)
    check_output(target, force=force)
    opened = {name: open(layout.root / name) for name in layout.weights}
    artifacts = {name: file for name, file in opened.items() if isinstance(file, Artifact)}
    if not artifacts:
        raise not_an_artifact(Path(artifact))
    if slim:
        return _restore_slim(layout, opened, artifacts, target, force, count, progress)
    report = Report(sum(file.manifest.model_bytes for file in artifacts.values()), progress)
    if layout.single:
        _restore_file(artifacts[layout.weights[0]], target, force, count, report)
    else:
        with output_directory(target, force=force) as folder:
            for name, file in opened.items():
                if isinstance(file, PlainFile):
                    copy_file(layout.root / name, folder / name)
                    continue
                path = folder / original_name(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                _restore_file(file, path, False, count, report)
            copy_others(layout, folder)
    names = {original_name(name) if not layout.single else target.name: file for name, file in artifacts.items()}
    return RestoreResult(
        path=target,
        nbytes=report.total,
        sha256={name: file.manifest.restored_sha256 for name, file in names.items()},
        lossless=all(file.manifest.lossless for file in artifacts.values()),
    )


def _restore_slim(
    layout: Layout,
    opened: Mapping[str, WeightFile],
    artifacts: Mapping[str, Artifact],
    target: Path,
    force: bool,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> RestoreResult:
    sources = {name: from_artifact(file, threads) for name, file in artifacts.items()}
    holders = {tensor: source for source in sources.values() for tensor in source.header.entries}

    def get(name: str) -> NDArray[Any] | None:
        return array_of(holders[name], name) if name in holders else None

    cut = cut_of(read_channels(file.receipt for file in artifacts.values()), get)
    slim = {name: slim_source(source, cut) for name, source in sources.items()}
    report = Report(sum(source.header.file_bytes for source in slim.values()), progress)
    if layout.single:
        digests = {target.name: _write_plain(slim[layout.weights[0]], target, force, report)}
    else:
        digests = {}
        with output_directory(target, force=force) as folder:
            for name in opened:
                if name not in slim:
                    copy_file(layout.root / name, folder / name)
                    continue
                path = folder / original_name(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                digests[original_name(name)] = _write_plain(slim[name], path, False, report)
            copy_others(layout, folder)
    return RestoreResult(path=target, nbytes=report.total, sha256=digests, lossless=False)


def _write_plain(source: Source, path: Path, force: bool, report: Report) -> str:
    """Write a safetensors file; its SHA-256."""
    digest = hashlib.sha256()
    with output_file(path, force=force) as sink:
        for chunk in source.chunks():
            sink.write(chunk)
            digest.update(chunk)
            report.add(len(chunk))
    return digest.hexdigest()


class Report:
    """Counts bytes over all files and passes them on."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total = total
        self._progress = progress
        self._done = 0

    def add(self, nbytes: int) -> None:
        """So many bytes more are done."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self.total)


def _restore_file(artifact: Artifact, path: Path, force: bool, threads: int, report: Report) -> None:
    with output_file(path, force=force) as sink:

        def write(piece: Piece) -> None:
            sink.write(piece.data.data)
            report.add(piece.data.size)

        hash_pieces(artifact, threads, write)
