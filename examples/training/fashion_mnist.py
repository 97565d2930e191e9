# ruff: noqa: T201 - a script says how far it is by printing
"""Fine-tune the Fashion-MNIST ResNet so that it needs a fraction of its multiply-adds, or of its bytes.

python examples/training/fashion_mnist.py work     # blocks of 16 x 1 weights are dropped, then training goes on
python examples/training/fashion_mnist.py bytes    # weights are rounded, as coarsely as accuracy allows
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks" / "fashion_mnist"))

import fashion
import task
import torch
from resnet import ResNet
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from train import BATCH, WEIGHT_DECAY, augment, batches

import regrain
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import Recipe
from regrain.torch import load_file
from regrain.training import AccuracyMonitor, Limit, Schedule, multiply_adds, starting_recipe

RATE = 0.03
WORK = 0.248  # of the multiply-adds, to be left
STEP = 3.0  # of matrices, in their weights' root mean square: the geometric mean
DROP = 0.005  # of accuracy, in its own units
ROOM = 0.99  # of the limit, unused, would let a layer be tightened: what is to be dropped is dropped at the start
EVALUATIONS = 2  # an epoch
PATIENCE = 0.9
HEAT = 2.0


def main() -> None:
    """Fine-tune, store, judge on images that were not looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goal", choices=("work", "bytes"))
    parser.add_argument("--epochs", type=int, default=10, help="passes over the 55,000 images [10]")
    parser.add_argument("--out", type=Path, default=Path("resnet.regrain.safetensors"), help="artifact to write")
    parser.add_argument("--log", type=Path, default=Path("training.jsonl"), help="what changed when, as JSON lines")
    arguments = parser.parse_args()

    model = task.load_model()
    before = {split: accuracy(model, split) for split in ("held_out", "audit")}
    work = work_of(model)
    monitor = monitored(model, arguments.goal, arguments.epochs, arguments.log)
    fine_tune(model, arguments.epochs, monitor.step)
    print_log(monitor)
    recipe = monitor.finish()
    monitor.compress(arguments.out, force=True)

    weights = sum(tensor.numel() for tensor in model.state_dict().values() if tensor.is_floating_point())
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {size:,} bytes, {8 * size / weights:.3f} bits a weight")
    print(f"multiply-adds left: {work_left(model, work, recipe):.1%}")
    for split, was in before.items():
        now = accuracy(model, split)
        print(f"accuracy, {split}: {was:.2%} before, {now:.2%} after, {100 * (was - now):+.2f} points lost")


