"""What README.md shows must work: its Python runs here, and its commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PYTHON = "\n".join(code for language, code in BLOCKS if language == "python")
SHELL = "\n".join(code for language, code in BLOCKS if language in ("sh", "bash", "shell", "console"))


def lines(program: str) -> list[list[str]]:
    """The arguments of every line of the README's shell blocks that calls `program`."""
    found = re.findall(rf"^(?:\$ )?{program} (.*)$", SHELL, re.MULTILINE)
    return [line.split("#")[0].split() for line in found]


@cache
def help_of(*command: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("regrain"), *command, "--help"],
        capture_output=True, text=True, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_python_runs(tmp_path: Path) -> None:
    """All blocks in order, as one program, beside a `model.safetensors`."""
    assert PYTHON, "README.md must show some Python"
    rng = np.random.default_rng(0)
    model = {
        "encoder.weight": rng.standard_normal((256, 128), np.float32).astype(ml_dtypes.bfloat16),
        "encoder.bias": rng.standard_normal(256, np.float32),
    }
    safetensors.numpy.save_file(model, tmp_path / "model.safetensors")
    done = subprocess.run([sys.executable, "-c", PYTHON], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_exist() -> None:
    commands = lines("regrain")
    assert commands, "README.md must show some commands"
    for verb, *arguments in commands:
        if verb == "--help":
            continue
        assert re.search(rf"^\W*{verb}\b", help_of(), re.MULTILINE), f"regrain must have the command {verb!r}"
        for option in (argument.split("=")[0] for argument in arguments if argument.startswith("-")):
            assert re.search(rf"(?<![\w-]){option}\b", help_of(verb)), f"regrain {verb} must have the option {option!r}"


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = {words[0] for words in lines("make") if words} | set(re.findall(r"`make ([a-z]+)`", README))
    assert shown <= set(targets), shown - set(targets)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), f"README.md links to {target}, which must exist"


@pytest.mark.parametrize("document", ["DESIGN.md", "CONTRIBUTING.md"])
def test_links_of_documents(document: str) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), f"{document} links to {target}, which must exist"
