"""The checked-in type stub says what the compiled module really has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_stub_is_up_to_date(root: Path, tmp_path: Path) -> None:
    """`make stub` would change nothing."""
    made = tmp_path / "_native.pyi"
    ruff = Path(sys.executable).with_name("ruff")
    for command in (
        [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "regrain._native", "-o", made],
        [ruff, "format", "--quiet", "--config", root / "pyproject.toml", made],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert made.read_text() == (root / "src/regrain/_native.pyi").read_text(), "run `make stub`"
