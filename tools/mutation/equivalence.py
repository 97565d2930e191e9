"""Whether a mutant that no test caught can be told from the circuit at all: proofs by Yosys."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from mutants import Mutant, yosys

_BOTH = """
read_rtlil in.il
rename dut gold
copy gold gate
mutate -ctrl mutant 1 1 {options}
delete -port gate/mutant
select gate
connect -set mutant 1'1
select -clear
memory_map
opt_clean
"""
_SAME_STATE = """
expose -evert-dff -shared gold gate
miter -equiv -flatten gold gate both
hierarchy -top both
sat -verify -prove trigger 0 -timeout {seconds} both
"""
_FROM_THE_START = """
miter -equiv -flatten -make_outputs gold gate both
hierarchy -top both
sat -tempinduct -set-init-zero -prove trigger 0 -maxsteps {steps} -timeout {seconds} -show-ports both
"""


def verdict(circuit: str, mutant: Mutant, *, steps: int = 24, seconds: int = 20) -> str:
    """`equal`: from any equal state, equal inputs lead to equal outputs and states; or no run from the start shows a
    difference, by induction. `differs after N`: some inputs show it within N cycles. `same for N`: none shows it within
    N cycles. `unknown`: the proof took too long, or Yosys couldn't begin it.
    """
    both = _BOTH.format(options=mutant.options.replace("-module dut", "-module gate"))
    with tempfile.TemporaryDirectory(prefix="regrain-mutation-") as name:
        folder = Path(name)
        (folder / "in.il").write_text(circuit, encoding="utf-8")
        try:
            yosys(both + _SAME_STATE.format(seconds=seconds), folder, 2 * seconds)
        except (RuntimeError, subprocess.TimeoutExpired):
            pass
        else:
            return "equal"
        try:
            said = yosys(both + _FROM_THE_START.format(steps=steps, seconds=seconds), folder, 2 * seconds)
        except (RuntimeError, subprocess.TimeoutExpired):
            return "unknown"
    return _read(said)


def _read(said: str) -> str:
    if "Induction step proven: SUCCESS!" in said:
        return "equal"
    tried = re.findall(r"\[base case (\d+)\]", said)
    if not tried:
        return "unknown"
    return f"differs after {tried[-1]}" if "model found for base case: FAIL!" in said else f"same for {tried[-1]}"
