"""Components run as compiled programs: Amaranth to Verilog to Verilator to a shared library, driven over arrays."""

from regrain.hw.cosim.emit import verilog
from regrain.hw.cosim.simulation import Memory, Run, Simulation, Source
from regrain.hw.cosim.tools import ToolError

__all__ = ["Memory", "Run", "Simulation", "Source", "ToolError", "verilog"]
