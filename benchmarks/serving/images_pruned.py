"""Fine-tune the network of images.py with blocks dropped that integer products can skip, and store it.

python benchmarks/serving/images_pruned.py [--work FOLDER]

Blocks are of 16 output channels by 4 input channels at one place of the window. What is kept of each layer follows its
gradients, which blocks their squares; then examples/training/fashion_mnist.py's training goes on, with a monitor.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "training"))

import fashion_mnist as example
import torch

from regrain.training import AccuracyMonitor, Limit, Schedule, prunings_for_work, starting_recipe

SHARE = 0.4  # of the multiply-adds, to be left
EPOCHS = 10
ROWS, CHANNELS = 16, 4
NAME = "images.pruned.regrain.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/serving"), help="folder that the artifact is put into")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    model = example.task.load_model()
    before = {split: example.accuracy(model, split) for split in ("held_out", "audit")}
    work = example.work_of(model)
    start = time.process_time()
    monitor = monitored(model, work)
    example.fine_tune(model, EPOCHS, monitor.step)
    recipe = monitor.finish()
    monitor.compress(options.work / NAME, force=True)
    print(f"{time.process_time() - start:.0f} s, multiply-adds left: {example.work_left(model, work, recipe):.1%}")
    for split, was in before.items():
        now = example.accuracy(model, split)
        print(f"accuracy, {split}: {was:.2%} before, {now:.2%} after, {100 * (was - now):+.2f} points lost")


def monitored(model: torch.nn.Module, work: dict[str, int]) -> AccuracyMonitor:
    """The model with its blocks dropped; layers get back what the accuracy needs."""
    found = prunings_for_work(model, work, SHARE, "block:16x1", backward=lambda: example.gradients(model))
    weights = dict(model.named_parameters())
    maps = {name for name, weight in weights.items() if weight.dim() == 4 and weight.shape[1] > CHANNELS}
    prunings = {name: pruning for name, pruning in found.items() if name in maps}
    masks = {name: mask_of(weights[name], pruning.density or 1.0) for name, pruning in prunings.items()}
    every = 55_000 // example.BATCH // example.EVALUATIONS
    return AccuracyMonitor(
        model,
        example.evaluate,
        starting_recipe(model, step=None, prunings=prunings),
        Limit(max_drop_abs=example.DROP, room=example.ROOM),
        schedule=Schedule(every=every, patience=round(example.PATIENCE * EPOCHS * example.EVALUATIONS)),
        masks=masks,
        structured=True,
    )


def mask_of(weight: torch.Tensor, density: float) -> torch.Tensor:
    """The greatest blocks of a weight (rows, channels, height, width), as many as `density` says: True is kept."""
    rows, channels = weight.shape[:2]
    squares = weight.detach().square().reshape(rows // ROWS, ROWS, channels // CHANNELS, CHANNELS, -1).sum((1, 3))
    least = squares.flatten().sort(descending=True).values[round(density * squares.numel()) - 1]
    kept = (squares >= least)[:, None, :, None].expand(-1, ROWS, -1, CHANNELS, -1)
    return kept.reshape(weight.shape).contiguous()


if __name__ == "__main__":
    main()
