"""`regrain inspect`: what an artifact says of itself, nothing decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from regrain.artifact.compressed import Artifact
from regrain.artifact.layout import find_layout
from regrain.artifact.reader import PlainFile, open  # noqa: A004 - regrain.open
from regrain.core.errors import UnsupportedModelError
from regrain.pipelines.sizes import TensorSize, bits_per_weight, weights


@dataclass(frozen=True, slots=True)
class FileSize:
    """One file of an artifact. `receipt` is what the writer recorded.

    `sha256` is that of the original; `restored_sha256`, of what restoring writes: the same, unless it is lossy.
    """

    file: str
    nbytes: int
    original_bytes: int
    sha256: str
    restored_sha256: str
    receipt: dict[str, object]

    @property
    def lossless(self) -> bool:
        """Whether restoring gives the original."""
        return self.restored_sha256 == self.sha256


@dataclass(frozen=True, slots=True)
class Inspection:
    """An artifact's files and tensors. Sizes are in bytes and count files of weights only."""

    path: Path
    files: tuple[FileSize, ...]
    tensors: tuple[TensorSize, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the artifact."""
        return sum(file.nbytes for file in self.files)

    @property
    def original_bytes(self) -> int:
        """Bytes of the original."""
        return sum(file.original_bytes for file in self.files)

    @property
    def weights(self) -> int:
        """Floating-point elements, tied ones once."""
        return weights(self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """8 x bytes of the artifact / weights, everything counted; None without weights."""
        return bits_per_weight(self.nbytes, self.weights)

    @property
    def original_bits_per_weight(self) -> float | None:
        """The same of the original."""
        return bits_per_weight(self.original_bytes, self.weights)

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "path": str(self.path),
            "bytes": self.nbytes,
            "original_bytes": self.original_bytes,
            "weights": self.weights,
            "bits_per_weight": self.bits_per_weight,
            "original_bits_per_weight": self.original_bits_per_weight,
            "files": [
                {
                    "file": file.file,
                    "bytes": file.nbytes,
                    "original_bytes": file.original_bytes,
                    "sha256": file.sha256,
                    "restored_sha256": file.restored_sha256,
                    "lossless": file.lossless,
                    "receipt": file.receipt,
                }
                for file in self.files
            ],
            "tensors": [tensor.to_json() for tensor in self.tensors],
        }


def inspect(artifact: str | os.PathLike[str]) -> Inspection:
    """Describe an artifact: a file, a directory or an index JSON. Tensors come in the original's order.

    Raises CorruptArtifactError where the header, the manifest, the original's header or the receipt is not sound,
    UnsupportedModelError if the path holds no artifact.
    """
    layout = find_layout(artifact)
    files: list[FileSize] = []
    tensors: list[TensorSize] = []
    for name in layout.weights:
        opened = open(layout.root / name)
        if isinstance(opened, PlainFile):
            if layout.single:
                raise not_an_artifact(layout.root / name)
            continue
        manifest = opened.manifest
        digests = manifest.model_sha256, manifest.restored_sha256
        files.append(FileSize(name, opened.container.size, manifest.model_bytes, *digests, opened.receipt))
        tensors += tensor_sizes(opened, name)
    if not files:
        raise not_an_artifact(Path(artifact))
    return Inspection(Path(artifact), tuple(files), tuple(tensors))


def tensor_sizes(artifact: Artifact, file: str) -> list[TensorSize]:
    """The size of each tensor of one file, in the original's order."""
    return [
        TensorSize(artifact.descriptor(name), entry.nbytes, artifact.stored_bytes(name), file)
        for name, entry in artifact.original.entries.items()
    ]


def not_an_artifact(path: Path) -> UnsupportedModelError:
    """The error for a path that holds plain weights where an artifact is needed."""
    return UnsupportedModelError(f"artifact must be a file that regrain wrote, not {str(path)!r}: compress it first")
