"""Area: what synthesis measured of each component, as often as a machine has it.

A table is a JSON file, below `tables/area/` or the user's own, for one library of cells:

{"format": "regrain-area-1", "name": TEXT, "technology": TEXT, "about": TEXT, "machine": {SIZE: NUMBER, ...},
 "um2": {COMPONENT: [um2, SOURCE], ...}, "memory_bits": {COMPONENT: BITS, ...}}

`um2` has components of `COMPONENTS` and no other; those that weren't mapped are left out, and said to be missing.
`memory_bits` are those of memories within them that are no cells.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from types import MappingProxyType

from regrain.core.errors import HardwareError
from regrain.hw import table_json
from regrain.hw.energy import GATHERED
from regrain.hw.machine import VALUE_BITS, Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.timing import ENTRY_BITS
from regrain.hw.table_json import fields, figure, parsed, words

FORMAT = "regrain-area-1"

COMPONENTS: Mapping[str, str] = MappingProxyType(
    {
        "pe": "elements",
        "plain_dense_pe": "elements",
        "array": "elements",
        "sequencer": "feeding",
        "bank": "feeding",
        "writeback": "write-back",
        "monitor": "granularity",
        "control": "granularity",
        "reorganizer": "granularity",
        "descriptor": "metadata",
        "metadata": "metadata",
        "reconstruct": "reconstruction",
        "profiler": "profiling",
    }
)
"""Which part of the machine each belongs to. `plain_dense_pe` is an element of the array for dense matrices that it is
compared with; `array` what is between the elements.
"""

SELECTION, GRANULARITY = "selection", "granularity"
"""What sparsity adds: to each element, and beside the array."""


@dataclass(frozen=True, slots=True, eq=False)
class AreaTable:
    """um2 of the components of a machine, the source of each figure, and bits of memories that are not in it."""

    name: str
    technology: str
    about: str
    machine: Machine
    um2: Mapping[str, float]
    sources: Mapping[str, str]
    memory_bits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Area:
    """mm2 of a machine's logic by part, without wires and memories; the components that are `missing`; bits of its
    memories by name, and of those that an array for dense matrices has.
    """

    parts: Mapping[str, float]
    missing: tuple[str, ...]
    memories: Mapping[str, int]
    dense_bits: int

    @property
    def total(self) -> float:
        """mm2."""
        return sum(self.parts.values())

    @property
    def added(self) -> float:
        """mm2 that sparsity adds."""
        return self.parts[SELECTION] + self.parts.get(GRANULARITY, 0.0)

    @property
    def dense(self) -> float:
        """mm2 of the same machine for dense matrices: elements that multiply everything, and nothing that changes."""
        return self.total - self.added

    @property
    def bits(self) -> int:
        """Of all memories."""
        return sum(self.memories.values())

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "mm2": dict(self.parts),
            "total_mm2": self.total,
            "dense_mm2": self.dense,
            "added": self.added / self.dense,
            "missing": list(self.missing),
            "memory_bits": dict(self.memories),
            "dense_memory_bits": self.dense_bits,
        }


def area(table: AreaTable, machine: Machine, memory: Memory, kept_bytes: int = 0) -> Area:
    """Of a machine. An element grows with its lanes, what is between the elements with their number; write-back,
    monitor, reorganizer and banks with the outputs of a tile; everything else stays as it is. A block and accumulators
    of other sizes than those of the table's machine are taken to be as large as its own.
    """
    known = table.machine
    elements = machine.rows * machine.pes
    lanes, outputs = machine.lanes / known.lanes, machine.outputs / known.outputs
    often = {
        "pe": elements * lanes,
        "plain_dense_pe": elements * lanes,
        "array": elements / (known.rows * known.pes),
        **dict.fromkeys(("bank", "writeback", "monitor", "reorganizer"), outputs),
    }
    mm2 = {name: um2 * often.get(name, 1.0) / 1e6 for name, um2 in table.um2.items()}
    parts = {"elements": mm2["plain_dense_pe"] + mm2.get("array", 0.0), SELECTION: mm2["pe"] - mm2["plain_dense_pe"]}
    for name, part in COMPONENTS.items():
        if name in mm2 and part != "elements":
            parts[part] = parts.get(part, 0.0) + mm2[name]
    missing = tuple(name for name in COMPONENTS if name not in mm2)
    others = {name: round(bits * often.get(name, 1.0)) for name, bits in table.memory_bits.items() if name != "bank"}
    alike = {"activation buffer": memory.buffer_bits, "feature memory": 8 * kept_bytes, **others}
    memories = {
        "weight banks": 2 * machine.bank_words * machine.word_bits,
        "lists": 2 * machine.list_entries * ENTRY_BITS,
        "gather table": machine.list_entries * machine.block * GATHERED,
        **alike,
    }
    dense = 2 * machine.bank_words * machine.outputs * VALUE_BITS + sum(alike.values())
    return Area(parts, missing, {name: bits for name, bits in memories.items() if bits}, dense)


def names() -> list[str]:
    """The tables that come with the package."""
    return table_json.names("area")


def load(table: str | os.PathLike[str]) -> AreaTable:
    """A table by its name, or from a file. Raises HardwareError for what is none, OSError."""
    text = table_json.text_of(table, "area")
    try:
        return parse(text)
    except HardwareError as error:
        raise HardwareError(f"area table {os.fspath(table)!r}: {error}") from None


def parse(text: str) -> AreaTable:
    """A table's JSON. Raises HardwareError for what isn't exactly as it must be."""
    top = fields("it", parsed(text), ("format", "name", "technology", "about", "machine", "um2", "memory_bits"))
    if top["format"] != FORMAT:
        raise HardwareError(f"format must be {FORMAT!r}, not {top['format']!r}")
    sizes = fields("machine", top["machine"], tuple(one.name for one in fields_of(Machine)))
    listed = top["um2"]
    if not isinstance(listed, dict) or not {"pe", "plain_dense_pe"} <= set(listed) <= set(COMPONENTS):
        raise HardwareError(
            f"um2 must be an object with pe, plain_dense_pe, and of {', '.join(COMPONENTS)} those that were mapped"
        )
    found = {name: figure(name, "um2", entry) for name, entry in listed.items()}
    (sparse, _), (plain, _) = found["pe"], found["plain_dense_pe"]
    if not 0 < plain <= sparse:
        raise HardwareError(
            f"plain_dense_pe must be above 0, and not larger than pe, which can more: not {plain:g} beside {sparse:g}"
        )
    bits = fields("memory_bits", top["memory_bits"], tuple(listed))
    if any(type(count) is not int or count < 0 for count in bits.values()):
        raise HardwareError(f"memory_bits must be whole numbers, 0 or more, not {dict(bits)!r}")
    return AreaTable(
        **{name: words(name, top[name]) for name in ("name", "technology", "about")},
        machine=Machine(**sizes),
        um2={name: um2 for name, (um2, _) in found.items()},
        sources={name: source for name, (_, source) in found.items()},
        memory_bits=bits,
    )
