"""What an accuracy monitor did, as one self-contained page: metrics with their thresholds, and layers over time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regrain.artifact.output import output_file
from regrain.core.errors import TrainingError
from regrain.pipelines.report.markup import Markup, join, section, tag
from regrain.pipelines.report.sheet import WIDTH, cell, sheet, svg, text

if TYPE_CHECKING:
    from regrain.training.log import InputState, LayerState, Record

HEIGHT = 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 32
_ROW = 18  # pixels of a layer
_NAMES = 240  # pixels for layers' names
_MARKS = {"fine": "·", "medium": "▪", "coarse": "■"}


def training_report(
    log: str | os.PathLike[str] | Sequence[Record], out: str | os.PathLike[str], *, force: bool = False
) -> Path:
    """Write the page of a monitor's log, its file or its records, to the HTML file `out`.

    Raises TrainingError for a log without evaluations or one that isn't a log, OSError where it can't be read,
    OutputExistsError unless `force` is set, OutputError if writing fails.
    """
    if isinstance(log, str | os.PathLike):
        from regrain.training.log import read_log

        log = read_log(log)
    page = render(log).encode("utf-8")
    with output_file(Path(out), force=force) as sink:
        sink.write(page)
    return Path(out)


def render(records: Sequence[Record]) -> str:
    """The page. The same records give the same text. Raises TrainingError where there are none."""
    if not records:
        raise TrainingError("log must have an evaluation or more: train longer than one interval of the schedule")
    last = records[-1]
    said = f"{len(records)} evaluations, {last.step} steps: {last.bits:.2f} bits a weight, {last.density:.0%} kept"
    names = list(last.metrics)
    return sheet(
        "Compression while training",
        tag("p", said),
        *(section(f"metric-{number}", name, _metric(records, name)) for number, name in enumerate(names)),
        *(section(key, measure.title, _layers(records, measure)) for key, measure in _measures(records).items()),
        section("changes", "Changes", _changes(records)),
    )


def _metric(records: Sequence[Record], name: str) -> Markup:
    """The metric over the steps, with its threshold and baseline."""
    values = [record.metrics[name] for record in records]
    limits = [record.thresholds[name] for record in records]
    low, high = min(values + limits), max(values + limits)
    room = (high - low) * 0.08 or abs(high) * 0.01 or 1.0
    low, high = low - room, high + room

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    x = _across(records, _LEFT)
    points = [(x(record.step), y(value)) for record, value in zip(records, values, strict=True)]
    limit = " ".join(f"{x(record.step):.1f},{y(value):.1f}" for record, value in zip(records, limits, strict=True))
    dots = [
        tag("circle", tag("title", f"step {record.step}: {value:.6g}, {record.state}"), cx=f"{px:.1f}", cy=f"{py:.1f}",
            r="3.5", class_=record.state)
        for record, value, (px, py) in zip(records, values, points, strict=True)
    ]  # fmt: skip
    shape = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    scale = [text(4, y(value) + 4, f"{value:.4g}") for value in (low + room, high - room)]
    return svg(
        HEIGHT,
        f"{name} over steps, with its threshold",
        tag("polyline", points=limit, class_="line limit"),
        tag("polyline", points=shape, class_="line"),
        *dots,
        *scale,
        text(_LEFT, y(limits[-1]) - 5, f"threshold {limits[-1]:.6g}"),
        _steps(records, _LEFT, HEIGHT - 10),
    )


class _Measure(NamedTuple):
    """One number of each layer, and the text of its cell. `own`: the darkest cell is each row's own, not the page's."""

    title: str
    value: Callable[[LayerState], float]
    text: Callable[[LayerState], str]
    own: bool = False


def _measures(records: Sequence[Record]) -> dict[str, _Measure]:
    """What is drawn: of inputs only if any were seen."""
    found = {
        "bits": _Measure("Bits a weight of each layer", lambda layer: layer.bits, _scheme),
        "density": _Measure("What is kept of each layer", lambda layer: layer.density, _scheme),
    }
    if any(layer.inputs is not None for record in records for layer in record.layers):
        found["variance"] = _Measure("Variance of each layer's inputs", _variance, _inputs, own=True)
        found["zeros"] = _Measure("Zeros among each layer's inputs", _zeros, _inputs)
    return found


def _scheme(layer: LayerState) -> str:
    return f"{layer.scheme}, {layer.bits:.2f} bits a weight, {layer.density:.0%} kept"


def _variance(layer: LayerState) -> float:
    return 0.0 if layer.inputs is None else layer.inputs.variance


def _zeros(layer: LayerState) -> float:
    return 0.0 if layer.inputs is None else layer.inputs.sparsity


def _inputs(layer: LayerState) -> str:
    found: InputState | None = layer.inputs
    if found is None:
        return "no inputs seen"
    least, middle, most = found.variances
    return (
        f"{found.channels} channels, mean {found.mean:.3g}, variance {found.variance:.3g} (channels {least:.3g}, "
        f"{middle:.3g}, {most:.3g}), {found.least:.3g} to {found.most:.3g}, {found.sparsity:.0%} zeros, "
        f"{found.dynamic_range:.3g} octaves, entropy {found.entropy:.2f} bits"
    )


def _layers(records: Sequence[Record], measure: _Measure) -> Markup:
    """A row a layer, a column an evaluation: the darker, the more; signs are units of pruning or steps."""
    names = [layer.name for layer in records[-1].layers]
    states = [{layer.name: layer for layer in record.layers} for record in records]
    mosts = {name: max(measure.value(state[name]) for state in states if name in state) for name in names}
    whole = max(mosts.values(), default=0.0)
    width = (WIDTH - _NAMES - _RIGHT) / len(records)
    parts: list[Markup] = []
    for row, name in enumerate(names):
        top = _TOP + row * _ROW
        most = (mosts[name] if measure.own else whole) or 1.0
        parts.append(text(0, top + 12, name if len(name) <= 38 else f"…{name[-37:]}"))
        for column, (record, state) in enumerate(zip(records, states, strict=True)):
            if name in state:
                share = measure.value(state[name]) / most
                title = f"{name}, step {record.step}: {measure.text(state[name])}"
                parts.append(_cell(state[name], title, share, _NAMES + column * width, top, width))
    height = _TOP + len(names) * _ROW + _BOTTOM
    legend = ", ".join(f"{sign} {unit}" for unit, sign in _MARKS.items())
    scale = "each layer's own most" if measure.own else f"{whole or 1.0:.3g}"
    return join(
        tag("p", f"Darker is more, up to {scale}. Units: {legend}."),
        svg(height, f"{measure.title}, over steps", *parts, _steps(records, _NAMES, height - 10)),
    )


def _cell(layer: LayerState, title: str, share: float, left: float, top: int, width: float) -> Markup:
    box = cell(left, top, width - 1, _ROW - 2, share, title)
    sign = text(left + width / 2 - 3, top + 12, _MARKS[layer.granularity], class_="on") if width >= 9 else Markup("")
    return join(box, sign)


def _changes(records: Sequence[Record]) -> Markup:
    head = tag("tr", *(tag("th", name, scope="col") for name in ("step", "layer", "", "from", "to", "why")))
    rows = [
        tag("tr", *(tag("td", str(text)) for text in (record.step, change.name, change.direction, change.before,
                                                      change.after, change.why)))
        for record in records
        for change in record.changes
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows))) if rows else tag("p", "None.")


def _across(records: Sequence[Record], left: float) -> Callable[[int], float]:
    """From a step to a horizontal place."""
    first, last = records[0].step, records[-1].step

    def place(step: int) -> float:
        return left + (step - first) / max(last - first, 1) * (WIDTH - _RIGHT - left)

    return place


def _steps(records: Sequence[Record], left: float, y: float) -> Markup:
    return join(
        text(left, y, f"step {records[0].step}"),
        text(WIDTH - _RIGHT, y, f"step {records[-1].step}", text_anchor="end"),
    )
