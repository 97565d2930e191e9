"""A component's text: Verilog to be read, synthesized and compiled.

A component that appears many times is emitted once. Its parent names it in an attribute `modules`, a mapping from
module names to components, and instantiates it by `Instance(name, ...)`; parents of parents pass the mapping on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from amaranth.back import rtlil as rtlil_backend

from regrain.hw.cosim.tools import yosys

Component = Any  # amaranth.lib.wiring.Component: Amaranth has no types

_ZEROS = re.compile(r"  initial begin\n    (\S+ ?)\[0\] = (\d+'h0+);\n(?:    \1\[(\d+)\] = \2;\n)+  end\n")


def modules_of(component: Component) -> dict[str, Component]:
    """Components that `component` instantiates by their modules' names; none for most."""
    return dict(getattr(component, "modules", {}))


def verilog(component: Component, name: str) -> str:
    """Verilog of a component as module `name`, and of everything below it; ports are named as in its signature.

    Members of nested interfaces are joined by two underscores. `clk` and `rst` are added where there are registers.
    """
    return verilog_of(rtlil(component, name))


def rtlil(component: Component, name: str, ports: Mapping[str, Any] | None = None) -> str:
    """RTLIL of a component as module `name`, and of everything below it; with other names for its `ports`, if given.

    The same component gives the same text, which thus serves as a key; places in the source are left out.
    """
    top = rtlil_backend.convert(component, name=name, ports=None if ports is None else dict(ports), emit_src=False)
    below = (rtlil_backend.convert(part, name=each, emit_src=False) for each, part in modules_of(component).items())
    return "\n".join([top, *below])


def verilog_of(text: str, outlined: Iterable[str] = ()) -> str:
    """Verilog of RTLIL, by Amaranth's own Yosys. Zeros that fill a memory become a loop. Verilator keeps modules that
    are `outlined` functions of their own: a module that is there 64 times is compiled once.
    """
    script = f"read_rtlil <<rtlil\n{text}\nrtlil\nproc -nomux -norom\nmemory_collect\nwrite_verilog -norename -noattr"
    written = _ZEROS.sub(_zeroed, yosys(script))
    for name in outlined:
        written = re.sub(
            rf"^(module {name}\([^;]*;)", r"\1 /*verilator no_inline_module*/", written, flags=re.MULTILINE
        )
    return written


def _zeroed(block: re.Match[str]) -> str:
    memory, zero, last = block.groups()
    return f"  initial for (int i = 0; i <= {last}; i++) {memory}[i] = {zero};\n"
