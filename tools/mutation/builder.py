"""Compiled models that hold mutants, in the place of those that `regrain.hw.cosim` builds."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from mutants import PORT, Mutant, mutants, netlist, with_mutants

from regrain.hw.cosim import build, simulation

_SELECT = """
static uint32_t regrain_mutant = 0;
extern "C" __attribute__((visibility("default"))) void regrain_select(uint32_t number) { regrain_mutant = number; }
"""
_DRIVE = "static inline void drive(Model& model, const uint32_t* row) {"
# A pool of threads doesn't survive a fork, and ends it.
_CONTEXT = "VerilatedContext context;"
_ALONE = "struct Alone : VerilatedContext { Alone() { threads(1); } } context;"
# A mutant that mixes the bits of a word makes loops of words, though none of bits.
_LOOPS = "/* verilator lint_off UNOPTFLAT */"


@dataclass
class Model:
    """A component's netlist, as RTLIL, and its mutants; `select` picks one in this process, once it is compiled.
    `names` maps ports of the netlist to those of the component.
    """

    circuit: str
    mutants: tuple[Mutant, ...]
    text: str
    names: dict[str, str] = field(default_factory=dict)
    select: Callable[[int], None] | None = None


@dataclass
class Builder:
    """Gives a component of the class `component` `count` mutants when tests compile it, in the part `within`: of the
    sizes that they compile, in their order, the one with the number `size`. The others stay as they are.
    """

    component: str
    count: int
    seed: int
    root: Path
    cache: Path
    size: int = 0
    within: str = ""
    model: Model | None = None
    seen: list[str] = field(default_factory=list)  # RTLIL: tests compile the same component again and again

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Meanwhile `regrain.hw.cosim` compiles what this builder gives it."""
        written, glue, text, library = build.verilog_of, build._glue, build.rtlil, build.library
        current: list[Model] = []

        def rtlil_of(component: Any, name: str, ports: Any) -> str:
            current.clear()
            if type(component).__name__ != self.component:
                return text(component, name, ports)
            plain = _text(component, ports)
            if self._is_chosen(plain) and self.model:
                current.append(self.model)
                return self.model.text
            return plain  # it can't be elaborated twice

        def verilog_of(given: str, outlined: Any = ()) -> str:
            return f"{_LOOPS}\n{written(given)}" if current else written(given, outlined)

        def glue_of(*layouts: Any, clocked: bool) -> str:
            plain = glue(*layouts, clocked=clocked)
            assert plain.count(_DRIVE) == 1
            return _SELECT + plain.replace(_DRIVE, f"{_DRIVE} model.{PORT} = regrain_mutant;") if current else plain

        def library_of(component: Any, layouts: Any, ports: Any, harness: str, cache: Path) -> Path:
            path = library(component, layouts, ports, harness.replace(_CONTEXT, _ALONE), self.cache)
            if current:
                current[0].select = ctypes.CDLL(str(path)).regrain_select
                for letter, layout in zip("io", layouts, strict=True):
                    current[0].names |= {f"{letter}{port.offset}": name for name, port in layout.ports.items()}
            return path

        build.rtlil, build.verilog_of, build._glue = rtlil_of, verilog_of, glue_of
        simulation.library = library_of
        try:
            yield
        finally:
            build.rtlil, build.verilog_of, build._glue = text, written, glue
            simulation.library = library

    def _is_chosen(self, text: str) -> bool:
        """Whether a component is the one that gets mutants; makes its model."""
        if text not in self.seen:
            self.seen.append(text)
        chosen = self.seen.index(text) == self.size
        if chosen and not self.model:
            circuit = netlist(text)
            found = mutants(circuit, self.count, self.seed, self.root, self.within)
            self.model = Model(circuit, found, with_mutants(circuit, found))
        return chosen


def _text(component: Any, ports: Any) -> str:
    """RTLIL of a component and of what is below it, with places in the source."""
    parts = [rtlil.convert(component, name="dut", ports=dict(ports))]
    parts += [rtlil.convert(part, name=name) for name, part in build.modules_of(component).items()]
    return "\n".join(parts)
