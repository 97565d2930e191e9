"""The weight-matrix descriptor: 256 bits that say of one matrix all that the accelerator must know to run it."""

from __future__ import annotations

import binascii
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import MOST_BLOCKS, Machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC, VERSION = 0x67, 1
LEAST_LOG2, MOST_LOG2 = 4, 12
"""Of the samples that the monitor takes of a channel."""

CHANNELS_A_ROW = 2
"""Entries of the channel table in a row of the metadata memory."""

LAYOUT: tuple[tuple[str, int], ...] = (
    ("magic", 8),
    ("version", 4),
    ("granularity", 2),
    ("dynamic", 1),
    ("listed", 1),
    ("gather", 1),
    ("count", 4),
    ("relu", 1),
    ("reverse", 1),
    ("outputs", 14),
    ("blocks", 11),
    ("tokens", 18),
    ("log2_samples", 4),
    ("log2_channels", 4),
    ("up0", 16),
    ("down0", 16),
    ("up1", 16),
    ("down1", 16),
    ("dwell", 6),
    ("cost_fine", 16),
    ("cost_medium", 16),
    ("cost_coarse", 16),
    ("weights", 20),
    ("table", 14),
    ("channels", 14),
    ("checksum", 16),
)
"""Fields and their bits, the lowest first. The checksum is CRC-16/CCITT-FALSE over the 30 bytes before it."""

