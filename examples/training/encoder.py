# ruff: noqa: T201 - a script says how far it is by printing
"""Fine-tune all-MiniLM-L6-v2 while its weights are rounded, about two bits each at first: it learns to embed as before.

The planner alone does better on so few texts (docs/training.md); this is how a network with more of them would go.

python examples/training/encoder.py --out minilm.regrain.safetensors
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))

import torch
from minilm import metrics, splits
from minilm import model as encoder
from torch import nn

from regrain.training import AccuracyMonitor, Limit, Schedule, starting_recipe

STEP = 1.0  # of matrices, in their weights' root mean square: the geometric mean
RATE = 2e-5
DISTANCE = 0.02  # 1 - cosine to the original's embeddings, at most, on the mean


def main() -> None:
    """Round, fine-tune, store, and judge on texts that were not looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240, help="batches of 32 texts [240]")
    parser.add_argument("--out", type=Path, default=Path("minilm.regrain.safetensors"), help="artifact to write")
    parser.add_argument("--log", type=Path, default=Path("training.jsonl"), help="what changed when, as JSON lines")
    arguments = parser.parse_args()

    teacher, model = encoder.load(), encoder.load()
    batches = list(encoder.inputs(texts()))
    recipe = starting_recipe(model, step=STEP, backward=lambda: project(model, batches[:8]))
    seen = {split: encoder.embed_all(teacher, splits.mixture(split)) for split in ("search", "held_out")}

    def evaluate(student: nn.Module) -> dict[str, float]:
        return {"distance": distance(student, "search", seen["search"])}

    limit = Limit(threshold=DISTANCE, higher_is_better=False)
    schedule = Schedule(every=max(1, arguments.steps // 6), patience=2)
    monitor = AccuracyMonitor(model, evaluate, recipe, limit, schedule=schedule, path=arguments.log)
    print(f"distance before training: {monitor.check().metrics['distance']:.4f}")
    fine_tune(model, teacher, batches, arguments.steps, monitor)
    for record in monitor.log:
        print(f"step {record.step:4}  distance {record.metrics['distance']:.4f}  {record.bits:.3f} b/w  {record.state}")
    monitor.finish()
    monitor.compress(arguments.out, original=encoder.folder() / "model.safetensors", force=True)

    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {size / 1e6:.2f} MB, {8 * size / sum(p.numel() for p in model.parameters()):.3f} b/w")
    print(f"distance, held_out: {distance(model, 'held_out', seen['held_out']):.4f}")
    for name, network in (("before", teacher), ("after", model)):
        print(f"retrieval on audit, {name}: {metrics.retrieval(network, 'audit').value:.4f}")


def texts() -> tuple[str, ...]:
    """What is learned from: passages, news, reviews and words that no other split has."""
    passages = tuple(passage.text for passage in splits.passages("calibration"))
    return tuple(dict.fromkeys((*splits.mixture("calibration"), *passages)))


def fine_tune(
    model: nn.Module, teacher: nn.Module, batches: list[encoder.Batch], steps: int, monitor: AccuracyMonitor
) -> None:
    """Adam, its rate going down to 0 in a straight line; dropout stays off, as embeddings must be the teacher's."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / steps)
    model.eval()
    start = time.perf_counter()
    for step in range(steps):
        batch = batches[step % len(batches)]
        with torch.no_grad():
            wanted = encoder.embed(teacher, batch)
        loss = 1.0 - (encoder.embed(model, batch) * wanted).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        monitor.step()
    print(f"{steps} steps in {time.perf_counter() - start:.0f} s, evaluations included")


def project(model: nn.Module, batches: list[encoder.Batch]) -> None:
    """Gradients of random projections of the embeddings: what a change of a weight does to their distance."""
    torch.manual_seed(0)
    for batch in batches:
        embeddings = encoder.embed(model, batch)
        (embeddings * torch.randn_like(embeddings)).sum().backward()


def distance(model: nn.Module, split: str, wanted: torch.Tensor) -> float:
    """1 - the mean cosine of embeddings and the original's."""
    found = encoder.embed_all(model, splits.mixture(split))
    return 1.0 - (found * wanted).sum(dim=1).mean().item()


if __name__ == "__main__":
    main()
