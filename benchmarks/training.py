"""What callbacks cost and give while a network trains: time beside plain training, work and bytes at the end.

python benchmarks/training.py time     # seconds of the same steps with and without a monitor, taking turns
python benchmarks/training.py goals    # both goals of examples/training/fashion_mnist.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "training"))

import fashion_mnist as example
import torch
from torch.nn.functional import cross_entropy

EPOCHS = 6  # of the training that is timed, as far as the monitor knows
ROUNDS = 5
TURN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "goals"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "time":
        print(json.dumps({goal: overhead(goal) for goal in ("work", "bytes")}, indent=1))
    else:
        for goal in ("work", "bytes"):
            sys.argv = [sys.argv[0], goal, "--out", f"{goal}.regrain.safetensors", "--log", f"{goal}.jsonl"]
            example.main()


def overhead(goal: str) -> dict[str, float]:
    """Seconds of a step with and without a monitor, taking turns of TURN steps, and of an evaluation; medians.

    `ratio` is that of all steps between two evaluations and one of these, to as many plain steps.
    """
    model, other = example.task.load_model(), example.task.load_model()
    monitor = example.monitored(model, goal, EPOCHS, None)
    every, turns = monitor.schedule.every, []
    for _ in range(ROUNDS):
        monitor.steps = 0  # no evaluation within a turn
        turns.append((seconds(other, lambda: None), seconds(model, monitor.step)))
    start = time.process_time()
    monitor.check()
    check = time.process_time() - start
    monitor.detach()
    plain, monitored = (median(turn) / TURN for turn in zip(*turns, strict=True))
    return {
        "plain": round(plain, 4),
        "monitored": round(monitored, 4),
        "evaluation": round(check, 2),
        "every": every,
        "ratio": round((every * monitored + check) / (every * plain), 3),
    }


def seconds(model: torch.nn.Module, stepped: Callable[[], None]) -> float:
    """Of TURN steps; those of the processor, which other programs change less than those of the clock."""
    images, labels = example.fashion.read("train")
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    model.train()
    start = time.process_time()
    for step in range(TURN):
        chosen = slice(step * example.BATCH, (step + 1) * example.BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(example.augment(images[chosen]))
        optimizer.zero_grad()
        cross_entropy(logits.float(), labels[chosen]).backward()
        optimizer.step()
        stepped()
    return time.process_time() - start


if __name__ == "__main__":
    main()
