"""JSON of tables of figures, read strictly: exactly the names that must be there, and a source for every figure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from regrain.core.errors import HardwareError

_TABLES = resources.files("regrain.hw").joinpath("tables")
_END = ".json"


def names(*folder: str) -> list[str]:
    """The tables that come with the package, below `tables/`."""
    found: Iterator[str] = (entry.name for entry in _TABLES.joinpath(*folder).iterdir())
    return sorted(name.removesuffix(_END) for name in found if name.endswith(_END))


def text_of(table: str | os.PathLike[str], *folder: str) -> str:
    """A table's JSON by its name, or from a file. Raises HardwareError for a name that no table has, OSError."""
    if isinstance(table, str) and table in names(*folder):
        return _TABLES.joinpath(*folder, f"{table}{_END}").read_text(encoding="utf-8")
    if isinstance(table, str) and not table.endswith(_END):
        raise HardwareError(f"table must be one of {', '.join(names(*folder))}, or a file NAME{_END}, not {table!r}")
    return Path(table).read_text(encoding="utf-8", errors="replace")


def parsed(text: str) -> object:
    """The value. Raises HardwareError for what isn't JSON, or has a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise HardwareError(f"it must be JSON: {error}") from None


def fields(name: str, value: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """An object with exactly these names."""
    if not isinstance(value, dict) or set(value) != set(keys):
        found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise HardwareError(f"{name} must be an object with exactly {', '.join(keys)}, not {found}")
    return value


def words(name: str, value: object) -> str:
    """A text that isn't empty."""
    if not isinstance(value, str) or not value.strip():
        raise HardwareError(f"{name} must be words, not {value!r}")
    return value


def number(name: str, value: object, *, positive: bool = False) -> float:
    """A number from 0 to 1e9."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise HardwareError(f"{name} must be a number from 0 to 1e9, not {value!r}")
    if positive and value == 0:
        raise HardwareError(f"{name} must be above 0")
    return float(value)


def figure(name: str, unit: str, value: object) -> tuple[float, str]:
    """A number and where it is from."""
    if not isinstance(value, list) or len(value) != 2:
        raise HardwareError(f"{name} must be [{unit}, source], not {value!r}")
    return number(name, value[0]), words(f"source of {name}", value[1])


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object must not have a name twice")
    return found
