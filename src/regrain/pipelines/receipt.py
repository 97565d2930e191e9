"""The receipt: what was done to a model, why, and what it did, as JSON that goes into the artifact.

What differs from run to run (seconds, memory, latency) is kept apart: the same input gives the same artifact.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regrain import __version__
from regrain.accuracy import Budget, Verdict
from regrain.core.recipe import LayerPlan, Method
from regrain.core.scores import Scores
from regrain.pipelines.channels import leftover
from regrain.pipelines.receipt_texts import command, why
from regrain.pipelines.session import Session
from regrain.pipelines.slim import Cut, stored_bytes
from regrain.planning.build import Built
from regrain.planning.evaluate import Measured
from regrain.planning.evidence import setting_json
from regrain.planning.layer import Layer
from regrain.planning.search import Point, Search
from regrain.planning.solve import Objective
from regrain.profiling import DEFAULT_BLOCK, profile_tensor

if TYPE_CHECKING:
    import torch

    from regrain.profiling.activations import Inputs

BINS = 24
"""Bars of a layer's histogram."""

DRAWN = 2048
"""Weights of a tensor from which on it gets one, and all its statistics."""

CURVE = 28
"""Points of the predicted frontier."""

ROUNDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Judgment:
    """One recipe on the held-out data: its predicted loss as a fraction of the best point's, and that point's number if
    it is the one.
    """

    step: float
    point: int | None
    measured: Measured
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """All looks at held-out data, and what came of them: "met" or "lossless". `point` is the search's point that was
    accepted, None for one of the safer ones.
    """

    outcome: str
    judgments: tuple[Judgment, ...]
    point: Point | None

    @property
    def accepted(self) -> Judgment | None:
        """The look that the result rests on: the last that did not fail."""
        kept = [one for one in self.judgments if one.verdict is None or one.verdict.ok]
        return kept[-1] if kept else None


def receipt_of(
    session: Session,
    search: Search,
    budget: Budget,
    judged: Verdicts,
    plans: Mapping[str, LayerPlan],
    built: Mapping[str, Built],
    cut: Cut,
    *,
    replayed: bool = False,
) -> dict[str, Any]:
    """The receipt, all numbers finite and rounded to what they are worth."""
    layers = session.evidence.layers
    stored = {name: stored_bytes(layer, built[name], cut) for name, layer in layers.items()}
    size = session.candidate.size(built) - sum(
        (built[name].size or layers[name].lossless) - stored[name] for name in stored
    )
    weights = session.weights
    channels = () if cut.rows else leftover(session, plans, built).channels
    limits = replace(search.budget, confidence=budget.confidence)
    document = {
        "mode": "lossy" if any(one.form is not None for one in built.values()) else "lossless",
        "model": {
            "bytes": session.original_bytes,
            "tensors": sum(len(source.header.entries) for source in session.sources),
            "sha256": session.model_sha256,
            "weights": weights,
        },
        "task": {
            "name": session.task.name,
            "sha256": session.task.sha256,
            "kind": session.candidate.evaluator.kind,
            "calibration_batches": session.evidence.examples,
            "search_rows": session.candidate.evaluator.examples,
        },
        "budget": budget.to_json(),
        "guard": search.budget.min_fidelity if search.budget is not budget else None,
        "outcome": judged.outcome,
        "sizes": {
            "original": session.original_bytes,
            "artifact": size,
            "lossless": session.lossless_bytes,
            "bits_per_weight": 8 * size / weights,
            "original_bits_per_weight": 8 * session.original_bytes / weights,
        },
        "judgement": [_judgment(one, session, limits, one is judged.accepted) for one in judged.judgments],
        "frontier": _frontier(session, search, judged),
        **_predicted(session, search),
        "seed": session.setting.seed,
        "work": {"original": session.evidence.work, "artifact": session.candidate.work(built)},
        **_how(session),
        **({"slim": _slim(session, cut)} if cut.rows else {}),
        **({"channels": [one.to_json() for one in channels]} if channels else {}),
        "setting": setting_json(session.setting),
        "recipe": {name: plan.to_json() for name, plan in plans.items()},
        "layers": [_layer(session, layer, plans[name], built[name], stored[name]) for name, layer in layers.items()],
        "notes": list(session.warnings),
        "regrain": __version__,
        "command": command(session, budget, replayed=replayed),
    }
    found: dict[str, Any] = json.loads(json.dumps(_rounded(document), allow_nan=False))
    return found