def monitored(model: ResNet, goal: str, epochs: int, log: Path | None) -> AccuracyMonitor:
    """The model, passing through a recipe for that goal."""
    # Accuracy is down as long as the rate is high: only what is still too low after PATIENCE of all steps counts.
    schedule = Schedule(every=55_000 // BATCH // EVALUATIONS, patience=round(PATIENCE * epochs * EVALUATIONS))
    baseline = evaluate(model)
    if goal == "bytes":
        recipe, limit = starting_recipe(model, step=STEP, backward=lambda: gradients(model)), Limit(max_drop_abs=DROP)
        return AccuracyMonitor(model, evaluate, recipe, limit, schedule=schedule, baseline=baseline, path=log)
    recipe = prune(model)
    state = model.state_dict()
    masks = {plan.name: state[plan.name] != 0 for plan in recipe.layers if plan.pruning is not None}
    return AccuracyMonitor(
        model,
        evaluate,
        recipe,
        Limit(max_drop_abs=DROP, room=ROOM),
        schedule=schedule,
        baseline=baseline,
        masks=masks,
        structured=True,
        path=log,
    )


def prune(model: ResNet) -> Recipe:
    """Drop all that is to be dropped, by the planner, with the other weights making up for it: where training starts.

    The recipe has what is pruned; other weights stay free.
    """
    with tempfile.TemporaryDirectory() as folder:
        original, pruned = Path(folder) / "original.safetensors", Path(folder) / "pruned.safetensors"
        regrain.restore(task.ARTIFACT, original)
        result = regrain.compress(
            original, pruned, task=task.__file__, max_work=WORK, objective="work", patterns=["block:16x1"]
        )
        model.load_state_dict(load_file(pruned))
    plans = {name: plan for name, plan in result.receipt["recipe"].items() if "pruning" in plan}
    prunings = {name: Pruning(Pattern("block:16x1"), plan["pruning"]["density"]) for name, plan in plans.items()}
    return starting_recipe(model, step=None, prunings=prunings)


def fine_tune(model: nn.Module, epochs: int, stepped: Callable[[], None], steps: int | None = None) -> float:
    """Learn from labels and from the original; the seconds that it took. `steps` ends it sooner.

    SGD, whose rate goes from RATE to 0 along a cosine.
    """
    torch.manual_seed(0)
    images, labels = fashion.read("train")
    teacher = task.load_model().to(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(images) // BATCH))
    start, done = time.perf_counter(), 0
    for _ in range(epochs):
        model.train()
        for chosen in batches(len(images)):
            shown = augment(images[chosen])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(shown)
                with torch.no_grad():
                    taught = teacher(shown)
            loss = loss_of(logits.float(), taught.float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            stepped()
            done += 1
            if done == steps:
                return time.perf_counter() - start
    model.eval()
    return time.perf_counter() - start


def loss_of(logits: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    """Half from the labels, half from the teacher (Hinton, Vinyals and Dean, 2015)."""
    mine, theirs = ((each / HEAT).log_softmax(1) for each in (logits, taught))
    soft = kl_div(mine, theirs, log_target=True, reduction="batchmean")
    return 0.5 * cross_entropy(logits, labels) + 0.5 * HEAT**2 * soft


def gradients(model: nn.Module) -> None:
    """Those of a few batches, from the model as it is."""
    images, labels = fashion.read("train")
    for some, those in zip(images[: 8 * BATCH].split(BATCH), labels[: 8 * BATCH].split(BATCH), strict=True):
        cross_entropy(model(some), those).backward()


def evaluate(model: nn.Module) -> dict[str, float]:
    """Accuracy on 3,000 images that are neither trained on nor judged on."""
    return {"accuracy": accuracy(model, "calibration", "search")}


@torch.inference_mode()
def accuracy(model: nn.Module, *splits: str) -> float:
    """The fraction of the splits' images that the model labels right."""
    right = [
        model(some).argmax(1) == those
        for images, labels in map(fashion.read, splits)
        for some, those in zip(images.split(500), labels.split(500), strict=True)
    ]
    return torch.cat(right).double().mean().item()


def work_of(model: nn.Module) -> dict[str, int]:
    """Multiply-adds of each weight for one image."""
    return multiply_adds(model, lambda: model(torch.zeros(1, 1, fashion.SIDE, fashion.SIDE)))


def work_left(model: nn.Module, work: dict[str, int], recipe: Recipe) -> float:
    """The fraction of multiply-adds whose weight was not dropped by a pruning."""
    state, pruned = model.state_dict(), {plan.name for plan in recipe.layers if plan.pruning is not None}
    kept = {name: (state[name] != 0).double().mean().item() if name in pruned else 1.0 for name in work}
    return sum(macs * kept[name] for name, macs in work.items()) / sum(work.values())


def print_log(monitor: AccuracyMonitor) -> None:
    """One line an evaluation, and one for each change."""
    for record in monitor.log:
        metrics = ", ".join(f"{name} {value:.2%}" for name, value in record.metrics.items())
        print(f"step {record.step:5}  {metrics}  {record.state:8} {record.bits:6.3f} b/w, {record.density:.1%} kept")
        for change in record.changes:
            print(f"    {change.direction}: {change.name}: {change.before} -> {change.after} ({change.why})")


if __name__ == "__main__":
    main()
