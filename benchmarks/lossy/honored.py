"""Are budgets kept, and is nothing wasted? Whole runs of the command, scored on the audit split that it never sees.

For each model, seed and budget: compress, load the artifact, measure drop and fidelity on the audit split. Beside it
the audit frontier: recipes of the same candidates over a range of losses, each measured on the audit split, whose
smallest that keeps the budget there is what an oracle would have taken. Of the pairs of words that people judged, each
seed has another fifth for audit. Written to benchmarks/results/lossy after every run, so that it goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import machine
import numpy as np
from lossy import models

from regrain.accuracy import Budget
from regrain.models import open_any
from regrain.models.network import Network
from regrain.models.task_file import load_task
from regrain.pipelines.budgeted import compress_within
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.session import prepare
from regrain.planning.evaluate import Evaluator, Measured
from regrain.planning.evidence import load_weights
from regrain.planning.search import Candidate, guarded
from regrain.planning.store import Store

TARGETS = tuple(float(x) for x in np.geomspace(2e-4, 0.06, 12))
"""Predicted losses of the audit frontier."""

WIDE = tuple(float(x) for x in np.geomspace(8e-5, 0.3, 18))
"""The same, as far as other tools go."""


USUAL = 0.95
"""Confidence of budgets that say nothing else."""


@dataclass(frozen=True)
class Case:
    """Budgets of one model with one task. `file` is how the name of its results begins; without `targets` there is no
    frontier: a small one of a large model takes longer than the run itself.
    """

    file: str
    name: str
    model: str
    task: str
    budgets: tuple[Budget, ...]
    seeds: tuple[int, ...]
    targets: tuple[float, ...] = TARGETS


CASES = (
    Case(
        "honored",
        "Fashion-MNIST ResNet",
        "fashion_mnist",
        "fashion_mnist/task.py",
        (
            Budget(max_drop_abs=0.02),
            Budget(max_drop_abs=0.005),
            Budget(max_drop_abs=0.01),
            Budget(min_fidelity=0.999),
            Budget(min_fidelity=0.995),
            Budget(min_fidelity=0.98),
        ),
        (0, 1, 2, 3, 4, 5),
    ),
    Case(
        "honored",
        "MiniLM, fidelity",
        "minilm",
        "minilm/task.py",
        (Budget(min_fidelity=0.9995), Budget(min_fidelity=0.995), Budget(min_fidelity=0.98)),
        (0,),
        WIDE,
    ),
    Case(
        "honored",
        "MiniLM, retrieval",
        "minilm",
        "minilm/retrieval.py",
        (Budget(max_drop=0.01), Budget(max_drop=0.02)),
        (0,),
    ),
    Case(
        "honored-similarity",
        "MiniLM, similarity",
        "minilm",
        "minilm/similarity.py",
        (Budget(max_drop=0.01, confidence=0.8),),
        (0, 1, 2, 3, 4),
        (0.005, 0.011, 0.03),
    ),
    Case("honored-smollm2", "SmolLM2-135M", "smollm2", "smollm2/task.py", (Budget(min_fidelity=0.97),), (0,), ()),
)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="a part of a case's name")
    parser.add_argument("--work", type=Path, default=models.ROOT / "build" / "honored")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    for case in CASES:
        if options.only and options.only.lower() not in case.name.lower():
            continue
        out = models.ROOT / "benchmarks" / "results" / "lossy" / f"{case.file}-{machine.kind()}.json"
        for seed in case.seeds:
            os.environ["MINILM_FOLD"] = str(seed % 5)
            done = _read(out)["runs"]
            missing = [budget for budget in case.budgets if _key(case, seed, budget) not in done]
            for key, run in _runs(case, seed, missing, options.work, options.threads) if missing else ():
                found = _read(out)
                found["runs"][key] = run
                out.write_text(json.dumps(found, indent=1) + "\n")
                shown = {k: v for k, v in run.items() if k not in ("frontier", "search", "metrics", "fidelity")}
                print(key, json.dumps(shown), flush=True)
        print(f"{out.name}: {summary(_read(out))}")


def _read(file: Path) -> dict[str, Any]:
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    return {"machine": machine.describe(), "runs": {}}


def _key(case: Case, seed: int, budget: Budget) -> str:
    limits = {name: value for name, value in budget.to_json().items() if value is not None}
    if budget.confidence == USUAL:
        del limits["confidence"]
    return f"{case.name} | {seed} | {json.dumps(limits)}"


def _runs(
    case: Case, seed: int, budgets: list[Budget], work: Path, threads: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    model, task = models.path(case.model), models.task(case.task)
    options = Options(seed=seed, work=work, threads=threads)
    work.mkdir(parents=True, exist_ok=True)
    audit: Evaluator | None = None
    for budget in budgets:
        start = time.perf_counter()
        file = work / f"{case.file}-{seed}.regrain.safetensors"
        result = compress_within(model, file, task=task, budget=budget, options=options, force=True)
        seconds = time.perf_counter() - start
        if audit is None:
            audit = _audit(model, task, work / f"audit-{case.file}-{seed}")
            frontier = list(_frontier(case, model, task, options, audit)) if case.targets else []
        models.load(audit.network, result.path)
        measured = audit.measured(audit.raw(), budget.confidence)
        load_weights(audit.network, [open_any(model)])
        # The estimate itself is what must keep the budget here, and what the oracle goes by: confidence 0.5.
        limits = replace(guarded(budget, audit.kind, bool(audit.baseline)), confidence=0.5)
        size, weights = result.path.stat().st_size, result.artifact.weights
        oracle = _oracle([(nbytes, point.verdict(limits).margin) for nbytes, point in frontier])
        verdict = measured.verdict(limits) if result.outcome == "met" else None
        yield (
            _key(case, seed, budget),
            {
                "outcome": result.outcome,
                "bytes": size,
                "bits_per_weight": 8 * size / weights,
                "kept": verdict is None or verdict.ok,
                "worst": None if verdict is None else str(verdict.worst),
                "loss": measured.fidelity.value,
                "fidelity": measured.fidelity.to_json(budget.confidence),
                "metrics": {name: drop.to_json() for name, drop in measured.drops.items()},
                "oracle_bits_per_weight": None if oracle is None else 8 * oracle / weights,
                "over_oracle": None if oracle is None else 8 * (size - oracle) / weights,
                "seconds": seconds,
                "phases": result.measured["cost"]["phases"],
                "peak_memory_bytes": result.measured["cost"]["peak_memory_bytes"],
                "search": [
                    [point["bits_per_weight"], point["predicted_D"], point["D"]] for point in result.receipt["frontier"]
                ],
                "frontier": [[8 * nbytes / weights, point.fidelity.value] for nbytes, point in frontier],
                "frontier_drops": [
                    {name: drop.to_json() for name, drop in point.drops.items()} for _, point in frontier
                ],
            },
        )


def _audit(model: Path, task: Path, store: Path) -> Evaluator:
    """The original on the audit split."""
    job = load_task(task)
    network = Network(job.model())
    load_weights(network, [open_any(model)])
    return Evaluator(network, job, "audit", Store(store))


def _frontier(
    case: Case, model: Path, task: Path, options: Options, audit: Evaluator
) -> Iterator[tuple[int, Measured]]:
    """Bytes and what the audit split says, of the best recipe for each predicted loss."""
    session = prepare(model, task, options, Listener())
    candidate = Candidate(session.evidence, audit, audit.store, session.candidate.builder)
    for target in case.targets:
        plans = {plan.name: plan for plan in session.solver.for_loss(target).plans}
        _, nbytes, raw = candidate.evaluate(plans)
        yield nbytes, audit.measured(raw, USUAL)


def _oracle(points: list[tuple[int, float]]) -> float | None:
    """Bytes at which the margin (measured over allowed) is just 1, between two points of the frontier: the logarithm of
    the margin is taken for a straight line of the size. None if it never is.
    """
    points = sorted(points)
    kept = [at for at, (_, margin) in enumerate(points) if margin <= 1.0]
    if not kept:
        return None
    first = kept[0]
    if first == 0:
        return float(points[0][0])
    (below, over), (above, within) = points[first - 1], points[first]
    share = np.log(over) / (np.log(over) - np.log(max(within, 1e-3)))
    return float(below + share * (above - below))


def summary(found: dict[str, Any]) -> str:
    """The two figures that matter."""
    runs = list(found["runs"].values())
    kept = sum(run["kept"] for run in runs)
    near = sum(run["over_oracle"] is not None and run["over_oracle"] <= 0.3 for run in runs)
    return (
        f"{kept} of {len(runs)} runs kept the budget on the audit split; {near} within 0.3 bits a weight of the oracle"
    )


if __name__ == "__main__":
    main()