def _how(session: Session) -> dict[str, Any]:
    """What was minimized, by whom, and how weights could be pruned."""
    how = session.options.to_json()
    costs = {} if session.costs is None else session.costs.to_json()
    return {**how, "objective": {"minimized": how["objective"], **costs}}


def _slim(session: Session, cut: Cut) -> dict[str, int]:
    """What was removed: channels, and the floating-point weights that are left."""
    entries = {name: entry for source in session.sources for name, entry in source.header.entries.items()}
    gone = sum(math.prod(entries[name].shape) - math.prod(cut.shape(name, entries[name].shape)) for name in cut.touched)
    channels = sum(entries[name].shape[1] - kept.size for name, kept in cut.columns.items())
    return {"channels": channels, "weights": session.weights - gone}


def measured_json(
    session: Session, path: Path, after: torch.nn.Module, seconds: float, phases: Mapping[str, float], memory: int
) -> dict[str, Any]:
    """What was measured on this machine; `after` is the model with the artifact's weights. The session's network holds
    the original's in the end.
    """
    return {
        "cost": {"seconds": seconds, "phases": dict(phases), "peak_memory_bytes": memory},
        "latency": _latency(session, path, after),
        "threads": session.threads,
    }


def _latency(session: Session, path: Path, model: torch.nn.Module) -> dict[str, Any]:
    import regrain.torch

    batch = session.task.batches("calibration")[0]

    after = _median(lambda: session.task.outputs(model, batch))
    session.candidate.take_out()
    before = _median(lambda: session.task.outputs(session.network.model, batch))
    return {
        "before_ms": before,
        "after_ms": after,
        "batch": "the first calibration batch",
        "load_ms": _median(lambda: regrain.torch.load_file(path, threads=session.threads)),
        "plain_load_ms": _median(lambda: [regrain.torch.load_file(one) for one in session.layout.paths()])
        if all(one.suffix == ".safetensors" for one in session.layout.paths())
        else None,
    }


