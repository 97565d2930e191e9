"""Energy tables: what each action costs, with a source for every figure.

A table is a JSON file, below `tables/` or the user's own:

{"format": "regrain-energy-1", "name": TEXT, "technology": TEXT, "about": TEXT,
 "pj": {ACTION: [pJ, SOURCE], ...},
 "sram": {"reads": [[BYTES, pJ], ...], "write": FACTOR, "source": TEXT}}

`pj` has every action of `ACTIONS` and no other; `reads` are accesses of 64 bits to memories of so many bytes, in order;
a write costs `write` times as much.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from regrain.core.errors import HardwareError
from regrain.hw import table_json
from regrain.hw.table_json import fields, figure, number, parsed, words

FORMAT = "regrain-energy-1"

ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "multiply": "8 x 8 bits",
        "add": "a product to an accumulator",
        "select": "one of a block's activations for a lane",
        "register": "a bit that is clocked into a flip-flop",
        "gated": "a lane that stands still for a cycle while others work",
        "idle": "a lane in a cycle in which the whole array stands still",
        "rescale": "an accumulator to int8",
        "square": "an output to the monitor's sums",
        "memory": "a byte from or to memory outside",
    }
)

_WORD = 64  # bits of an access that a table lists


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What actions cost, in pJ. `reads` are (bytes of a memory, pJ of a read of 64 bits), ascending."""

    name: str
    technology: str
    about: str
    pj: Mapping[str, float]
    sources: Mapping[str, str]
    reads: tuple[tuple[int, float], ...]
    write: float

    def read_bits(self, memory_bytes: float) -> float:
        """pJ of reading a bit of a memory of that size: between the table's sizes on the line through the two nearest
        in a plot of logarithms, beyond them with the square root of the size, as wires grow.
        """
        (least, first), (most, last) = self.reads[0], self.reads[-1]
        if not least < memory_bytes < most:
            size, cost = (least, first) if memory_bytes <= least else (most, last)
            return float(cost * math.sqrt(memory_bytes / size) / _WORD)
        at = sum(memory_bytes > size for size, _ in self.reads[1:-1])
        (small, low), (large, high) = self.reads[at : at + 2]
        slope = math.log(high / low) / math.log(large / small)
        return float(low * (memory_bytes / small) ** slope / _WORD)

    def write_bits(self, memory_bytes: float) -> float:
        """pJ of writing a bit of such a memory."""
        return self.write * self.read_bits(memory_bytes)


def names() -> list[str]:
    """The tables that come with the package."""
    return table_json.names()


def load(table: str | os.PathLike[str]) -> Table:
    """A table by its name, or from a file. Raises HardwareError for what is none, OSError."""
    text = table_json.text_of(table)
    try:
        return parse(text)
    except HardwareError as error:
        raise HardwareError(f"energy table {os.fspath(table)!r}: {error}") from None


def parse(text: str) -> Table:
    """A table's JSON. Raises HardwareError for what isn't exactly as it must be."""
    top = fields("it", parsed(text), ("format", "name", "technology", "about", "pj", "sram"))
    if top["format"] != FORMAT:
        raise HardwareError(f"format must be {FORMAT!r}, not {top['format']!r}")
    said = {name: words(name, top[name]) for name in ("name", "technology", "about")}
    listed = fields("pj", top["pj"], tuple(ACTIONS))
    costs, sources = {}, {}
    for action, entry in listed.items():
        costs[action], sources[action] = figure(action, "pJ", entry)
    sram = fields("sram", top["sram"], ("reads", "write", "source"))
    sources["sram"] = words("source of sram", sram["source"])
    write = number("write", sram["write"], positive=True)
    return Table(**said, pj=costs, sources=sources, reads=_points(sram["reads"]), write=write)


def _points(value: object) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise HardwareError(f"reads must be two pairs [bytes, pJ] or more, not {value!r}")
    found = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not int or pair[0] < 1:
            raise HardwareError(f"reads must be pairs [bytes, pJ], not {pair!r}")
        found.append((pair[0], number("pJ of a read", pair[1], positive=True)))
    if any(small >= large or low > high for (small, low), (large, high) in itertools.pairwise(found)):
        raise HardwareError(f"reads must ascend in bytes, and not fall in pJ, not {value!r}")
    return tuple(found)
