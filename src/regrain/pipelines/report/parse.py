"""From a receipt's JSON to its values.

A receipt is a JSON object inside a file, so it is read as what a stranger wrote. Fields that are not known are left
alone: a newer version of regrain may have written them.
"""

from __future__ import annotations

from collections.abc import Mapping

from regrain.core.errors import CorruptArtifactError
from regrain.pipelines.report.fields import Fields
from regrain.pipelines.report.receipt import (
    Fidelity,
    Histogram,
    Judgment,
    Layer,
    Limits,
    Metric,
    Point,
    Receipt,
    Sizes,
)


def parse_receipt(receipt: Mapping[str, object]) -> Receipt:
    """The values of a receipt. Raises CorruptArtifactError for a field of another type, or without the two sizes."""
    top = Fields(receipt, "receipt")
    model, task, cost, latency = (top.part(key) for key in ("model", "task", "cost", "latency"))
    times = {key: latency.number(key) for key in ("before_ms", "after_ms", "load_ms", "plain_load_ms")}
    return Receipt(
        mode=top.text("mode"),
        outcome=top.text("outcome"),
        version=top.text("regrain"),
        model_sha256=model.text("sha256"),
        weights=model.count("weights"),
        task=task.text("name"),
        task_sha256=task.text("sha256"),
        kind=task.text("kind"),
        limits=_limits(top.part("budget")),
        guard=top.number("guard"),
        sizes=_sizes(top.part("sizes")),
        judgments=tuple(_judgment(fields) for fields in top.parts("judgement")),
        frontier=tuple(_point(fields) for fields in top.parts("frontier")),
        predicted=_predicted(top.rows("predicted_frontier")),
        latency={key: time for key, time in times.items() if time is not None},
        batch=latency.text("batch"),
        seconds=cost.number("seconds"),
        peak_memory=cost.count("peak_memory_bytes"),
        phases=cost.named_numbers("phases"),
        machine=top.text("machine"),
        seed=top.count("seed"),
        command=top.text("command"),
        recipe=top.mapping("recipe"),
        layers=tuple(_layer(fields) for fields in top.parts("layers")),
        predicted_work=_predicted(top.rows("predicted_work")),
        work=_pair(top.part("work"), "original", "artifact"),
        minimized=top.part("objective").text("minimized"),
        selector=top.text("selector"),
        slim=_pair(top.part("slim"), "channels", "weights"),
    )


def _pair(fields: Fields, first: str, second: str) -> tuple[int, int] | None:
    """Two whole numbers, if both are there."""
    one, other = fields.count(first), fields.count(second)
    return None if one is None or other is None else (one, other)


def _sizes(fields: Fields) -> Sizes:
    original, artifact = fields.count("original"), fields.count("artifact")
    if original is None or artifact is None:
        raise CorruptArtifactError("receipt.sizes must have original and artifact, in bytes")
    return Sizes(
        original,
        artifact,
        fields.count("lossless"),
        fields.number("bits_per_weight"),
        fields.number("original_bits_per_weight"),
    )


def _limits(fields: Fields) -> Limits:
    return Limits(
        fields.number("max_drop"),
        fields.number("max_drop_abs"),
        fields.number("min_fidelity"),
        fields.count("max_bytes"),
        fields.number("bits"),
        fields.number("confidence"),
        fields.number("max_work"),
    )


def _judgment(fields: Fields) -> Judgment:
    fidelity = fields.part("fidelity")
    return Judgment(
        fields.number("step"),
        fields.count("point"),
        fields.flag("accepted"),
        fields.flag("ok") if "ok" in fields else None,
        fields.texts("checks"),
        tuple(_metric(metric) for metric in fields.parts("metrics")),
        _fidelity(fidelity) if "fidelity" in fields else None,
    )


def _fidelity(fields: Fields) -> Fidelity:
    return Fidelity(
        fields.text("kind"),
        fields.count("n"),
        fields.number("D"),
        fields.number("D_upper"),
        fields.number("kl"),
        fields.number("kl_upper"),
        fields.number("top1"),
        fields.number("neighbor_overlap"),
    )


def _metric(fields: Fields) -> Metric:
    return Metric(
        fields.text("name") or "metric",
        fields.number("before"),
        fields.number("after"),
        fields.number("drop"),
        fields.number("relative"),
        fields.number("lower"),
        fields.number("upper"),
        fields.number("limit"),
        fields.count("n"),
        fields.flag("higher_is_better", absent=True),
        fields.text("method"),
    )


def _predicted(rows: list[tuple[float, ...]]) -> tuple[tuple[float, float], ...]:
    if any(len(row) != 2 for row in rows):
        raise CorruptArtifactError("receipt.predicted_frontier must have pairs of a size and a loss")
    return tuple((row[0], row[1]) for row in rows)


def _point(fields: Fields) -> Point:
    metrics = fields.named_parts("metrics")
    numbers = {name: {key: metric.number(key) for key in ("relative", "upper")} for name, metric in metrics.items()}
    return Point(
        fields.count("point"),
        fields.number("bits_per_weight"),
        fields.count("bytes"),
        fields.number("predicted_D"),
        fields.number("D"),
        {name: {key: value for key, value in of.items() if value is not None} for name, of in numbers.items()},
        fields.flag("feasible"),
        fields.flag("chosen"),
        fields.count("work"),
    )


def _layer(fields: Fields) -> Layer:
    name, pattern = fields.text("name"), fields.part("pruning").text("pattern")
    if name is None:
        raise CorruptArtifactError("receipt.layers must have a name each")
    return Layer(
        name,
        tuple(int(size) for size in fields.numbers("shape")),
        fields.text("kind"),
        fields.count("weights"),
        fields.text("granularity"),
        tuple(int(size) for size in fields.numbers("cell")),
        fields.text("scheme"),
        fields.number("step"),
        fields.number("bits"),
        fields.count("bytes"),
        fields.number("predicted_loss"),
        fields.number("sensitivity"),
        fields.text("why"),
        fields.named_numbers("statistics"),
        _histogram(fields.part("histogram")),
        pattern,
        None if pattern is None else fields.number("density"),
    )


def _histogram(fields: Fields) -> Histogram | None:
    """Counts with all edges, or with the two ends of bins of equal width."""
    edges, counts = fields.numbers("edges"), fields.numbers("counts")
    if not counts:
        return None
    if len(edges) == 2 and len(counts) > 1:
        low, high = edges
        edges = tuple(low + (high - low) * at / len(counts) for at in range(len(counts) + 1))
    if len(edges) != len(counts) + 1 or min(counts) < 0:
        raise CorruptArtifactError(
            f"receipt.layers: histogram must have counts from 0 on and one edge more than counts, "
            f"not {len(edges)} edges and {len(counts)} counts"
        )
    return Histogram(edges, counts)
