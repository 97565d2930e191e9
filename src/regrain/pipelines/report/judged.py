"""What held-out data said: a row for each recipe of the fixed sequence, and why it ends where it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from regrain.pipelines.report.losses import Line, interval, limits_fidelity, lines_of, scales
from regrain.pipelines.report.markup import Markup, join, section, tag
from regrain.pipelines.report.numbers import NONE, bits, count, megabytes, percent, significant
from regrain.pipelines.report.receipt import Fidelity, Judgment, Limits, Metric, Receipt

_NOTHING = Markup("")

_OVER = "; over the limit"
"""What the sentence of a failed check says."""


def failure(judgment: Judgment) -> str:
    """The check that failed, in its own words; empty if none says so."""
    return next((check for check in judgment.checks if _OVER in check), "")


def judgments(receipt: Receipt) -> Markup:
    """One table of all looks at held-out data; nothing where there was none."""
    judged = receipt.judgments
    if not judged:
        return _NOTHING
    lines = [lines_of(judgment, receipt) for judgment in judged]
    ranges = scales(line for one in lines for line in one)
    head = _head(receipt, lines)
    bodies = [
        _body(judgment, of, head, ranges, alone=len(judged) == 1) for judgment, of in zip(judged, lines, strict=True)
    ]
    table = tag("table", _table_head(head), *bodies, class_="sequence")
    sequence = join(_stop(receipt), _reason(receipt.limits)) if len(judged) > 1 else _stop(receipt)
    return section("judged", "Judged on held-out data", _about(receipt), table, sequence)


class _Head(NamedTuple):
    """Names of columns. Empty: no such column, for a single loss needs no name, and not everything is measured."""

    of: str
    loss: str
    bound: str
    fidelity: str
    agreement: str


def _table_head(head: _Head) -> Markup:
    names = {"step": "", "verdict": "verdict", head.of: "of"}
    names |= dict.fromkeys((head.loss, head.bound, "limit", "interval", head.fidelity, head.agreement), "")
    cells = [tag("th", name, scope="col", class_=style) for name, style in names.items() if name]
    return tag("thead", tag("tr", *cells))


def _head(receipt: Receipt, lines: Sequence[Sequence[Line]]) -> _Head:
    several = any(len(one) > 1 for one in lines)
    first = next((one[0] for one in lines if one), None)
    loss = "loss" if several or first is None else first.name if first.before is None else f"drop of {first.name}"
    confidence = receipt.limits.confidence
    bound = "at most" if confidence is None else f"at most ({percent(confidence)})"
    found = [judgment.fidelity for judgment in receipt.judgments if judgment.fidelity is not None]
    beside = not limits_fidelity(receipt) and any(fidelity.loss is not None for fidelity in found)
    fidelity = ("KL" if any(fidelity.diverges for fidelity in found) else "D") if beside else ""
    return _Head("of" if several else "", loss, bound, fidelity, _agreement_name(found))


def _agreement_name(found: Sequence[Fidelity]) -> str:
    if any(fidelity.top1 is not None for fidelity in found):
        return "top-1 agreement"
    return "neighbor overlap" if any(fidelity.neighbor_overlap is not None for fidelity in found) else ""


def _body(
    judgment: Judgment, lines: list[Line], head: _Head, ranges: dict[str, tuple[float, float]], *, alone: bool
) -> Markup:
    """A step: its own cells span the rows of its losses."""
    high = str(max(1, len(lines)))
    label = "this recipe" if alone and judgment.step in (None, 1.0) else percent(judgment.step)
    point = _NOTHING if judgment.point is None else tag("small", f" point {judgment.point}")
    before = [
        tag("th", label, point, scope="rowgroup", rowspan=high),
        tag("td", _status(judgment), rowspan=high, class_="verdict"),
    ]
    fidelity = judgment.fidelity
    beside: list[tuple[str, str]] = []
    if head.fidelity:
        beside.append((head.fidelity, NONE if fidelity is None else significant(fidelity.loss, 3)))
    if head.agreement:
        beside.append((head.agreement, NONE if fidelity is None else percent(_agreement(fidelity))))
    after = [tag("td", tag("span", text), data_label=name, rowspan=high, class_="beside") for name, text in beside]
    cells = [_line_cells(line, head, ranges[line.name]) for line in lines] or [[tag("td", colspan="4")]]
    rows = [tag("tr", *before, *cells[0], *after), *(tag("tr", *row) for row in cells[1:])]
    return tag("tbody", *rows, class_="accepted" if judgment.accepted else "failed" if judgment.ok is False else "held")


def _line_cells(line: Line, head: _Head, scale: tuple[float, float]) -> list[Markup]:
    values = {
        head.loss: _with_share(line, line.value),
        head.bound: _with_share(line, line.upper),
        "limit": _with_share(line, line.limit),
        "interval": interval(line, scale),
    }
    cells = [tag("td", tag("span", value), data_label=name) for name, value in values.items()]
    return [tag("td", tag("span", line.name, class_="name"), class_="of"), *cells] if head.of else cells


def _status(judgment: Judgment) -> Markup:
    if judgment.accepted and judgment.ok is not False:
        return tag("span", "accepted", class_="status good")
    if judgment.ok is None:
        return tag("span", "measured", class_="status")
    return tag("span", "holds", class_="status") if judgment.ok else tag("span", "fails", class_="status bad")


def _with_share(line: Line, value: float | None) -> str:
    """The value in the metric's units, and as a share of the baseline."""
    if value is None or not line.before:
        return significant(value, 3)
    return join(significant(value, 3), " ", tag("small", percent(value / abs(line.before))))


