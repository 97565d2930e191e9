"""The native tree without Python: built once, incrementally, where `make native` builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def native_build(root: Path) -> Path:
    """The up-to-date build folder of `regrain_core` and the programs of native/tests."""
    tools = Path(sys.executable).parent
    build = root / "build" / "native"
    configure = [
        tools / "cmake", "-S", root, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}",
        "-DREGRAIN_PYTHON=OFF", "-DREGRAIN_TESTS=ON", "-DREGRAIN_WERROR=ON",
    ]  # fmt: skip
    for command in (configure, [tools / "cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return build
