"""The manifest: the JSON text under the one metadata key of an artifact (docs/format.md, 1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from regrain.artifact.header import Header, canonical_json
from regrain.artifact.seal import BLANK
from regrain.core.descriptor import Cell, Coder
from regrain.core.granularity import Granularity

KEY = "regrain"
FORMAT = 1
PACKED = 2
"""The format of packed artifacts. Each format is also the version of the oldest reader that understands it."""

PRUNED = 3
"""That of packed artifacts with pruned tensors."""

READER = 3
"""The version of this reader."""

SUFFIX = ".regrain"
HEADER_NAME = "regrain.header"
RECEIPT_NAME = "regrain.receipt"
DATA_NAME = "regrain.data"
INDEX_NAME = "regrain.index"
"""The last two are of packed artifacts, whose entries are these four alone: no tensor's name can meet theirs."""


class Coded(NamedTuple):
    """A tensor whose payload is the entry NAME + suffix. `dtype` and `shape` are the original's.

    `changed`: its values are not the original's.
    """

    dtype: str
    shape: tuple[int, ...]
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False
    changed: bool = False


class Kept(NamedTuple):
    """A tensor kept as the entry NAME. `crc` is the CRC-32C of le32(crc32c(name)), le32(0) and its bytes.

    `changed`: its values are not the original's.
    """

    crc: int
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False
    changed: bool = False


class Tied(NamedTuple):
    """A tensor with the dtype, the shape and the bytes of tensor `to`, which is not tied itself."""

    to: str
    granularity: Granularity = Granularity.FINE
    dynamic: bool = False


class Gridded(NamedTuple):
    """A quantized tensor of a packed artifact: indices on a grid of scales, each for a `cell` of (rows, columns)."""

    dtype: str
    shape: tuple[int, ...]
    cell: Cell
    granularity: Granularity
    dynamic: bool = False


class Pruned(NamedTuple):
    """A pruned tensor of a packed artifact: `kept` weights, those of some units of (rows, columns).

    `cell` is that of its scales if it is quantized too.
    """

    dtype: str
    shape: tuple[int, ...]
    unit: tuple[int, int]
    kept: int
    cell: Cell | None
    granularity: Granularity
    dynamic: bool = False


Record = Coded | Kept | Tied | Gridded | Pruned


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself. `model_bytes` and `model_sha256` are those of the original file.

    `restored` is the SHA-256 of the file that restoring writes, as long as the original: None in artifacts that are not
    packed, where it is the original itself. The tensors of packed ones stand in their index. `pruned`: whether some of
    them may be pruned.
    """

    tensors: dict[str, Record]
    model_bytes: int
    model_sha256: str
    suffix: str = SUFFIX
    header: str = HEADER_NAME
    receipt: str = RECEIPT_NAME
    restored: str | None = None
    pruned: bool = False

    @property
    def packed(self) -> bool:
        """Whether all tensors share one entry."""
        return self.restored is not None

    @property
    def restored_sha256(self) -> str:
        """The SHA-256 of the file that restoring writes."""
        return self.restored or self.model_sha256

    @property
    def lossless(self) -> bool:
        """Whether restoring writes the original."""
        return self.restored_sha256 == self.model_sha256

    @property
    def reserved(self) -> tuple[str, str]:
        """The names of the entries that are no tensor's."""
        return self.header, self.receipt

    def entry_name(self, name: str) -> str | None:
        """The name of the entry that holds a tensor's bytes; None for a tied one."""
        record = self.tensors[name]
        if isinstance(record, Tied):
            return None
        return name + self.suffix if isinstance(record, Coded) else name


def manifest_text(manifest: Manifest) -> str:
    """The canonical JSON of a manifest. Its "crc" is blank: the seal of the header that it goes into."""
    model = {"bytes": manifest.model_bytes, "sha256": manifest.model_sha256}
    if manifest.packed:
        made_of = PRUNED if manifest.pruned else PACKED
        fields = {"crc": BLANK, "format": made_of, "model": model, "reader": made_of, "restored": manifest.restored}
        return canonical_json(fields).decode("ascii")
    document: dict[str, object] = {
        "crc": BLANK,
        "format": FORMAT,
        "header": manifest.header,
        "model": model,
        "reader": FORMAT,
        "receipt": manifest.receipt,
        "tensors": {name: record_json(record) for name, record in manifest.tensors.items()},
    }
    if manifest.suffix != SUFFIX:
        document["suffix"] = manifest.suffix
    return canonical_json(document).decode("ascii")


def record_json(record: Record) -> dict[str, object]:
    """One tensor's part of the manifest; flags at their defaults are left out."""
    value: dict[str, object]
    if isinstance(record, Tied):
        value = {"tied": record.to}
    elif isinstance(record, Kept):
        value = {"coder": str(Coder.RAW), "crc": record.crc}
    else:
        value = {"coder": str(Coder.RANS), "dtype": record.dtype, "shape": list(record.shape)}
    if record.granularity is not Granularity.FINE:
        value["granularity"] = str(record.granularity)
    if record.dynamic:
        value["dynamic"] = True
    return value


def is_artifact(header: Header) -> bool:
    """True for the header of an artifact, one whose metadata key is damaged included."""
    if header.metadata is not None and KEY in header.metadata:
        return True
    stems = {
        name.rstrip("_") for name, entry in header.entries.items() if entry.dtype == "U8" and len(entry.shape) == 1
    }
    return {HEADER_NAME, RECEIPT_NAME} <= stems
