"""Code for one instruction set must not leak into the code for another.

An inline function or a template's instance has weak linkage: every object file brings a copy and the linker keeps any
one of them. Were it the copy of isa/avx2.cpp, then every CPU would run AVX2 code, and die of it.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ISA = sorted((Path(__file__).parents[2] / "native" / "src" / "isa").glob("*.cpp"))
WEAK = "VvWwu"


def symbols(native_build: Path, source: Path) -> list[tuple[str, str]]:
    """(kind, demangled name) of everything the object file of `source` defines or needs; see `man nm` for kinds."""
    commands = json.loads((native_build / "compile_commands.json").read_text())
    objects = [entry["output"] for entry in commands if Path(entry["file"]) == source]
    if not objects:
        pytest.skip(f"{source.name} is for another architecture")
    output = subprocess.run(["nm", "-C", native_build / objects[0]], capture_output=True, text=True, check=True).stdout
    found = [re.match(r"[0-9a-f ]{16} (\S) (.*)", line) for line in output.splitlines()]
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize("source", ISA, ids=lambda source: source.stem)
def test_no_weak_symbols(native_build: Path, source: Path) -> None:
    found = symbols(native_build, source)
    assert found, f"nm must show what {source.name} defines"
    assert [name for kind, name in found if kind in WEAK] == []


@pytest.mark.parametrize("source", ISA, ids=lambda source: source.stem)
def test_only_the_table_is_exported(native_build: Path, source: Path) -> None:
    """Each file hands out one table of function pointers; all else stays inside it."""
    exported = [name for kind, name in symbols(native_build, source) if kind.isupper() and kind != "U"]
    assert len(exported) == 1, exported


def test_no_flag_of_the_build_machine(native_build: Path) -> None:
    commands = json.loads((native_build / "compile_commands.json").read_text())
    for entry in commands:
        assert "native" not in re.findall(r"-m(?:arch|cpu|tune)=(\S+)", entry["command"]), entry["file"]
        if Path(entry["file"]) not in ISA:
            assert not re.search(r" -m(avx|bmi|sse|arch|fma)", entry["command"]), entry["file"]
