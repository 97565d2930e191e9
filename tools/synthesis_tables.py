"""Markdown of benchmarks/results/hw/synthesis.json: python tools/synthesis_tables.py"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hw" / "synthesis.json"
LIBRARIES = ("osu018", "osu035")
YARDSTICKS = ("dense_pe", "plain_dense_pe")
WHOLE = ("engine", "top", "accelerator")
"""Made of others: what stands there is what lies between those."""


def tables() -> str:
    """All of them."""
    found = json.loads(RESULTS.read_text())
    parts = (_tools, _cells, _pair, _whole, _fabric, _missing, _energy)
    return "\n".join(line for part in parts for line in part(found))


def _table(titles: list[str], rows: list[list[object]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def _tools(found: dict[str, Any]) -> list[str]:
    return [f"Tools: {'; '.join(found['tools'].values())}", ""]


def _cells(found: dict[str, Any]) -> list[str]:
    """Areas in µm² of cells: the libraries' unit."""
    names = sorted({name.partition("/")[2] for name in found["cells"]})
    rows = []
    for name in names:
        one, other = (found["cells"].get(f"{technology}/{name}") for technology in LIBRARIES)
        row = one or other
        memory = f"{row['memory_bits'] / 1024:,.0f}" if row["memory_bits"] else "-"
        areas = (part for each in (one, other) for part in _area(each))
        rows.append([name, f"{row['cells']:,}", f"{row['flip_flops']:,}", *areas, memory])
    titles = ["component", "cells", "flip-flops", "osu018 µm²", "ns", "osu035 µm²", "ns", "memory left out, kbit"]
    return _table(titles, rows)


def _area(row: dict[str, Any] | None) -> tuple[str, str]:
    return (f"{row['area']:,.0f}", f"{row['longest_ns']:.2f}") if row else ("-", "-")


def _pair(found: dict[str, Any]) -> list[str]:
    rows = []
    for technology in LIBRARIES:
        area = {name: found["cells"][f"{technology}/{name}"]["area"] for name in ("pe", *YARDSTICKS)}
        over = [f"+{100 * (area['pe'] / area[name] - 1):.1f} %" for name in YARDSTICKS]
        rows.append([technology, *(f"{each:,.0f}" for each in area.values()), *over])
    titles = ["library", "sparse PE", "dense PE, gated", "dense PE, plain", "over the gated one", "over the plain one"]
    return _table(titles, rows)


def _whole(found: dict[str, Any]) -> list[str]:
    """Everything, each part as often as it is there."""
    rows = []
    for technology in LIBRARIES:
        cells = {name.partition("/")[2]: row for name, row in found["cells"].items() if name.startswith(technology)}
        often = _often(cells, "accelerator" if "accelerator" in cells else "top")
        there = {name: cells[name] for name in often if name in cells}
        area = {name: often[name] * row["area"] / 1e6 for name, row in there.items()}
        shares = [area["pe"], sum(area.values()) - area["pe"], sum(area.values())]
        bits = sum(often[name] * row["memory_bits"] for name, row in there.items())
        absent = ", ".join(name for name in often if name not in cells) or "-"
        rows.append([technology, *(f"{each:.2f}" for each in shares), f"{bits / 1024:,.0f}", absent])
    titles = ["library", "PEs, mm²", "everything else", "together", "memory left out, kbit", "not mapped"]
    return _table(titles, rows)


def _often(cells: dict[str, Any], name: str) -> Counter[str]:
    """How often each component is in this one, itself included."""
    found = Counter({name: 1})
    for part, count in cells.get(name, {}).get("parts", {}).items():
        for each, times in _often(cells, part).items():
            found[each] += count * times
    return found


def _fabric(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, row in sorted(found.get("fabric", {}).items()):
        taken = [row[n] for n in ("luts", "flip_flops", "multipliers", "block_rams", "distributed_rams")]
        speeds = row["megahertz"]
        shown = [f"{of(speeds):.1f}" for of in (min, median, max)] if speeds else ["-"] * 3
        rows.append([name, *(f"{each:,}" for each in taken), len(speeds), *shown])
    names = ["component", "LUT4", "FF", "MULT18", "DP16KD", "DPR16X4", "seeds", "MHz, worst", "median", "best"]
    return _table(names, rows)


def _missing(found: dict[str, Any]) -> list[str]:
    return _table(["missing", "why"], [list(each) for each in sorted(found.get("limits", {}).items())])


def _energy(found: dict[str, Any]) -> list[str]:
    rows = found.get("energy", {})
    costs = rows.get("osu018/actions", {})
    lines = _table(
        ["action", "pJ", "without glitches"],
        [[name, f"{cost['pj']:.2f}", f"{cost['settled']:.2f}"] for name, cost in costs.items()],
    )
    elements = [
        [
            name.partition("/")[2],
            f"{row['macs']:.2f}",
            *(f"{row[part]:.1f}" for part in ("switched", "settled", "clock")),
        ]
        for name, row in rows.items()
        if name != "osu018/actions"
    ]
    return lines + _table(["element", "MACs a cycle", "pJ a cycle, switching", "without glitches", "clock"], elements)


if __name__ == "__main__":
    print(tables())
