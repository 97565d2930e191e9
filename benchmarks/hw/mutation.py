"""Whether tests of the accelerator's components catch bugs that are put in: python benchmarks/hw/mutation.py [NAME ...]

Each component's own tests, and its `_ranges` tests where it has them, on mutants that tools/mutation makes with a fixed
seed. What nothing caught is given to Yosys, to prove that it can't be told from the circuit, or not by what the
component promises (tools/mutation/contracts.py). Writes the results of the components named, by default of all. A
survivor's `why` is written by hand, and kept as long as the circuit stays the same.
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
from contracts import PROMISES
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
    "master_writer": Subject("MasterWriter", ("master_writer",)),
    "reconstruct": Subject("Reconstruct", ("reconstruct",)),
    "top": Subject("Top", ("top",), ("--within", ".")),
    "accelerator": Subject("Accelerator", ("accelerator",), ("--within", ".")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)}")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--proofs", action="store_true", help="only prove what the last run left")
    part.add_argument("--survivors", action="store_true", help="only try what the last run left again")
    args = parser.parse_args()
    names = args.names or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"NAME must be one of {', '.join(SUBJECTS)}, not {min(unknown)!r}")
    for name in names:
        if args.survivors:
            write(name, tried_again(name, results()[name]))
        elif not args.proofs:
            write(name, explained(measured(name), results().get(name, {})))
        result = results()[name]
        prove(name, result)
        report(name, result)


def report(name: str, result: dict[str, Any]) -> None:
    """Print how many were caught, and each that wasn't."""
    print(f"{name}: {result['caught']} of {result['mutants']} caught")
    for each in result["survivors"]:
        print(f"  {each['mutation']} {each['sources']} {each['proof']}: {each['why']}")
    sys.stdout.flush()


def measured(name: str, only: list[str] | None = None) -> dict[str, Any]:
    """How a component's mutants fared, all or `only` some; `survivors` in full."""
    WORK.mkdir(parents=True, exist_ok=True)
    subject = SUBJECTS[name]
    files = [str(TESTS / f"test_{test}.py") for test in subject.tests]
    options = ["--count", str(subject.count), "--seed", str(SEED), "--circuit", str(WORK / f"{name}.il")]
    if only is not None:
        (WORK / f"{name}.txt").write_text("".join(f"{each}\n" for each in only), encoding="utf-8")
        options += ["--only", str(WORK / f"{name}.txt")]
    command = [sys.executable, str(TOOL / "campaign.py"), subject.component, *files, *subject.options, *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode:
        raise SystemExit(f"the campaign of {name} failed: run {' '.join(command)}")
    found = json.loads(done.stdout)
    survivors = [each for each in found["outcomes"] if each["caught"] is None]
    return {
        "tests": files,
        "seed": found["seed"],
        "circuit": found["circuit"],
        "mutants": found["mutants"],
        "caught": found["caught"],
        "stopped": sum(each["caught"] in ("stopped", "hang") for each in found["outcomes"]),
        "survivors": [
            {"mutation": each["options"], "sources": each["sources"], "proof": None, "why": None} for each in survivors
        ],
    }


def tried_again(name: str, before: dict[str, Any]) -> dict[str, Any]:
    """A result after the survivors met the tests that were added since."""
    result = measured(name, [each["mutation"] for each in before["survivors"]])
    if result["circuit"] != before["circuit"]:
        raise SystemExit(f"the circuit of {name} must be that of the last run: run its campaign again")
    sums = {key: before[key] + result[key] for key in ("caught", "stopped")}
    return before | sums | {"survivors": explained(result, before)["survivors"]}


def explained(result: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A result with what was proven and written of its survivors before, if the circuit is the same."""
    if result["circuit"] == before.get("circuit"):
        known = {each["mutation"]: each for each in before["survivors"]}
        for each in result["survivors"]:
            found = known.get(each["mutation"], {})
            each |= {"proof": found.get("proof"), "why": found.get("why")}
    return result


def prove(name: str, result: dict[str, Any]) -> None:
    """Ask Yosys about each survivor that isn't known to equal the circuit, whatever is promised; write what it says."""
    netlist = WORK / f"{name}.il"
    if not netlist.exists():
        raise SystemExit(f"{netlist} must be there to prove anything of {name}: run its campaign first")
    circuit = netlist.read_text(encoding="utf-8")
    for each in result["survivors"]:
        if each["proof"] != "equal":
            each["proof"] = verdict(circuit, Mutant(0, "", each["mutation"], ()), PROMISES.get(name))
            write(name, result)


def results() -> dict[str, Any]:
    """What the file holds, by component."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return found


def write(name: str, result: dict[str, Any]) -> None:
    """Put one component's results into the file."""
    found = results() | {name: result}
    RESULTS.write_text(json.dumps({each: found[each] for each in SUBJECTS if each in found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
