"""The file of results: benchmarks/results/lossy/lossy-peers-MACHINE.json, written anew after every row."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # after this folder: both have a module `peers`

import machine
from subject import NAME, original

FOLDER = Path(__file__).parents[1] / "results" / "lossy"
LISTS = ("rows", "rivals")
Row = dict[str, Any]


def file(folder: Path = FOLDER) -> Path:
    """Where results of this kind of machine are."""
    return folder / f"lossy-peers-{machine.kind()}.json"


def read(path: Path, which: str) -> list[Row]:
    """One of LISTS, empty where nothing was measured yet."""
    rows: list[Row] = json.loads(path.read_text()).get(which, []) if path.exists() else []
    return rows


def keep(path: Path, which: str, row: Row) -> None:
    """Put a row into one of LISTS, in the place of the one of the same tool, task and settings.

    What that one knows and this one does not, it keeps, unless the tool's version is another one.
    """
    lists = {name: read(path, name) for name in LISTS}
    rows = lists[which]
    found = next((one for one in rows if _key(one) == _key(row)), None)
    if found is None:
        rows.append(_rounded(row))
    else:
        merged = (found if found.get("version") == row.get("version") else {}) | _rounded(row)
        found.clear()
        found.update(merged)
    data = {
        "machine": machine.describe(),
        "model": NAME,
        "weights": weights(),
        **lists,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)


def weights() -> int:
    """Original floating-point elements of the peers' model."""
    return sum(tensor.numel() for tensor in original().values())


def installed(tool: str) -> str:
    """A distribution's version, empty for what is none."""
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row.get(name, "") for name in ("tool", "task", "config"))


def _rounded(row: Row) -> Row:
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
