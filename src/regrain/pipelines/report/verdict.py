"""The one sentence that says what happened, and the figures beside it."""

from __future__ import annotations

from typing import NamedTuple

from regrain.pipelines.report.judged import failure
from regrain.pipelines.report.losses import limits_fidelity
from regrain.pipelines.report.numbers import (
    DISTANCE,
    DIVERGENCE,
    bits,
    count,
    megabytes,
    percent,
    rough,
    seconds,
    significant,
    times,
)
from regrain.pipelines.report.receipt import Fidelity, Judgment, Limits, Metric, Receipt


class Verdict(NamedTuple):
    """`status` is a word or two, `kind` its color: good, plain or bad; `sentence` is the whole story."""

    status: str
    kind: str
    sentence: str


class Figure(NamedTuple):
    """A number that stands out, what it is, and what it is to be compared with."""

    value: str
    label: str
    note: str


def verdict(receipt: Receipt) -> Verdict:
    """What the receipt says, in a sentence. That the budget is met is believed only if a judgment was accepted."""
    saved = _saved(receipt)
    if receipt.mode == "plan":
        return Verdict("Plan", "plain", f"{saved}, as predicted: nothing has been built or judged yet.")
    if receipt.outcome == "lossless":
        return Verdict("Lossless", "plain", f"{saved}, with every bit kept: {_why_lossless(receipt)}.")
    if receipt.outcome == "met" and receipt.judgments:
        accepted = receipt.accepted
        if accepted is None or accepted.ok is False:
            return Verdict("Not proven", "bad", f"{saved}; no judgment shows that the budget is kept.")
        return Verdict("Budget met", "good", f"{saved}{_kept(accepted, receipt)}.")
    if receipt.mode == "lossless":
        return Verdict("Lossless", "good", f"{saved}, and every bit is that of the original.")
    return Verdict("Not judged", "plain", f"{saved}; the receipt has no verdict on held-out data.")


def worst(metrics: tuple[Metric, ...]) -> Metric | None:
    """The metric that comes closest to its limit, or exceeds it most."""
    judged = [metric for metric in metrics if metric.drop is not None]
    return max(judged, key=_used, default=None)


def figures(receipt: Receipt) -> list[Figure]:
    """What stands below the sentence; figures that were not measured are left out."""
    sizes, latency = receipt.sizes, receipt.latency
    found = [Figure(megabytes(sizes.artifact), "size", f"was {megabytes(sizes.original)}")]
    if sizes.ratio is not None:
        note = "" if sizes.lossless is None else f"lossless {times(sizes.original / max(1, sizes.lossless))}"
        found.append(Figure(times(sizes.ratio), "smaller", note))
    if sizes.bits_per_weight is not None:
        note = "everything counted"
        if sizes.original_bits_per_weight is not None:
            note = f"was {bits(sizes.original_bits_per_weight)}, {note}"
        found.append(Figure(bits(sizes.bits_per_weight), "bits per weight", note))
    if receipt.spared is not None and receipt.spared[0]:
        before, after = receipt.spared
        found.append(Figure(percent(after / before), "of the multiply-adds", f"{rough(after)}, was {rough(before)}"))
    found += _quality(receipt)
    if "after_ms" in latency:
        note = f"was {significant(latency['before_ms'], 3)} ms" if "before_ms" in latency else ""
        batch = f" ({receipt.batch})" if receipt.batch else ""
        found.append(Figure(f"{significant(latency['after_ms'], 3)} ms", f"latency{batch}", note))
    if "load_ms" in latency:
        note = f"plain file {significant(latency['plain_load_ms'], 3)} ms" if "plain_load_ms" in latency else ""
        found.append(Figure(f"{significant(latency['load_ms'], 3)} ms", "to load", note))
    if receipt.seconds is not None:
        note = "" if receipt.peak_memory is None else f"{megabytes(receipt.peak_memory)} of memory at most"
        found.append(Figure(seconds(receipt.seconds), "to compress", note))
    return found


def _saved(receipt: Receipt) -> str:
    sizes = receipt.sizes
    weights = "" if receipt.weights is None else f"{rough(receipt.weights)} weights in "
    text = f"{weights}{megabytes(sizes.artifact)} instead of {megabytes(sizes.original)}"
    return text if sizes.ratio is None else f"{text}, {times(sizes.ratio)} smaller"


