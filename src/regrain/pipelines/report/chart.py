"""What the chart of size against loss shows: points, what was predicted, what was written, and the budget."""

from __future__ import annotations

import math

from regrain.pipelines.report.numbers import DISTANCE, DIVERGENCE
from regrain.pipelines.report.receipt import Metric, Receipt


def chart(receipt: Receipt) -> dict[str, object]:
    """JSON for the page's script. Points without a size can't be drawn."""
    points = _points(receipt) + _written(receipt)
    by_work = receipt.minimized == "work" and all(point["work"] is not None for point in points)
    return {
        "across": "work" if by_work else "bits",
        "frontier": points,
        "predicted": [list(pair) for pair in (receipt.predicted_work if by_work else receipt.predicted)],
        "limits": _limits(receipt),
        "loss": DIVERGENCE if receipt.kind == "logits" else DISTANCE,
    }


def _points(receipt: Receipt) -> list[dict[str, object]]:
    return [
        {
            "number": point.number,
            "bits": point.bits_per_weight,
            "bytes": point.nbytes,
            "work": _of_work(receipt, point.work),
            "predicted": point.predicted,
            "loss": point.loss,
            "upper": None,
            "metrics": dict(point.metrics),
            "state": "chosen" if point.chosen else "feasible" if point.feasible else "over",
        }
        for point in receipt.frontier
        if point.bits_per_weight is not None
    ]


def _written(receipt: Receipt) -> list[dict[str, object]]:
    """The artifact itself with its losses on held-out data, unless it is one of the points."""
    accepted, sizes = receipt.accepted, receipt.sizes
    if accepted is None or sizes.bits_per_weight is None or any(point.chosen for point in receipt.frontier):
        return []
    fidelity = accepted.fidelity
    return [
        {
            "number": None,
            "bits": sizes.bits_per_weight,
            "bytes": sizes.artifact,
            "work": None if receipt.work is None else _of_work(receipt, receipt.work[1]),
            "predicted": None,
            "loss": None if fidelity is None else fidelity.loss,
            "upper": None if fidelity is None else fidelity.upper,
            "metrics": {metric.name: _shares(metric) for metric in accepted.metrics},
            "state": "written",
        }
    ]


def _of_work(receipt: Receipt, work: int | None) -> float | None:
    """Multiply-adds in percent of the original's."""
    return None if work is None or receipt.work is None or not receipt.work[0] else 100 * work / receipt.work[0]


def _shares(metric: Metric) -> dict[str, float]:
    shares = {"relative": metric.share(metric.drop), "upper": metric.share(metric.upper)}
    return {name: share for name, share in shares.items() if share is not None}


def _limits(receipt: Receipt) -> dict[str, object]:
    """The budget's lines: `drops` by metric and `loss` across, `bits` or `work` upright."""
    limits, sizes = receipt.limits, receipt.sizes
    least = limits.bits
    if least is None and limits.max_bytes is not None and sizes.bits_per_weight is not None and sizes.artifact:
        least = limits.max_bytes * sizes.bits_per_weight / sizes.artifact
    names = sorted({name for point in receipt.frontier for name in point.metrics})
    judged = {metric.name: metric for judgment in receipt.judgments for metric in judgment.metrics}
    drops = {name: _drop_limit(receipt, judged.get(name)) for name in names}
    limited = limits.min_fidelity is not None or not names
    return {
        "drops": {name: limit for name, limit in drops.items() if limit is not None},
        "loss": receipt.loss_limit if limited else None,
        "bits": _finite(least),
        "work": None if limits.max_work is None else _finite(100 * limits.max_work),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _drop_limit(receipt: Receipt, metric: Metric | None) -> float | None:
    """The smaller of both limits as a fraction of the baseline; one in the metric's units needs to know that."""
    limits = receipt.limits
    allowed = [limits.max_drop, None if metric is None else metric.share(limits.max_drop_abs)]
    return min((limit for limit in allowed if limit is not None), default=None)
