"""Whether tests of the accelerator's components catch bugs that are put in: python benchmarks/hw/mutation.py [NAME ...]

Each component's own tests, and its `_ranges` tests where it has them, on mutants that tools/mutation makes with a fixed
seed. What nothing caught is given to Yosys, to prove that it can't be told from the circuit. Writes the results of the
components named, by default of all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "mutation"))
from equivalence import verdict
from mutants import Mutant

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "mutation"
WORK = ROOT / "build" / "mutation"
RESULTS = ROOT / "benchmarks" / "results" / "hw" / "mutation.json"
TESTS = Path("tests/hw/rtl")
SEED = 1


@dataclass(frozen=True)
class Subject:
    """A class of components, and the tests that build it; `options` pick one of the sizes they build, or a part."""

    component: str
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()
    count: int = 100


SUBJECTS = {
    "pe": Subject("PE", ("pe",)),
    "array": Subject("Array", ("array",)),
    "bank": Subject("Bank", ("bank_ranges", "bank")),
    "sequencer": Subject("Sequencer", ("sequencer",)),
    "writeback": Subject("Writeback", ("writeback_ranges", "writeback")),
    "engine": Subject("Engine", ("engine",)),
    "monitor": Subject("Monitor", ("monitor_ranges", "monitor")),
    "control": Subject("Control", ("control_ranges", "control")),
    "fifo": Subject("Fifo", ("fifo",), ("--size", "1")),
    "reorganizer": Subject("Bench", ("reorganizer",), ("--within", "block")),
    "descriptor": Subject("DescriptorDecoder", ("descriptor_ranges", "descriptor")),
    "metadata": Subject("MetadataMemory", ("metadata_ranges", "metadata")),
    "rans_decoder": Subject("RansDecoder", ("rans_decoder",)),
    "profiler": Subject("Profiler", ("profiler",)),
    "plane_reader": Subject("PlaneReader", ("plane_reader",)),
    "rescaler": Subject("Rescaler", ("rescaler",)),
    "reconstruct": Subject("Reconstruct", ("reconstruct",)),
    "top": Subject("Top", ("top",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--proofs", action="store_true", help="only prove what the last run left")
    args = parser.parse_args()
    names = args.names or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"NAME must be one of {', '.join(SUBJECTS)}, not {min(unknown)!r}")
    for name in names * (not args.proofs):
        result = measured(name, SUBJECTS[name])
        print(f"{name}: {result['caught']} of {result['mutants']} caught", flush=True)
        write(name, result)
    for name in names:
        result = json.loads(RESULTS.read_text())[name]
        prove(name, result["survivors"])
        print(f"{name}: {[each['proof'] for each in result['survivors']]}", flush=True)
        write(name, result)


def measured(name: str, subject: Subject) -> dict[str, Any]:
    """How a component's mutants fared; `survivors` in full."""
    WORK.mkdir(parents=True, exist_ok=True)
    files = [str(TESTS / f"test_{test}.py") for test in subject.tests]
    options = [
        *subject.options,
        "--count",
        str(subject.count),
        "--seed",
        str(SEED),
        "--circuit",
        str(WORK / f"{name}.il"),
    ]
    command = [sys.executable, str(TOOL / "campaign.py"), subject.component, *files, *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode:
        raise SystemExit(f"the campaign of {name} failed: run {' '.join(command)}")
    found = json.loads(done.stdout)
    survivors = [each for each in found["outcomes"] if each["caught"] is None]
    return {
        "tests": files,
        "seed": found["seed"],
        "mutants": found["mutants"],
        "caught": found["caught"],
        "stopped": sum(each["caught"] in ("stopped", "hang") for each in found["outcomes"]),
        "survivors": [{"mutation": each["options"], "sources": each["sources"], "proof": None} for each in survivors],
    }


def prove(name: str, survivors: list[dict[str, Any]]) -> None:
    """Ask Yosys about each of them, if it hasn't been asked."""
    circuit = (WORK / f"{name}.il").read_text(encoding="utf-8")
    for each in survivors:
        if each["proof"] is None:
            each["proof"] = verdict(circuit, Mutant(0, "", each["mutation"], ()))


def write(name: str, result: dict[str, Any]) -> None:
    """Put one component's results into the file."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[name] = result
    RESULTS.write_text(json.dumps({each: found[each] for each in SUBJECTS if each in found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
