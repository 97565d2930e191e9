"""The area tables from what synthesis measured: python tools/area_table.py

Reads benchmarks/results/hw/synthesis.json, which tools/rtl_synth.py writes, and writes a table for each library below
src/regrain/hw/tables/area/. Components without cells in a library are left out of its table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regrain.hw.area import COMPONENTS, FORMAT

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hw" / "synthesis.json"
TABLES = ROOT / "src" / "regrain" / "hw" / "tables" / "area"
TECHNOLOGIES = {"osu018": "0.18 um (osu018)", "osu035": "0.35 um (osu035)"}


def table(found: dict[str, Any], library: str) -> dict[str, Any]:
    """The table of a library."""
    cells = found["cells"]
    names = [name for name in COMPONENTS if f"{library}/{name}" in cells]
    rows = {name: cells[f"{library}/{name}"] for name in names}
    return {
        "format": FORMAT,
        "name": library,
        "technology": TECHNOLOGIES[library],
        "about": f"Sums of cells of the open library {library}, mapped for 100 MHz and otherwise as small as can be "
        f"({found['tools']['yosys'].split(' (')[0]}; tools/rtl_synth.py): without wires, room between cells, clock "
        "tree, and memories of 64 rows or more.",
        "machine": found["machine"],
        "um2": {name: [row["area"], f"{row['cells']:,} cells"] for name, row in rows.items()},
        "memory_bits": {name: row["memory_bits"] for name, row in rows.items()},
    }


def main() -> None:
    """Write the files."""
    found = json.loads(RESULTS.read_text())
    TABLES.mkdir(exist_ok=True)
    for library in TECHNOLOGIES:
        made = table(found, library)
        (TABLES / f"{library}.json").write_text(json.dumps(made, indent=2) + "\n")
        print(f"{library}: {len(made['um2'])} of {len(COMPONENTS)} components")


if __name__ == "__main__":
    main()
