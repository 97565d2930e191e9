"""From a component to a shared library: Yosys writes Verilog, Verilator C++, a compiler the library.

Libraries are kept by a digest of all that went into them, and thus built once; several processes may build the same
one at the same time, and the last to finish wins, atomically.
"""

from __future__ import annotations

import hashlib
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from regrain.hw.cosim.emit import modules_of, rtlil, verilog_of
from regrain.hw.cosim.ports import Layout, Port
from regrain.hw.cosim.tools import Tools

_RUNTIME = ["verilated.cpp", "verilated_threads.cpp"]


def default_cache() -> Path:
    """Where libraries are kept if nothing else is asked for; safe to delete at any time."""
    return Path.home() / ".cache" / "regrain" / "cosim"


def harness_text(name: str) -> str:
    """One of the C++ files beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def library(component: Any, layouts: tuple[Layout, Layout], ports: Any, harness: str, cache: Path) -> Path:
    """Path of the shared library that runs `component`, built if it isn't in `cache`.

    `harness` is C++ that follows what `_glue` writes; layouts and ports as `signature_of` gives them.
    Raises ToolError if Verilator or a compiler is missing or fails.
    """
    tools = Tools()
    text = rtlil(component, "dut", ports)
    program = f"{_glue(*layouts, clocked=_has_clock(text))}\n{harness}"
    target = cache / f"{_digest(text, program, *tools.versions)}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
            folder = Path(name)
            (folder / "dut.sv").write_text(verilog_of(text, modules_of(component)), encoding="utf-8")
            tools.verilate(folder / "dut.sv", folder)
            parts = "".join(f'#include "{path.name}"\n' for path in sorted(folder.glob("*.cpp")))
            (folder / "program.cc").write_text(f"{parts}{program}", encoding="utf-8")
            built, model = folder / "model.so", str(folder / "model.o")
            tools.compile(["-c", "-o", model, str(folder / "program.cc")])
            runtime = [str(_runtime(tools, cache, name)) for name in _RUNTIME]
            tools.compile(["-shared", "-pthread", "-o", str(built), model, *runtime])
            built.replace(target)
    return target


def _runtime(tools: Tools, cache: Path, name: str) -> Path:
    """An object of Verilator's own library, which every model needs; compiled once."""
    target = cache / f"{Path(name).stem}-{_digest(*tools.versions)}.o"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as folder:
            built = Path(folder) / target.name
            tools.compile(["-c", "-o", str(built), str(tools.root / "include" / name)])
            built.replace(target)
    return target


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _has_clock(text: str) -> bool:
    """Whether module `dut` has registers, and thus a clock: RTLIL has one line a port."""
    body = text.partition("module \\dut\n")[2].partition("\nend\n")[0]
    return any(line.split()[-1:] == ["\\clk"] for line in body.splitlines() if " input " in line)


def _glue(inputs: Layout, outputs: Layout, *, clocked: bool) -> str:
    """C++ between rows of words and the members of class `Model`: what harness.cpp asks for."""
    drive = "\n".join(_assignment(port) for port in inputs.ports.values())
    sample = "\n".join(_reading(port) for port in outputs.ports.values())
    tick = "model.clk = level;" if clocked else ""
    return f"""
constexpr int IN_WORDS = {inputs.words}, OUT_WORDS = {outputs.words};
static inline void drive(Model& model, const uint32_t* row) {{
{drive}
}}
static inline void sample(const Model& model, uint32_t* row) {{
{sample}
}}
static inline void clock(Model& model, int level) {{ {tick} }}
{_places("In", inputs)}
{_places("Out", outputs)}
"""


def _assignment(port: Port) -> str:
    member, at = f"model.i{port.offset}", port.offset
    if port.width <= 32:
        return f"{member} = row[{at}];"
    if port.width <= 64:
        return f"{member} = row[{at}] | uint64_t(row[{at + 1}]) << 32;"
    return f"for (int w = 0; w < {port.words}; ++w) {member}[w] = row[{at} + w];"


def _reading(port: Port) -> str:
    member, at = f"model.o{port.offset}", port.offset
    if port.width <= 32:
        return f"row[{at}] = {member};"
    if port.width <= 64:
        return f"row[{at}] = uint32_t({member}); row[{at + 1}] = uint32_t({member} >> 32);"
    return f"for (int w = 0; w < {port.words}; ++w) row[{at} + w] = {member}[w];"


def _places(name: str, layout: Layout) -> str:
    """Offsets by the ports' own names, for harnesses that know their component: `In::at_start`."""
    places = "\n".join(f"constexpr int at_{port.name} = {port.offset};" for port in layout.ports.values())
    return f"namespace {name} {{\n{places}\n}}"