WIDTHS = dict(LAYOUT)
_BITS = 256
_CONTROL = "reverse up0 up1 down0 down1 dwell cost_fine cost_medium cost_coarse".split()
"""Of no meaning in a matrix that is not dynamic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One matrix: `outputs` by `blocks` blocks of inputs, for `tokens` tokens.

    `granularity` is the predefined one, and the one to begin with if `dynamic` (*dynamic sparsity enable*). `listed`:
    tiles bring a list of their blocks; else they have all of them, `count` words each (8 of a dense matrix). `gather`:
    blocks are rows of the gather table. Addresses are rows: `weights` of the weight memory (the packed tiles, or the
    master copy of a dynamic matrix); `table` and `channels` of the metadata memory.

    Of a matrix that is watched, because its outputs are the inputs of one that is dynamic: the monitor looks at
    2^`log2_samples` tokens and divides by 2^`log2_channels`, the power of two from `outputs` up. Both are 0 of others.

    Of a dynamic matrix: the metric is that of the matrix that was watched last. `up0` and `down0` lie between coarse
    and medium, `up1` and `down1` between medium and fine; in quarters of a squared step. `dwell` counts the decisions
    between two switches. `cost_*`: words of all tiles at a granularity, in 16, rounded up. `reverse`: what varies more
    gets the coarser granularity. All are 0 of others.

    Raises HardwareError unless all of it is in range and fits together.
    """

    granularity: Granularity
    outputs: int
    blocks: int
    tokens: int
    weights: int
    channels: int
    dynamic: bool = False
    listed: bool = False
    gather: bool = False
    count: int = 0
    relu: bool = False
    reverse: bool = False
    log2_samples: int = 0
    log2_channels: int = 0
    up0: int = 0
    down0: int = 0
    up1: int = 0
    down1: int = 0
    dwell: int = 0
    cost_fine: int = 0
    cost_medium: int = 0
    cost_coarse: int = 0
    table: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = (1 << WIDTHS[field.name]) - 1
            if field.name != "granularity" and not 0 <= value <= most:
                raise HardwareError(f"{field.name} must be 0 to {most}, not {value!r}")
        for name in ("outputs", "blocks", "tokens"):
            if getattr(self, name) == 0:
                raise HardwareError(f"{name} must be at least 1, not 0: leave empty matrices out")
        if self.blocks > MOST_BLOCKS:
            raise HardwareError(f"blocks must be at most {MOST_BLOCKS}, not {self.blocks}")
        self._check_tiles()
        self._check_watched()
        if self.dynamic:
            self._check_dynamic()
        elif found := [name for name in _CONTROL if getattr(self, name)]:
            raise HardwareError(f"{found[0]} must be 0 where dynamic is off, not {getattr(self, found[0])!r}")

    def _check_tiles(self) -> None:
        if self.listed and self.count:
            raise HardwareError(f"count must be 0 of listed blocks, not {self.count}: each has its own")
        if not (self.listed or 1 <= self.count <= 8):
            raise HardwareError(f"count must be 1 to 8 where blocks are not listed, not {self.count}")
        if not self.listed and (self.dynamic or self.granularity is not Granularity.FINE):
            raise HardwareError(f"blocks must be listed of a matrix that is {self.granularity} or dynamic")
        if self.gather and self.granularity is not Granularity.COARSE:
            raise HardwareError(f"gather must be off of a {self.granularity} matrix: only channels are gathered")
        if self.table and not (self.gather or self.dynamic):
            raise HardwareError(f"table must be 0 where nothing is gathered, not {self.table}")

    def _check_watched(self) -> None:
        if not self.log2_samples:
            if self.log2_channels:
                raise HardwareError(f"log2_channels must be 0 where log2_samples is, not {self.log2_channels}")
            return
        most = min(MOST_LOG2, self.tokens.bit_length() - 1)
        if not LEAST_LOG2 <= self.log2_samples <= most:
            raise HardwareError(
                f"log2_samples must be {LEAST_LOG2} to {MOST_LOG2} and 2^log2_samples at most the {self.tokens} "
                f"tokens, not {self.log2_samples}"
            )
        if self.log2_channels != (self.outputs - 1).bit_length():
            raise HardwareError(
                f"log2_channels must be {(self.outputs - 1).bit_length()} for {self.outputs} outputs, "
                f"not {self.log2_channels}"
            )

    def _check_dynamic(self) -> None:
        if not (self.down0 <= self.up0 <= self.up1 and self.down0 <= self.down1 <= self.up1):
            raise HardwareError(
                "thresholds must have down0 <= up0 <= up1 and down0 <= down1 <= up1, not "
                f"{self.down0}, {self.up0}, {self.down1}, {self.up1}"
            )
        if 0 in (self.cost_fine, self.cost_medium, self.cost_coarse):
            raise HardwareError("costs must be at least 1 of a dynamic matrix: a tile takes a cycle at least")

    def check_machine(self, machine: Machine, rows: int) -> None:
        """Raise HardwareError unless it fits a machine whose metadata memory has so many rows."""
        if self.count * self.blocks > machine.bank_words:
            raise HardwareError(
                f"a tile must have at most {machine.bank_words} words, not {self.blocks} blocks of {self.count}"
            )
        end = self.channels + channel_rows(self.outputs, machine)
        if end > rows:
            raise HardwareError(f"the channel table must end within {rows} rows of metadata, not at {end}")
        end = self.table + self.blocks
        if (self.gather or self.dynamic) and end > rows:
            raise HardwareError(f"the gather table must end within {rows} rows of metadata, not at {end}")

    def to_int(self) -> int:
        """Its 256 bits."""
        bits = at = 0
        for name, width in LAYOUT[:-1]:
            bits |= self._number(name) << at
            at += width
        return bits | checksum(bits) << at

    def to_words(self) -> NDArray[np.uint32]:
        """Its 256 bits as (8,) words, the lowest first."""
        return np.frombuffer(self.to_int().to_bytes(_BITS // 8, "little"), "<u4").astype(np.uint32)

    def _number(self, name: str) -> int:
        if name == "magic":
            return MAGIC
        if name == "version":
            return VERSION
        if name == "granularity":
            return tuple(Granularity).index(self.granularity)
        return int(getattr(self, name))

    @classmethod
    def parse(cls, words: NDArray[np.uint32]) -> Self:
        """What `to_words` wrote. Raises HardwareError for anything else."""
        if words.shape != (8,) or words.dtype != np.uint32:
            raise HardwareError(f"a descriptor must be (8,) uint32, not {words.shape} {words.dtype}")
        bits = int.from_bytes(words.astype("<u4").tobytes(), "little")
        found: dict[str, Any] = {}
        at = 0
        for name, width in LAYOUT:
            found[name] = bits >> at & ((1 << width) - 1)
            at += width
        _require("magic", found.pop("magic"), MAGIC)
        _require("checksum", found.pop("checksum"), checksum(bits))
        _require("version", found.pop("version"), VERSION)
        code = found.pop("granularity")
        if code >= len(Granularity):
            raise HardwareError(f"granularity must be 0 to {len(Granularity) - 1}, not {code}")
        flags = {name: bool(found.pop(name)) for name in ("dynamic", "listed", "gather", "relu", "reverse")}
        return cls(granularity=tuple(Granularity)[code], **flags, **found)


def checksum(bits: int) -> int:
    """The checksum that belongs to the 240 lowest of some bits."""
    return binascii.crc_hqx((bits & ((1 << 240) - 1)).to_bytes(30, "little"), 0xFFFF)


def channel_rows(outputs: int, machine: Machine) -> int:
    """Rows of a channel table, which has entries for whole tiles."""
    tiles = -(-outputs // machine.outputs)
    return -(-tiles * machine.outputs // CHANNELS_A_ROW)


def _require(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise HardwareError(f"the {name} of a descriptor must be {wanted:#x}, not {found:#x}")
