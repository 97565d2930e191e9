"""The file of results: benchmarks/results/pruning/pruning-MACHINE.json, written anew after every row."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # after this folder: both have modules `peers` and `tables`

import machine

FOLDER = Path(__file__).parents[1] / "results" / "pruning"
KEY = ("subject", "tool", "config", "variant", "amount")
Row = dict[str, Any]


def file(folder: Path = FOLDER) -> Path:
    """Where results of this kind of machine are."""
    return folder / f"pruning-{machine.kind()}.json"


def read(path: Path) -> list[Row]:
    """All rows, empty where nothing was measured yet."""
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def keep(path: Path, rows: list[Row]) -> None:
    """Put rows into the file, each in the place of the one with the same KEY."""
    all_rows = {key(row): row for row in read(path)} | {key(row): _rounded(row) for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"machine": machine.describe(), "rows": list(all_rows.values())}, indent=1) + "\n")
    part.replace(path)


def key(row: Row) -> tuple[str, ...]:
    """What a row is of."""
    return tuple(row[name] for name in KEY)


def installed(tool: str) -> str:
    """A distribution's version, empty for what is none."""
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""


def _rounded(row: Row) -> Row:
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}
