"""How long `regrain simulate` takes for a network of ResNet-18's size: python benchmarks/hw/simulating.py

One image of 224 x 224 through a residual network of that shape, all values computed; under each of its policies, on a
machine whose memories keep up. Weights are random, half of them dropped at random: nothing that time depends on is
theirs, save how the re-organized tiles look, which are the most irregular so. Processor seconds of a process with one
thread, calibration and the network itself in floats included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file
from subjects import RESULTS, describe
from torch import Tensor, nn

from regrain.hw.networks.adapting import Adapting
from regrain.models.task import Task, task_from
from regrain.pipelines.simulate import simulate

RESULT = RESULTS / "simulating.json"
POLICIES = ("static", "fine", "medium", "hardware", "ranked")
ROUNDS = 3
KEPT = 0.5


class Block(nn.Module):
    """Two convolutions of 3 x 3, and what they are given added to it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        past = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.past = nn.Sequential(*past) if inputs != outputs else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of `inputs` channels to maps of `outputs`."""
        return torch.relu(self.second(self.first(maps)) + self.past(maps))


def network() -> nn.Module:
    """11.7 million weights, 1.8 thousand million multiply-adds an image."""
    torch.manual_seed(0)
    parts: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        parts += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    whole = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)).eval()
    with torch.no_grad():
        for weight in whole.parameters():
            if weight.dim() > 1:
                weight *= torch.rand(weight.shape) < KEPT
    return whole


def task() -> Task:
    """One image to simulate, two to calibrate with."""

    def images(split: str) -> list[Tensor]:
        count = 2 if split == "calibration" else 1
        return [torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]

    return task_from(network, images, lambda model, batch: model(batch))


def seconds(policy: str, file: Path) -> tuple[float, int]:
    """Of the processor; and cycles of the accelerator."""
    began = time.process_time()
    found = simulate(file, task=task(), batches=1, adapting=Adapting.of(policy, KEPT), threads=1)
    return time.process_time() - began, found.cycles


def main() -> None:
    torch.set_num_threads(1)
    model, rows = network(), []
    times: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    cycles = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.safetensors"
        save_file(model.state_dict(), file)
        for turn in range(ROUNDS):
            for policy in POLICIES:
                spent, cycles[policy] = seconds(policy, file)
                times[policy].append(spent)
                print(
                    f"round {turn + 1}, {policy}: {spent:.2f} s, {cycles[policy]:,} cycles", file=sys.stderr, flush=True
                )
    for policy in POLICIES:
        rows.append(
            {"policy": policy, "seconds": median(times[policy]), "rounds": times[policy], "cycles": cycles[policy]}
        )
        print(f"{policy}: {median(times[policy]):.2f} s of the processor, {cycles[policy]:,} cycles")
    RESULT.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