def _agreement(fidelity: Fidelity) -> float | None:
    return fidelity.neighbor_overlap if fidelity.top1 is None else fidelity.top1


def _about(receipt: Receipt) -> Markup:
    """The budget, and what the original scores on the same data."""
    first = receipt.judgments[0]
    known = [_baseline(metric) for metric in first.metrics if metric.before is not None]
    inputs = first.fidelity.n if first.fidelity is not None else None
    if not known and inputs is not None:
        known = [f"{count(inputs)} held-out inputs"]
    original = f" The original: {'; '.join(known)}." if known else ""
    methods = sorted(
        {metric.method for one in receipt.judgments for metric in one.metrics if metric.method is not None}
    )
    intervals = f" Intervals: {'; '.join(methods)}." if methods else ""
    return tag("p", f"{_budget(receipt.limits)}{original}{intervals}".strip(), class_="hint")


def _baseline(metric: Metric) -> str:
    examples = "" if metric.n is None else f" on {count(metric.n)} held-out examples"
    return f"{metric.name} {significant(metric.before)}{examples}"


def _budget(limits: Limits) -> str:
    """`Budget: a drop of at most 1 % of each metric; …`."""
    texts = {
        "a drop of at most {} of each metric": None if limits.max_drop is None else percent(limits.max_drop),
        "a drop of at most {}": None if limits.max_drop_abs is None else significant(limits.max_drop_abs),
        "fidelity of at least {}": None if limits.min_fidelity is None else significant(limits.min_fidelity, 6),
        "at most {}": None if limits.max_bytes is None else megabytes(limits.max_bytes),
        "at most {} bits per weight": None if limits.bits is None else bits(limits.bits),
    }
    parts = [text.format(value) for text, value in texts.items() if value is not None]
    return f"Budget: {'; '.join(parts)}." if parts else ""


def _stop(receipt: Receipt) -> Markup:
    """What ended the sequence."""
    last = receipt.judgments[-1]
    if last.ok is False:
        why = failure(last)
        text = "The sequence stops at the first recipe that can't be shown to keep the budget"
        return tag("p", f"{text}: {why}." if why else f"{text}.")
    if len(receipt.judgments) > 1:
        return tag("p", "Every recipe of the sequence held: the result is the best that the search found.")
    return _NOTHING


def _reason(limits: Limits) -> Markup:
    """Why so many looks at the same data are allowed."""
    confidence = limits.confidence
    each = "" if confidence is None else f", each at the budget's full {percent(confidence)} confidence"
    chance = "no more than that of one test" if confidence is None else f"{percent(1 - confidence)} at most"
    text = (
        "The recipes, and their order from safe to best, were fixed before the held-out data were read: a step is the "
        "predicted loss as a share of the best point's. They are tested one after the other"
        f"{each}, and nothing is tested after a failure. To accept a recipe that breaks the budget, the test of the "
        "first such recipe in the sequence must err; all others can only be reached through it. So the chance of a "
        f"wrong result is {chance}, however many recipes held before (fixed-sequence testing)."
    )
    summary = tag("summary", "Why the same data may judge several recipes")
    return tag("details", summary, tag("p", text, class_="hint"))
