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
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regrain.core.errors import HardwareError

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

_TABLES = resources.files("regrain.hw").joinpath("tables")
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
    return sorted(entry.name.removesuffix(".json") for entry in _TABLES.iterdir() if entry.name.endswith(".json"))


def load(table: str | os.PathLike[str]) -> Table:
    """A table by its name, or from a file. Raises HardwareError for what is none, OSError."""
    if isinstance(table, str) and table in names():
        text = _TABLES.joinpath(f"{table}.json").read_text(encoding="utf-8")
    elif isinstance(table, str) and not table.endswith(".json"):
        raise HardwareError(f"table must be one of {', '.join(names())}, or a file NAME.json, not {table!r}")
    else:
        text = Path(table).read_text(encoding="utf-8", errors="replace")
    try:
        return parse(text)
    except HardwareError as error:
        raise HardwareError(f"energy table {os.fspath(table)!r}: {error}") from None


def parse(text: str) -> Table:
    """A table's JSON. Raises HardwareError for what isn't exactly as it must be."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise HardwareError(f"it must be JSON: {error}") from None
    top = _object("it", value, ("format", "name", "technology", "about", "pj", "sram"))
    if top["format"] != FORMAT:
        raise HardwareError(f"format must be {FORMAT!r}, not {top['format']!r}")
    words = {name: _text(name, top[name]) for name in ("name", "technology", "about")}
    listed = _object("pj", top["pj"], tuple(ACTIONS))
    costs, sources = {}, {}
    for action, entry in listed.items():
        if not isinstance(entry, list) or len(entry) != 2:
            raise HardwareError(f"{action} must be [pJ, source], not {entry!r}")
        costs[action], sources[action] = _number(action, entry[0]), _text(f"source of {action}", entry[1])
    sram = _object("sram", top["sram"], ("reads", "write", "source"))
    sources["sram"] = _text("source of sram", sram["source"])
    write = _number("write", sram["write"], positive=True)
    return Table(**words, pj=costs, sources=sources, reads=_points(sram["reads"]), write=write)


def _object(name: str, value: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != set(keys):
        found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise HardwareError(f"{name} must be an object with exactly {', '.join(keys)}, not {found}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise HardwareError(f"{name} must be words, not {value!r}")
    return value


def _number(name: str, value: object, *, positive: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise HardwareError(f"{name} must be a number from 0 to 1e9, not {value!r}")
    if positive and value == 0:
        raise HardwareError(f"{name} must be above 0")
    return float(value)


def _points(value: object) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise HardwareError(f"reads must be two pairs [bytes, pJ] or more, not {value!r}")
    found = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) is not int or pair[0] < 1:
            raise HardwareError(f"reads must be pairs [bytes, pJ], not {pair!r}")
        found.append((pair[0], _number("pJ of a read", pair[1], positive=True)))
    if any(small >= large or low > high for (small, low), (large, high) in itertools.pairwise(found)):
        raise HardwareError(f"reads must ascend in bytes, and not fall in pJ, not {value!r}")
    return tuple(found)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object must not have a name twice")
    return found
