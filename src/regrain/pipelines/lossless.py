"""Compressing without loss: a model in, an artifact out, every bit kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regrain import __version__
from regrain.artifact.layout import INDEX, Layout, artifact_name, check_apart, find_layout
from regrain.artifact.output import check_output, output_directory, output_file, translate
from regrain.artifact.threads import resolve_threads
from regrain.artifact.writer import Progress, write_artifact
from regrain.models import open_source
from regrain.pipelines.inspect import Inspection, inspect


@dataclass(frozen=True, slots=True)
class CompressResult:
    """What was written. `notes` say what of the model an artifact does not hold, which is nothing for safetensors."""

    artifact: Inspection
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The artifact: a file, or a directory."""
        return self.artifact.path

    def to_json(self) -> dict[str, object]:
        """A JSON object: that of the artifact's inspection, and the notes."""
        return self.artifact.to_json() | {"notes": list(self.notes)}


def compress_lossless(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    dynamic: bool = False,
) -> CompressResult:
    """Compress a model without loss.

    `model` is a safetensors file, a PyTorch state dict, a sharded checkpoint's index JSON or a directory. `out` is
    X.regrain.safetensors beside a file X, a directory X.regrain for the other two, unless it is given; a directory
    holds each file of weights as an artifact of its own and all other files as they are. `threads` None means every
    processor. `progress` is called with the bytes done and all bytes. With `dynamic` a run time may change the
    granularity of every matrix. Nothing is left behind by an error or Ctrl-C.

    Raises OutputExistsError unless `force` is set, and whenever `out` is the model itself; OutputError if writing
    fails, UnsupportedModelError and CorruptArtifactError for a model that cannot be read.
    """
    layout = find_layout(model)
    target = default_output(Path(model), layout) if out is None else Path(out)
    count = resolve_threads(threads)
    check_apart(layout, target)
    check_output(target, force=force)
    notes: list[str] = []
    if layout.single:
        notes += _compress_file(layout.root / layout.weights[0], target, force, count, progress, dynamic)
    else:
        report = _Sum(sum(path.stat().st_size for path in layout.paths()), progress)
        with output_directory(target, force=force) as folder:
            for name in layout.weights:
                file = folder / artifact_name(name)
                file.parent.mkdir(parents=True, exist_ok=True)
                notes += _compress_file(layout.root / name, file, False, count, report.part, dynamic)
                report.end((layout.root / name).stat().st_size)
            copy_others(layout, folder)
    return CompressResult(inspect(target), tuple(notes))


def copy_others(layout: Layout, folder: Path) -> None:
    """Copy the files of a model that are no weights."""
    for name in layout.others:
        copy_file(layout.root / name, folder / name)


def copy_file(path: Path, out: Path) -> None:
    """Copy one file into a directory that is being written."""
    with open(path, "rb") as source, translate(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(out, "xb") as copy:
            shutil.copyfileobj(source, copy)


def _compress_file(
    path: Path, out: Path, force: bool, threads: int, progress: Progress | None, dynamic: bool
) -> tuple[str, ...]:
    source = open_source(path)
    with output_file(out, force=force) as sink:
        chosen = source.matrices if dynamic else ()
        write_artifact(source, sink, version=__version__, threads=threads, progress=progress, dynamic=chosen)
    return source.notes


def default_output(model: Path, layout: Layout) -> Path:
    """Where an artifact goes if nobody says: beside the model."""
    if layout.single:
        return layout.root / artifact_name(layout.weights[0])
    if model.is_dir():
        model = model.resolve()
        return model.with_name(model.name + ".regrain")
    return layout.root / (model.name.removesuffix(INDEX).removesuffix(".json") + ".regrain")


class _Sum:
    """Progress over several files as one."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total = total
        self._progress = progress
        self._before = 0

    def part(self, done: int, _: int) -> None:
        """Report the bytes of the current file."""
        if self._progress is not None:
            self._progress(self._before + done, self._total)

    def end(self, size: int) -> None:
        """A file is done."""
        self._before += size
        self.part(0, 0)
