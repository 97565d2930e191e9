"""Yosys and nextpnr, as the packages from PyPI bring them: a component in, what it takes out."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from regrain.core.errors import HardwareError
from regrain.hw.synthesis import gates
from regrain.hw.synthesis.liberty import Library

MINUTES = 30.0
"""Of CPU time that a run of a tool may take, if nothing else is said."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """What a component takes of an ECP5."""

    luts: int
    flip_flops: int
    multipliers: int
    block_rams: int
    distributed_rams: int

    def excess(self, chip: Fabric) -> str:
        """What it takes more of than the chip has, in words; empty if it fits."""
        pairs = ((field.name, getattr(self, field.name), getattr(chip, field.name)) for field in fields(self))
        return ", ".join(f"{taken:,} {name}, of {there:,}" for name, taken, there in pairs if taken > there)


LARGEST = Fabric(luts=83_640, flip_flops=83_640, multipliers=156, block_rams=208, distributed_rams=10_455)
"""What an LFE5U-85F has. A memory in logic takes the LUTs of two slices."""


def to_cells(
    rtlil: str, top: str, library: Path, read: Library, parts: tuple[str, ...] = (), *, minutes: float = MINUTES
) -> gates.Netlist:
    """Map a design, flat, to the cells of a library, for a clock of 100 MHz and otherwise as small as it gets.

    Left open: modules of `parts`, and memories of 64 rows or more, which would be made of flip-flops otherwise.
    Raises HardwareError if that takes more than so many `minutes` of CPU time, as the functions below do.
    """
    script = f"""
        read_rtlil design.il
        {" ".join(f"blackbox {part};" for part in parts)}
        hierarchy -top {top}
        proc
        flatten
        opt
        memory -nomap
        chtype -set {gates.MEMORY} t:$mem_v2 r:SIZE>=64 %i
        synth -noshare -run coarse:check
        dfflibmap -liberty cells.lib
        abc -liberty cells.lib -D 10000
        opt_clean -purge
        write_json netlist.json
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cells.lib").write_text(library.read_text())
        _yosys(script, rtlil, folder, minutes)
        return gates.read((folder / "netlist.json").read_text(), read, top)


def to_ecp5(rtlil: str, top: str, *, minutes: float = MINUTES) -> tuple[Fabric, str]:
    """Map a design to an ECP5: what it takes, and the netlist for `place`.

    Nets are split on the way, as YosysHQ/yosys#4349 advises against its failing.
    """
    script = f"""
        read_rtlil design.il
        synth_ecp5 -run begin:map_luts -top {top}
        splitnets
        synth_ecp5 -run map_luts: -top {top} -json netlist.json
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        _yosys(script, rtlil, folder, minutes)
        netlist = (folder / "netlist.json").read_text()
    counts: dict[str, int] = {}
    for cell in json.loads(netlist)["modules"][top]["cells"].values():
        counts[cell["type"]] = counts.get(cell["type"], 0) + 1
    number = counts.get
    luts = number("LUT4", 0) + 2 * number("CCU2C", 0)
    rams = number("TRELLIS_DPR16X4", 0)
    return Fabric(luts, number("TRELLIS_FF", 0), number("MULT18X18D", 0), number("DP16KD", 0), rams), netlist


def place(netlist: str, seed: int, megahertz: int = 100, *, minutes: float = MINUTES) -> float:
    """MHz that a design reaches, placed and routed on the largest ECP5 of the fastest grade (LFE5U-85F, 8)."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "netlist.json").write_text(netlist)
        device = ["--85k", "--speed", "8", "--package", "CABGA756"]
        files = ["--json", "netlist.json", "--report", "report.json"]
        goal = ["--freq", str(megahertz), "--seed", str(seed), "--timing-allow-fail", "--quiet"]
        _run("nextpnr_ecp5", [*device, *files, *goal], folder, minutes)
        report = json.loads((folder / "report.json").read_text())
    return min(float(clock["achieved"]) for clock in report["fmax"].values())


def version(tool: str) -> str:
    """What a tool says of itself: "yosys" or "nextpnr_ecp5"."""
    return _run(tool, ["--version"], Path.cwd()).strip().splitlines()[-1]


def _yosys(script: str, rtlil: str, folder: Path, minutes: float) -> str:
    (folder / "design.il").write_text(rtlil)
    return run_script(script, folder, minutes=minutes)


def run_script(script: str, folder: Path, *, minutes: float = MINUTES) -> str:
    """Run a script of Yosys in a folder; what it said. Raises HardwareError if it fails."""
    (folder / "script.ys").write_text(script)
    return _run("yosys", ["script.ys"], folder, minutes)


def _run(tool: str, arguments: list[str], folder: Path, minutes: float = MINUTES) -> str:
    """What a tool wrote to both streams. CPU time is limited, not time: that of a busy machine proves nothing."""
    package = f"yowasp_{tool}"
    if find_spec(package) is None:
        raise HardwareError(f"synthesis needs {package.replace('_', '-')}: pip install 'regrain[hw]'")
    limit = math.ceil(60 * minutes)
    start = (
        f"import resource, sys, {package}; resource.setrlimit(resource.RLIMIT_CPU, ({limit}, {limit})); "
        f"sys.exit({package}.run_{tool}(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", start, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    if done.returncode == -signal.SIGKILL:
        raise HardwareError(f"{tool} must end within {minutes:g} minutes of CPU time: map a smaller part")
    if done.returncode:
        raise HardwareError(f"{tool} must end well, and said: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout + done.stderr
