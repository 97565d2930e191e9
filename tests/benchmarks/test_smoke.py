"""The benchmarks run, and their tables can be made. No time is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ["size", "import"]


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, str(root / "benchmarks" / "run.py"), "--quick", "--folder", str(folder), *NAMES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout, folder


def test_tables_are_shown(done: tuple[str, Path]) -> None:
    shown, _ = done
    for words in ("Bits per weight", "all-MiniLM-L6-v2, bf16", "`import regrain`", "Goals"):
        assert words in shown


def test_regrain_is_smaller_than_its_peers(done: tuple[str, Path]) -> None:
    """The only figure that does not depend on the machine."""
    sizes = json.loads((done[1] / "size.json").read_text())["models"]["minilm-bf16"]["sizes"]
    assert sizes.pop("regrain") < min(sizes.values())


def test_unknown_benchmark_is_named(root: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "run.py"), "speed"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert "not 'speed'" in run.stderr


def test_document_has_a_place_for_the_tables(root: Path) -> None:
    text = (root / "docs" / "benchmarks.md").read_text()
    begin, end = "<!-- begin: written by benchmarks/report.py -->", "<!-- end -->"
    assert text.count(begin) == text.count(end) == 1
    assert text.index(begin) < text.index(end)
