"""Show results, keep them, write their tables into docs/benchmarks.md: python benchmarks/report.py [results.json]"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from run import BENCHMARKS, RESULTS
from tables import Shown, Table, goals_table, markdown, plain

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by benchmarks/report.py -->", "<!-- end -->"
TITLES = {
    "size": "Size",
    "kernel": "Kernels",
    "dequantize": "Quantized weights",
    "load": "Loading",
    "load-as-installed": "Loading, without huge pages for the peers",
    "torch": "Loading PyTorch tensors",
    "encode": "Compressing",
    "encode-as-installed": "Compressing, without huge pages for the peers",
    "slice": "Random access",
    "memory": "Memory",
    "import": "Imports",
}


def shown(name: str, result: Any) -> Shown:
    """The tables and goals of one benchmark's result."""
    found: Shown = import_module(BENCHMARKS[name][0]).show(result)
    where = ", without huge pages for the peers" if name.endswith("-as-installed") else ""
    return Shown(found.tables, [replace(goal, text=goal.text + where) for goal in found.goals])


def print_results(results: dict[str, Any]) -> None:
    """Tables on the terminal."""
    goals = []
    for name, result in results.items():
        found = shown(name, result)
        print(f"\n== {TITLES[name]}")
        for table in found.tables:
            print(plain(table))
        goals += found.goals
    if goals:
        print(plain(goals_table(goals)))


def write_results(results: dict[str, Any], rounds: int, folder: Path) -> str:
    """Put results into the file of this kind of machine, beside those of other benchmarks; the file's name."""
    import machine

    described = machine.describe()
    path = folder / f"{described['kind']}.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else {}
    known = kept | _rounded(results)
    data = {
        "machine": described,
        "rounds": rounds,
        "results": {name: known[name] for name in BENCHMARKS if name in known},
    }
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return path.name


def _rounded(value: Any) -> Any:
    """Times to a tenth of a microsecond, less for the very short ones: six digits are plenty."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def document(data: dict[str, Any]) -> str:
    """All tables as Markdown."""
    found = {name: shown(name, result) for name, result in data["results"].items()}
    goals = [goal for one in found.values() for goal in one.goals]
    parts = [_machine(data), markdown(goals_table(goals), 2)]
    for name, one in found.items():
        parts.append(f"## {TITLES[name]}\n")
        parts += [markdown(table) for table in one.tables]
    return "\n".join(parts)


def _machine(data: dict[str, Any]) -> str:
    machine = data["machine"]
    cpu = machine["cpu"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    rows = [
        ["processor", f"{cpu['name']}, family {cpu['family']}, model {cpu['model']}; {machine['cores']} cores"],
        ["caches of a core", f"second level {machine['l2_kib']} KiB, third {machine['l3_kib']} KiB"],
        ["instruction sets that regrain has for it", ", ".join(machine["instruction_sets"])],
        ["system", f"{machine['system']}; {machine['memory_gb']} GB; huge pages: {machine['huge_pages']}"],
        ["packages", f"Python {machine['python']}, {packages}"],
        ["rounds", str(data["rounds"])],
        ["load average at the end", str(machine["load_average"])],
    ]
    return markdown(Table("Machine", ["", ""], rows), 2)


def main() -> None:
    paths = [Path(argument) for argument in sys.argv[1:]] or sorted(RESULTS.glob("*.json"))
    if not paths:
        raise SystemExit("no results: run benchmarks/run.py first")
    text = "\n".join(document(json.loads(path.read_text())) for path in paths)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    print(f"written: {DOCUMENT.name}")


if __name__ == "__main__":
    main()
