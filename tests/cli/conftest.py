"""Small models, and two ways of running the command: in this process, and for real."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

COMMAND = [sys.executable, "-c", "from regrain.cli import main; main()"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = {
        "encoder.layer.0.attention.self.query.weight": rng.normal(size=(96, 96)).astype(np.float32),
        "encoder.layer.0.attention.self.query.bias": np.zeros(96, np.float32),
        "[red]names are no markup[/red] :smile:": rng.normal(size=(64, 64)).astype(np.float16),
        "ids": np.arange(512, dtype=np.int64),
    }
    tensors["tied"] = tensors["encoder.layer.0.attention.self.query.weight"]
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the task in tiny.py, trained."""
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    make = runpy.run_path(str(Path(__file__).with_name("tiny.py")))["trained"]
    safetensors.torch.save_file(make().state_dict(), path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Run the command in this process; a terminal of `width` columns, without colors."""

    def invoke(*arguments: str | Path, width: int = 80) -> Result:
        from regrain.cli.app import app

        monkeypatch.setenv("COLUMNS", str(width))
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="regrain")

    return invoke


@pytest.fixture
def shell():
    """Run the command as a process of its own; its pipes are no terminal."""

    def execute(*arguments: str | Path, warnings: str = "error") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env=environment() | {"PYTHONWARNINGS": warnings},
        )

    return execute


def environment() -> dict[str, str]:
    """This process's, with warnings as errors, so that none is missed in a process of its own."""
    return os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "80"}