def _median(run: Any) -> float:
    """Milliseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _judgment(one: Judgment, session: Session, budget: Budget, accepted: bool) -> dict[str, Any]:
    return {
        "split": "held_out",
        "accepted": accepted,
        "step": one.step,
        "point": one.point,
        "ok": None if one.verdict is None else one.verdict.ok,
        "checks": None if one.verdict is None else [str(check) for check in one.verdict.checks],
        "metrics": _metrics(one.measured, session, budget),
        "fidelity": _fidelity(one.measured, budget),
    }


def _metrics(measured: Measured, session: Session, budget: Budget) -> list[dict[str, Any]]:
    found = []
    for name, drop in measured.drops.items():
        baseline = session.candidate.evaluator.baseline[name]
        limits = [] if budget.max_drop is None else [budget.max_drop * abs(drop.before)]
        limits += [] if budget.max_drop_abs is None else [budget.max_drop_abs]
        higher = baseline.higher_is_better if isinstance(baseline, Scores) else True
        found.append({"name": name, **drop.to_json(), "limit": min(limits, default=None), "higher_is_better": higher})
    return found


def _fidelity(measured: Measured, budget: Budget) -> dict[str, Any]:
    fidelity = measured.fidelity
    upper = fidelity.loss(budget.confidence).upper
    return {
        "kind": fidelity.kind,
        "n": fidelity.n,
        "D": fidelity.D,
        "D_upper": upper if fidelity.kind == "embeddings" else None,
        "kl": fidelity.kl,
        "kl_upper": upper if fidelity.kind == "logits" else None,
        "top1": fidelity.top1,
        "neighbor_overlap": fidelity.neighbor_overlap,
    }


def _frontier(session: Session, search: Search, judged: Verdicts) -> list[dict[str, Any]]:
    """Every point that was evaluated on the search data, lossless among them."""
    weights = session.weights
    points: list[dict[str, Any]] = [
        {
            "point": None,
            "bits_per_weight": 8 * session.lossless_bytes / weights,
            "bytes": session.lossless_bytes,
            "predicted_loss": 0.0,
            "predicted_D": 0.0,
            "D": 0.0,
            "metrics": {},
            "work": session.evidence.work,
            "feasible": True,
            "chosen": judged.point is None and judged.outcome == "lossless",
            "lossless": True,
        }
    ]
    for point in search.points:
        points.append(  # noqa: PERF401
            {
                "point": point.number,
                "bits_per_weight": 8 * point.nbytes / weights,
                "bytes": point.nbytes,
                "predicted_loss": point.loss,
                "predicted_D": point.predicted,
                "D": point.measured.fidelity.value,
                "metrics": {
                    name: {
                        "after": drop.after,
                        "relative": drop.relative if drop.before else None,
                        "upper": drop.relative_upper,
                    }
                    for name, drop in point.measured.drops.items()
                },
                "work": point.work,
                "feasible": point.ok,
                "chosen": judged.point is point,
                "lossless": False,
            }
        )
    return points


def _predicted(session: Session, search: Search) -> dict[str, list[list[float]]]:
    """Bits per weight and loss that candidates promise, corrected by what was measured, from fine to coarse; with
    percents of the multiply-adds where these were minimized.
    """
    overhead, original = session.candidate.size({}), session.evidence.work
    sizes, works = [], []
    for loss in np.geomspace(1e-5, 0.3, CURVE):
        solution = session.solver.for_loss(float(loss))
        expected = solution.loss * search.correction(solution.loss)
        sizes.append([8 * (overhead + solution.bytes) / session.weights, expected])
        works.append([100 * solution.work / max(1, original), expected])
    found = {"predicted_frontier": sizes}
    return found | {"predicted_work": works} if session.options.objective is Objective.WORK else found


def _layer(session: Session, layer: Layer, plan: LayerPlan, built: Built, size: int) -> dict[str, Any]:
    """One tensor of the original, and the bytes of what is stored of it."""
    words = layer.weights.view(np.uint32).reshape(-1)
    found = profile_tensor(layer.name, "F32", layer.shape, words, DEFAULT_BLOCK)
    met = session.evidence.inputs.get(layer.name)
    statistics = {"std": found.std, "absmax": found.absmax}
    if layer.count >= DRAWN:
        statistics |= {
            "kurtosis": found.kurtosis,
            "exponent_entropy": found.exponent_entropy,
            "int8_entropy": found.int8_entropy,
            "sparsity": found.sparsity,
            **_of_inputs(met),
        }
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "kind": layer.kind,
        "weights": layer.count,
        "granularity": _granularity(plan),
        "pruning": None if plan.pruning is None else plan.pruning.to_json(),
        "density": _digits(built.density),
        "work": layer.work,
        "cell": None if plan.cell is None else list(plan.cell.size(*layer.weights.shape)),
        "scheme": _scheme(plan),
        "step": plan.step,
        "bits": _digits(8 * size / layer.count) if layer.count else 0.0,
        "bytes": size,
        "predicted_loss": _digits(built.loss),
        "sensitivity": _digits(layer.factors.trace),
        "why": why(layer, plan),
        "statistics": {key: _digits(value) for key, value in statistics.items()},
        "histogram": _histogram(layer),
    }


def _granularity(plan: LayerPlan) -> str:
    """What is kept or dropped together, or else shares a step."""
    if plan.pruning is not None:
        return plan.pruning.pattern.name.partition(":")[0] if plan.pruning.pattern.among is None else "fine"
    return plan.cell.name.partition(":")[0] if plan.cell is not None else "fine"


def _scheme(plan: LayerPlan) -> str:
    if plan.pruning is None:
        return "lossless" if plan.method is Method.LOSSLESS else "quantized"
    return "pruned" if plan.method is Method.PRUNE else "pruned, quantized"


def _histogram(layer: Layer) -> dict[str, list[float]] | None:
    """Ends of bins of equal width, and counts as shares of the highest, 0 to 99: a picture. Small tensors have none, as
    their receipts would outweigh them.
    """
    if layer.count < DRAWN or not np.isfinite(layer.weights).all():
        return None
    counts, edges = np.histogram(layer.weights, BINS)
    shares = np.rint(99 * counts / counts.max()).astype(int)
    return {"edges": [_digits(float(edges[0])), _digits(float(edges[-1]))], "counts": shares.tolist()}


def _digits(value: float | None) -> float | None:
    """Three significant digits."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.3g}")


def _of_inputs(met: Inputs | None) -> dict[str, float]:
    if met is None:
        return {}
    return {"input_mean": float(met.mean.mean()), "input_variance": float(met.variance.mean())}


def _rounded(value: Any) -> Any:
    """Six significant digits, for people; sizes are whole anyway."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, np.generic):
        return _rounded(value.item())
    return value
