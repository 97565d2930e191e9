"""Networks and artifacts that are run on the accelerator, made when they are first needed, in `build/models`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from lossy import models
from machine import describe

import regrain
from regrain.hw.machine import Machine
from regrain.hw.networks.adapting import Adapting
from regrain.hw.networks.layers import layers_of
from regrain.hw.networks.simulated import Simulated
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.models.task_file import load_task
from regrain.pipelines.evaluate import load_network
from regrain.pipelines.simulated_network import calibrated, prepared

__all__ = ["RESULTS", "SUBJECTS", "Subject", "describe", "examples", "on_the_machine"]

RESULTS = Path(__file__).parents[1] / "results" / "hw"
FASHION, RETRIEVAL = models.task("fashion_mnist/task.py"), models.task("minilm/retrieval.py")
TEXTS = models.task("minilm/task.py")
"""Of all lengths; those of retrieval are passages of 14 words."""
TRAINING = models.ROOT / "examples" / "training" / "fashion_mnist.py"


@dataclass(frozen=True)
class Subject:
    """A network's weights: of `task`, beside `original`, made by `make` into a file if they aren't that itself."""

    task: Path
    original: str
    how: str
    make: Callable[[Path], object] | None = None

    def file(self, name: str) -> Path:
        """Where the weights are, made now if they aren't there."""
        if self.make is None:
            return models.path(self.original)
        path = models.BUILD / f"{name.replace(' ', '-').replace(':', '-')}.regrain.safetensors"
        if not path.exists():
            self.make(path)
        return path


def _pruned(*patterns: str) -> Subject:
    """Within a point of accuracy, with 95 % confidence, by the command alone: nothing is trained."""
    return Subject(
        FASHION,
        "fashion_mnist",
        f"regrain compress --max-drop-abs 0.01 --objective work --patterns {','.join(patterns)}",
        lambda path: regrain.compress(
            *(models.path("fashion_mnist"), path),
            task=FASHION,
            max_drop_abs=0.01,
            objective="work",
            patterns=list(patterns),
        ),
    )


def _close(*patterns: str) -> Subject:
    """Within D of 0.02, with 95 % confidence."""
    return Subject(
        RETRIEVAL,
        "minilm",
        f"regrain compress --min-fidelity 0.98 --objective work --patterns {','.join(patterns)}",
        lambda path: regrain.compress(
            *(models.path("minilm"), path),
            task=RETRIEVAL,
            min_fidelity=0.98,
            objective="work",
            patterns=list(patterns),
        ),
    )


SUBJECTS = {
    "ResNet": Subject(FASHION, "fashion_mnist", "as trained"),
    "ResNet 16x1": _pruned("block:16x1"),
    "ResNet 16x8": _pruned("block:16x8"),
    "ResNet N:8": _pruned("4:8", "3:8", "2:8"),
    "ResNet 16x1 trained": Subject(
        FASHION,
        "fashion_mnist",
        "examples/training/fashion_mnist.py work",
        lambda path: subprocess.run([sys.executable, TRAINING, "work", "--out", path], check=True),
    ),
    "MiniLM": Subject(RETRIEVAL, "minilm", "as published"),
    "MiniLM 16x1": _close("block:16x1", "column"),
    "MiniLM N:8": _close("7:8", "6:8", "5:8", "4:8", "3:8"),
}


@contextmanager
def on_the_machine(name: str, machine: Machine) -> Iterator[tuple[Task, Network, list[Simulated]]]:
    """A subject's task, its network, and what stands in for each of its layers, as `regrain simulate` prepares them."""
    subject = SUBJECTS[name]
    job, path = load_task(subject.task), subject.file(name)
    network = load_network(Network(job.model()), path, 1)
    with torch.inference_mode():
        layers, _ = layers_of(network.model)
        known = calibrated(job, network.model, layers, lambda *_: None)
        simulated, _ = prepared(layers, known, network.model, path, Adapting(), machine)
        yield job, network, simulated


def examples(name: str, job: Task, count: int, tokens: int) -> Any:
    """Audit data for a call: the first `count` images; or texts of so many tokens, the first ones that are as long,
    cut.
    """
    if SUBJECTS[name].task == FASHION:
        return job.batches("audit")[0][:count]
    for batch in load_task(TEXTS).batches("audit"):
        long = batch["attention_mask"].sum(1) >= tokens
        if int(long.sum()) >= count:
            return {part: numbers[long][:count, :tokens] for part, numbers in batch.items()}
    raise ValueError(f"a batch must have {count} texts of {tokens} tokens, and none has")
