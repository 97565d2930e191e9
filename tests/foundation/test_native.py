"""The kernels' own tests, without Python between."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "native" / "tests").glob("*.cpp"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_program_passes(native_build: Path, source: Path) -> None:
    done = subprocess.run([native_build / source.stem], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_programs() -> None:
    assert SOURCES, "native/tests must hold at least one program"