def _why_lossless(receipt: Receipt) -> str:
    if not receipt.judgments:
        return "no recipe that was tried keeps the budget on the search data"
    failed = next((judgment for judgment in receipt.judgments if judgment.ok is False), None)
    if failed is None:
        return "the recipe changes nothing"
    text = "even the safest recipe was not shown to keep the budget on held-out data"
    if failed is not receipt.judgments[0]:
        text = "no recipe that changes anything was shown to keep the budget on held-out data"
    why = failure(failed)
    return f"{text} ({why})" if why else text


def _kept(accepted: Judgment, receipt: Receipt) -> str:
    fidelity, limited = accepted.fidelity, [metric for metric in accepted.metrics if metric.limit is not None]
    metric = worst(tuple(limited) or accepted.metrics)
    if metric is not None and (limited or not limits_fidelity(receipt)):
        others = len(limited) - 1
        holds = f"; {'the other metric holds' if others == 1 else f'{others} other metrics hold'} too"
        return f"; {_metric_text(metric, receipt.limits)}{holds if others > 0 else ''}"
    if fidelity is not None and fidelity.loss is not None:
        return f"; {_fidelity_text(fidelity, receipt)}"
    return ""


def _metric_text(metric: Metric, limits: Limits) -> str:
    """`accuracy fell by 0.22 % on 5,000 held-out examples, by at most 0.43 % (95 % confidence), where …`."""
    relative = limits.max_drop_abs is None and metric.before not in (None, 0)

    def shown(value: float | None) -> str:
        return percent(metric.share(value)) if relative else significant(value, 3)

    drop = metric.drop or 0.0
    worse, better = ("fell", "rose") if metric.higher_is_better else ("rose", "fell")
    change = f"{worse if drop > 0 else better} by {shown(abs(drop))}" if drop else "did not change"
    text = f"{metric.name} {change}{_examples(metric.n, 'examples')}"
    if metric.upper is not None:
        text += "" if drop > 0 else f", and {worse}"
        text += f"{',' if drop > 0 else ''} by at most {shown(max(0.0, metric.upper))}{_confidence(limits)}"
    if metric.limit is not None:
        text += f", where {shown(metric.limit)} is allowed"
    return text


def _fidelity_text(fidelity: Fidelity, receipt: Receipt) -> str:
    loss, unit = ("a KL divergence of ", " nats") if fidelity.diverges else ("D = ", "")
    text = f"outputs differ by {loss}{significant(fidelity.loss, 3)}{unit}{_examples(fidelity.n, 'inputs')}"
    if fidelity.upper is not None:
        text += f", by at most {significant(fidelity.upper, 3)}{_confidence(receipt.limits)}"
    limit = receipt.loss_limit
    return text if limit is None else f"{text}, where {significant(limit, 3)} is allowed"


def _quality(receipt: Receipt) -> list[Figure]:
    """The worst drop, or else the loss of fidelity, of the recipe that was accepted."""
    accepted = receipt.accepted
    if accepted is None:
        return []
    metric = worst(accepted.metrics)
    if metric is None or (limits_fidelity(receipt) and metric.limit is None):
        return _loss(accepted)
    value = significant(metric.drop, 3)
    if receipt.limits.max_drop_abs is None and metric.before:
        value = percent(metric.share(metric.drop))
    after = f"{significant(metric.after)}, was {significant(metric.before)}"
    return [Figure(value, f"drop of {metric.name}", after)]


def _loss(judgment: Judgment) -> list[Figure]:
    fidelity = judgment.fidelity
    if fidelity is None or fidelity.loss is None:
        return []
    note = "" if fidelity.upper is None else f"at most {significant(fidelity.upper, 3)}"
    return [Figure(significant(fidelity.loss, 3), DIVERGENCE if fidelity.diverges else DISTANCE, note)]


def _used(metric: Metric) -> float:
    """The part of the limit that is used up; without a limit, the drop relative to the baseline."""
    value = metric.drop if metric.upper is None else metric.upper
    if value is None:
        return 0.0
    if metric.limit:
        return value / metric.limit
    return metric.share(value) or value


def _confidence(limits: Limits) -> str:
    return "" if limits.confidence is None else f" ({percent(limits.confidence)} confidence)"


def _examples(n: int | None, what: str) -> str:
    return "" if n is None else f" on {count(n)} held-out {what}"
