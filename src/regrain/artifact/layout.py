"""Which files make up a model: one file, the shards of an index, or a directory with all that is in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regrain.artifact.header import MAX_HEADER, parse_json
from regrain.core.errors import CorruptArtifactError, OutputExistsError, UnsupportedModelError

PLAIN = ".safetensors"
ARTIFACT = ".regrain.safetensors"
INDEX = ".safetensors.index.json"
MEASUREMENTS = ".regrain"
"""The folder beside a model that planning keeps measurements in: no part of the model."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Files below `root`, as sorted relative paths. `others` go in and out as they are; `single` is one file alone."""

    root: Path
    weights: tuple[str, ...]
    others: tuple[str, ...]
    single: bool

    def paths(self) -> list[Path]:
        """The files of weights."""
        return [self.root / name for name in self.weights]


def find_layout(path: str | os.PathLike[str]) -> Layout:
    """The files of a model or of an artifact: a file, an index JSON with its shards, or a directory and all below it.

    Raises OSError if `path` cannot be read, UnsupportedModelError if it holds no weights.
    """
    path = Path(path)
    if path.is_dir():
        return _directory(path)
    if path.name.endswith(".json"):
        return Layout(path.parent, _shards(path), (path.name,), single=False)
    return Layout(path.parent, (path.name,), (), single=True)


def check_apart(layout: Layout, out: Path) -> None:
    """Raise OutputExistsError if writing `out` would replace what is read."""
    if layout.single:
        file = layout.root / layout.weights[0]
        if out.exists() and os.path.samefile(file, out):
            raise OutputExistsError(f"out must be another file than {str(file)!r}, which is read")
    elif layout.root.resolve().is_relative_to(out.resolve()):
        raise OutputExistsError(f"out must not hold the directory {str(layout.root)!r}, which is read")


def find_weights(path: str | os.PathLike[str]) -> list[Path]:
    """The files that `load_file` reads: of a directory the index's shards, else its one file of weights at the top."""
    path = Path(path)
    if not path.is_dir():
        return find_layout(path).paths()
    indexes = sorted(path.glob("*" + INDEX))
    if len(indexes) == 1:
        return find_layout(indexes[0]).paths()
    found = sorted(path.glob("*" + PLAIN))
    main = [file for file in found if file.name in ("model" + ARTIFACT, "model" + PLAIN)]
    chosen = main if len(main) == 1 else found
    if len(chosen) != 1:
        raise UnsupportedModelError(
            f"directory must have one index or one file of weights, not {len(chosen)}: name a file of {str(path)!r}"
        )
    return chosen


def artifact_name(name: str) -> str:
    """Where the artifact of a file goes: model.safetensors -> model.regrain.safetensors, model.pt likewise."""
    return str(PurePosixPath(name).with_suffix("")) + ARTIFACT


def original_name(name: str) -> str:
    """Where the original of an artifact goes: model.regrain.safetensors -> model.safetensors."""
    stem = name.removesuffix(ARTIFACT)
    return (stem if stem != name else name.removesuffix(PLAIN)) + PLAIN


def _directory(root: Path) -> Layout:
    weights: list[str] = []
    others: list[str] = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if name != MEASUREMENTS)
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise UnsupportedModelError(
                    f"directory must not hold links to directories: {os.path.join(folder, name)!r}"
                )
        for name in files:
            relative = PurePosixPath(os.path.relpath(os.path.join(folder, name), root)).as_posix()
            (weights if name.endswith(PLAIN) else others).append(relative)
    if not weights:
        raise UnsupportedModelError(f"directory must hold a {PLAIN} file, which {str(root)!r} does not")
    return Layout(root, tuple(sorted(weights)), tuple(sorted(others)), single=False)


def _shards(index: Path) -> tuple[str, ...]:
    """The files that an index names, each plain or as an artifact."""
    if index.stat().st_size > MAX_HEADER:
        raise UnsupportedModelError(f"index must have at most {MAX_HEADER} bytes: {str(index)!r}")
    try:
        document = parse_json(index.read_bytes(), "index")
    except CorruptArtifactError as error:
        raise UnsupportedModelError(f"{index}: {error}") from None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise UnsupportedModelError(f"index must map tensors to files in its weight_map: {str(index)!r}")
    return tuple(sorted({_shard(index, name) for name in weight_map.values()}))


def _shard(index: Path, name: str) -> str:
    if os.path.isabs(name) or ".." in PurePosixPath(name).parts or not name.endswith(PLAIN):
        raise UnsupportedModelError(f"index must name {PLAIN} files below its own directory, not {name!r}")
    for candidate in (name, artifact_name(name)):
        if (index.parent / candidate).is_file():
            return candidate
    raise FileNotFoundError(2, "shard of the index is missing", str(index.parent / name))


def _raise(error: OSError) -> None:
    raise error
