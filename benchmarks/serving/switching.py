"""Latency while layouts are switched, beside the same without switches: all-MiniLM-L6-v2, half of its blocks kept.

python benchmarks/serving/switching.py
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks"))

import numpy as np
import results
import torch
from minilm import model as encoder

from regrain.policies import POLICIES, Decision, Matrix, Observation, State
from regrain.runtime import attach, calibrate

SHAPES = ((1, 16, 400), (1, 128, 160))
"""Sentences, tokens, and calls in a turn."""

TURNS = 6


@dataclass(frozen=True)
class Restless:
    """Other blocks after every observation: as many switches as the reorganizer makes."""

    name: str = "restless"

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        """As `ranked` does."""
        return POLICIES["ranked"].start(matrix)

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision]:
        """Ranked by variances that chance has changed. A little less is kept each time, so that nothing is given up."""
        chance = np.random.default_rng(round(1e9 * state.current.density))
        variance = matrix.variance * chance.uniform(0.5, 2.0, matrix.channels)
        decision = replace(state.current, variance=variance, density=state.current.density * 0.9999)
        return replace(state, current=decision, since=observation.count), decision


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        models = {name: encoder.load() for name in ("ranked, fixed", "switching")}
        known = calibrate(models["switching"], lambda: (encoder.embed(models["switching"], batch(8, 64, seed))
                                                        for seed in range(4)), density=0.5)  # fmt: skip
        fixed = attach(models["ranked, fixed"], policy="static", calibration=known)
        restless = attach(models["switching"], policy=Restless(), calibration=known)
        for sentences, tokens, calls in SHAPES:
            x = batch(sentences, tokens, 99)
            seconds: dict[str, list[float]] = {name: [] for name in models}
            made = 0
            for turn in range(TURNS + 1):  # the first doesn't count
                for name, model in models.items():
                    restless.settle()
                    before = switches(restless)
                    taken = timed(model, x, calls)
                    if turn:
                        seconds[name] += taken
                        made += switches(restless) - before
            row = {"sentences": sentences, "tokens": tokens, "switches": made}
            for name, taken in seconds.items():
                row |= {f"{name}, median ms": 1e3 * float(np.median(taken)),
                        f"{name}, p99 ms": 1e3 * float(np.percentile(taken, 99))}  # fmt: skip
            for what in ("median", "p99"):
                row[f"{what} ratio"] = row[f"switching, {what} ms"] / row[f"ranked, fixed, {what} ms"]
            rows.append(row)
            print(row, flush=True)
        fixed.detach()
        restless.detach()
    results.keep("switching", ("sentences", "tokens"), rows)


def batch(sentences: int, tokens: int, seed: int) -> encoder.Batch:
    """Token ids by chance."""
    ids = torch.randint(1000, 20000, (sentences, tokens), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def timed(model: torch.nn.Module, x: encoder.Batch, calls: int) -> list[float]:
    """Seconds of each call."""
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        encoder.embed(model, x)
        taken.append(time.perf_counter() - start)
    return taken


def switches(attachment: object) -> int:
    """Made so far."""
    return sum(engine.adaptation.switches for engine in attachment.engines.values() if engine.adaptation)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
