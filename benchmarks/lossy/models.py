"""The models that lossy compression is measured on, as plain files, and their tasks."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

import regrain
import regrain.numpy
from regrain.models.network import Network

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "examples" / "tasks"
BUILD = ROOT / "build" / "models"


def task(name: str) -> Path:
    """A task file by its path below examples/tasks."""
    return TASKS / name


@cache
def path(name: str) -> Path:
    """The plain weights of a model: `fashion_mnist`, `minilm` or `smollm2` (exported when it is first needed)."""
    BUILD.mkdir(parents=True, exist_ok=True)
    if name == "fashion_mnist":
        file = BUILD / "fashion_mnist.safetensors"
        if not file.exists():
            regrain.restore(TASKS / "fashion_mnist" / "resnet.regrain.safetensors", file)
        return file
    if name == "minilm":
        sys.path.insert(0, str(TASKS))
        found: Path = runpy.run_path(str(TASKS / "minilm" / "model.py"))["folder"]() / "model.safetensors"
        return found
    folder = Path(os.environ.get("SMOLLM2", BUILD / "smollm2"))
    os.environ["SMOLLM2"] = str(folder)  # its task looks there
    if not (folder / "model.safetensors").exists():
        subprocess.run([sys.executable, TASKS / "smollm2" / "export.py", folder], check=True)
    return folder / "model.safetensors"


def load(network: Network, artifact: Path) -> None:
    """Put an artifact's weights into a network."""
    for name, array in regrain.numpy.load_file(artifact).items():
        if network.same.get(name, name) in network.places:
            network.set(name, np.array(array, np.float32))
