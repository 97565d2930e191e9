"""The artifact: a safetensors file with coded weights, its reader and its writer (docs/format.md)."""

from regrain.artifact.compressed import Artifact
from regrain.artifact.reader import PlainFile, WeightFile, open  # noqa: A004 - regrain.open

__all__ = ["Artifact", "PlainFile", "WeightFile", "open"]
