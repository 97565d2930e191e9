"""Measure everything, or the benchmarks that are named: python benchmarks/run.py [--quick] [--rounds N] [name ...]

Each benchmark runs in a process of its own with huge pages for everyone: glibc's allocator is told to ask for them, as
regrain and NumPy do for themselves. `load-as-installed` is `load` without that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

# name -> (module, environment)
BENCHMARKS: dict[str, tuple[str, dict[str, str]]] = {
    "size": ("size", HUGE),
    "kernel": ("kernel", HUGE),
    "dequantize": ("dequantize", HUGE),
    "load": ("load", HUGE),
    "load-as-installed": ("load", {}),
    "torch": ("torch_load", HUGE),
    "encode": ("encode", HUGE),
    "encode-as-installed": ("encode", {}),
    "slice": ("slices", HUGE),
    "memory": ("memory", {}),
    "import": ("imports", {}),
}
# How fast NumPy's linear algebra is has no influence here, and what is set for another machine must not have any.
UNSET = ("GLIBC_TUNABLES", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NUMPY_MADVISE_HUGEPAGE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of every race (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="only show that the code runs; nothing is written")
    parser.add_argument("--folder", type=Path, help="keep model files here instead of in a temporary folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"name must be one of {', '.join(BENCHMARKS)}, not {unknown[0]!r}")
    rounds = 1 if args.quick else args.rounds
    if args.worker:
        _work(args.worker, args.folder, rounds, args.quick)
        return
    from report import print_results, write_results

    names = args.names or list(BENCHMARKS)
    with tempfile.TemporaryDirectory(prefix="regrain-bench-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = {}
        for name in names:
            found[name] = _start(name, folder, rounds, args.quick)
            written = "" if args.quick else write_results(found, rounds, RESULTS)  # what fails later must not take it
    print_results(found)
    if written:
        print(f"\nwritten: {written}; now run benchmarks/report.py for docs/benchmarks.md")


def _start(name: str, folder: Path, rounds: int, quick: bool) -> Any:
    """One benchmark in a fresh process; its result."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in UNSET} | BENCHMARKS[name][1]
    command = [sys.executable, __file__, "--worker", name, "--folder", str(folder), "--rounds", str(rounds)]
    done = subprocess.run([*command, *["--quick"] * quick], env=environment)
    if done.returncode:
        raise SystemExit(f"benchmark {name} failed")
    return json.loads((folder / f"{name}.json").read_text())


def _work(name: str, folder: Path, rounds: int, quick: bool) -> None:
    from setup import Setup

    result = import_module(BENCHMARKS[name][0]).measure(Setup(folder, rounds, quick))
    (folder / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
