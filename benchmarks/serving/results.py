"""The files of results: benchmarks/results/serving/PART-MACHINE.json, rows replaced one by one."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import machine

FOLDER = Path(__file__).parents[1] / "results" / "serving"
TOOLS = (
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime-genai",
    "ctranslate2",
    "openvino",
    "nncf",
    "llama-cpp-python",
)
Row = dict[str, Any]


def file(part: str, folder: Path = FOLDER) -> Path:
    """Where results of a part are, of this kind of machine."""
    return folder / f"{part}-{machine.kind()}.json"


def read(part: str, folder: Path = FOLDER) -> list[Row]:
    """All rows, none where nothing was measured yet."""
    path = file(part, folder)
    rows: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def keep(part: str, key: tuple[str, ...], rows: list[Row]) -> None:
    """Put rows into the file; all earlier ones that have the same values under `key` as one of them are gone."""
    changed = {tuple(row[name] for name in key) for row in rows}
    rest = [row for row in read(part) if tuple(row[name] for name in key) not in changed]
    path = file(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    found = {"machine": machine.describe(), "tools": tools(), "rows": rest + [_rounded(row) for row in rows]}
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(path)


def tools() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _rounded(row: Row) -> Row:
    return {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in row.items()}
