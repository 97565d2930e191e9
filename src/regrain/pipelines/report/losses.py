"""The losses that a recipe was judged by: drops of metrics, fidelity, and their intervals as small drawings."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from regrain.pipelines.report.markup import Markup, tag
from regrain.pipelines.report.numbers import DISTANCE, DIVERGENCE, significant
from regrain.pipelines.report.receipt import Judgment, Receipt


class Line(NamedTuple):
    """A loss that a recipe was judged by, in its own unit; `before` is the baseline's metric, None of fidelity."""

    name: str
    before: float | None
    value: float | None
    lower: float | None
    upper: float | None
    limit: float | None

    def numbers(self) -> list[float]:
        """What an interval shows."""
        known = (self.value, self.lower, self.upper, self.limit)
        return [number for number in known if number is not None]


def lines_of(judgment: Judgment, receipt: Receipt) -> list[Line]:
    """Every metric; and fidelity if the budget limits it, or nothing else was measured."""
    lines = [Line(one.name, one.before, one.drop, one.lower, one.upper, one.limit) for one in judgment.metrics]
    fidelity = judgment.fidelity
    if fidelity is not None and fidelity.loss is not None and limits_fidelity(receipt):
        name = DIVERGENCE if fidelity.diverges else DISTANCE
        lines.append(Line(name, None, fidelity.loss, None, fidelity.upper, receipt.loss_limit))
    return lines


def limits_fidelity(receipt: Receipt) -> bool:
    """Whether fidelity is what the budget limits, not only what guards it."""
    return receipt.limits.min_fidelity is not None or not any(judgment.metrics for judgment in receipt.judgments)


def scales(lines: Iterable[Line]) -> dict[str, tuple[float, float]]:
    """The range of each loss over all rows, so that their intervals can be compared; zero is in it."""
    named = groupby(sorted(lines, key=lambda line: line.name), key=lambda line: line.name)
    spans = {name: [0.0, *(number for line in group for number in line.numbers())] for name, group in named}
    return {name: (min(numbers), max(numbers)) for name, numbers in spans.items()}


def interval(line: Line, scale: tuple[float, float]) -> Markup:
    """A line from the lower to the upper bound, a dot at the loss, marks at zero and at the limit."""
    least, most = scale
    if line.value is None or most <= least:
        return Markup("")

    def place(value: float) -> str:
        return f"{4 + 92 * (value - least) / (most - least):.1f}%"

    parts = [_stroke(place(least), place(most), "axis"), _mark(place(0.0), "zero")]
    if line.limit is not None:
        parts.append(_mark(place(line.limit), "limit"))
    if line.upper is not None:
        start = line.value if line.lower is None else line.lower
        parts.append(_stroke(place(start), place(line.upper), "span"))
    parts.append(tag("circle", cx=place(line.value), cy="50%", r="4"))
    spoken = f"loss {significant(line.value, 3)}, limit {significant(line.limit, 3)}"
    return tag("svg", *parts, class_="interval", role="img", aria_label=spoken)


def _stroke(start: str, stop: str, name: str) -> Markup:
    return tag("line", x1=start, x2=stop, y1="50%", y2="50%", class_=name)


def _mark(place: str, name: str) -> Markup:
    return tag("line", x1=place, x2=place, y1="15%", y2="85%", class_=name)
