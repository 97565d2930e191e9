"""What a run did, as one self-contained page: latency by batch, granularity and variances of each matrix over time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from regrain.artifact.output import output_file
from regrain.pipelines.report.markup import Markup, join, section, tag
from regrain.pipelines.report.sheet import WIDTH, cell, sheet, svg, text

if TYPE_CHECKING:
    from regrain.pipelines.run import Batch, Run
    from regrain.policies import Decision, Observation
    from regrain.policies.trace import Event

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 64, 16, 16, 32, 260
_NAMES = 240  # units for names of matrices
_ROW = 18  # units of one matrix
_MAPS = 8  # matrices whose variances are drawn
_BINS = 64  # columns of such a map
_SEEN = 24  # rows of such a map
_SIGNS = {"fine": "·", "medium": "▪", "coarse": "■"}


def run_report(
    found: Run, out: str | os.PathLike[str], *, trace: str | os.PathLike[str] | None = None, force: bool = False
) -> Path:
    """Write the page of a run to the HTML file `out`; what its trace says joins it.

    Raises TraceError for a file that is no trace, OSError, OutputExistsError unless `force` is set, OutputError.
    """
    events: Sequence[Event] = ()
    if trace is not None:
        from regrain.policies.trace import open_trace, read

        with open_trace(trace, "r") as lines:
            events = list(read(lines))
    page = render(found, events).encode("utf-8")
    with output_file(Path(out), force=force) as sink:
        sink.write(page)
    return Path(out)


def render(found: Run, events: Sequence[Event] = ()) -> str:
    """The page. The same run and events give the same text."""
    times = _times(events)
    said = (
        f"{found.path.name}, {found.split} data of task {found.task}, policy {found.policy}: {found.ratio:.2f} times "
        f"as fast as torch with {found.threads} threads ({found.instruction_set}), "
        f"{len(found.batches)} batches; {_loss(found)}"
    )
    parts = [tag("p", said), section("latency", "Seconds of each batch", _latency(found.batches))]
    if times:
        parts.append(section("granularity", "What is kept of each matrix, over time", _granularity(times)))
        parts.append(section("variance", "Variances of input channels, over time", _variances(times)))
    parts.append(section("matrices", "Matrices at the end", _matrices(found)))
    if found.left:
        rows = [tag("tr", tag("td", name), tag("td", reason)) for name, reason in found.left.items()]
        parts.append(section("left", "Left to torch", tag("div", tag("table", *rows))))
    return sheet("A run, served", *parts)


def _loss(found: Run) -> str:
    loss = found.fidelity.loss(found.confidence)
    bound = "" if loss.upper is None else f" (at most {loss.upper:.3g})"
    return f"{'D' if found.fidelity.kind == 'embeddings' else 'KL'} {loss.drop:.3g}{bound}"


def _latency(batches: Sequence[Batch]) -> Markup:
    """Both lines, and where a batch began with other layouts than the one before."""
    most = max(max(batch.plain, batch.served) for batch in batches) * 1.05

    def place(number: int, seconds: float) -> tuple[float, float]:
        x = _LEFT + number / max(len(batches) - 1, 1) * (WIDTH - _LEFT - _RIGHT)
        return x, _TOP + (1 - seconds / most) * (_HEIGHT - _TOP - _BOTTOM)

    def line(value: Callable[[Batch], float], kind: str) -> Markup:
        points = [place(number, value(batch)) for number, batch in enumerate(batches)]
        return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)

    marks = [
        tag("line", tag("title", f"batch {number}: {after.switches - before.switches} switches"), x1=f"{x:.1f}",
            x2=f"{x:.1f}", y1=str(_TOP), y2=str(_HEIGHT - _BOTTOM), class_="event")
        for number, (before, after) in enumerate(itertools.pairwise(batches), 1)
        if after.switches != before.switches
        for x, _ in [place(number, 0.0)]
    ]  # fmt: skip
    scale = [text(4, place(0, share * most)[1] + 4, f"{1e3 * share * most:.3g} ms") for share in (0.0, 0.5, 0.95)]
    return join(
        tag("p", "Thin: torch. Thick: served. Dashed: layouts were switched."),
        svg(
            _HEIGHT,
            "milliseconds of each batch, by torch and served",
            *marks,
            line(lambda batch: batch.plain, "other"),
            line(lambda batch: batch.served, "line"),
            *scale,
            text(_LEFT, _HEIGHT - 10, "first batch"),
            text(WIDTH - _RIGHT, _HEIGHT - 10, "last", text_anchor="end"),
        ),
    )


class _Moment(NamedTuple):
    """A matrix from `token` on: what it is, and what was seen until then."""

    token: int
    decision: Decision
    seen: Observation | None


def _times(events: Sequence[Event]) -> dict[str, list[_Moment]]:
    """What became of each matrix, by tokens that were observed."""
    from regrain.policies.trace import Observed

    found: dict[str, list[_Moment]] = {}
    for event in events:
        moments = found.setdefault(event.matrix, [])
        seen = event.observation if isinstance(event, Observed) else None
        token = (moments[-1].token if moments else 0) + (0 if seen is None else seen.count)
        if event.decision is not None:
            moments.append(_Moment(token, event.decision, seen))
        elif moments:
            moments.append(_Moment(token, moments[-1].decision, seen))
    return {name: moments for name, moments in found.items() if moments}


def _granularity(times: Mapping[str, Sequence[_Moment]]) -> Markup:
    """A row a matrix, from left to right the tokens that it saw: the darker, the more is kept."""
    last = max(moments[-1].token for moments in times.values()) or 1
    parts: list[Markup] = []
    for row, (name, moments) in enumerate(times.items()):
        top = _TOP + row * _ROW
        parts.append(text(0, top + 12, _short(name)))
        runs = [moment for before, moment in zip((None, *moments), moments, strict=False)
                if before is None or moment.decision != before.decision]  # fmt: skip
        for moment, following in zip(runs, (*(later.token for later in runs[1:]), last), strict=True):
            parts.append(_span(name, moment, following, last, top))
    legend = ", ".join(f"{sign} {unit}" for unit, sign in _SIGNS.items())
    return join(
        tag("p", f"Darker: more of the weights is kept. What is dropped: {legend}, nothing without a sign."),
        svg(
            _TOP + len(times) * _ROW + _BOTTOM,
            "granularity of each matrix over the tokens that it saw",
            *parts,
            text(_NAMES, _TOP + len(times) * _ROW + 20, "0"),
            text(WIDTH - _RIGHT, _TOP + len(times) * _ROW + 20, f"{last:,} tokens observed", text_anchor="end"),
        ),
    )


def _span(name: str, moment: _Moment, until: int, last: int, top: float) -> Markup:
    room = (WIDTH - _NAMES - _RIGHT) / last
    left, width = _NAMES + moment.token * room, max((until - moment.token) * room - 1, 1.0)
    grain = None if moment.decision.granularity is None else str(moment.decision.granularity)
    title = f"{name}, from token {moment.token:,}: {grain or 'dense'}, {moment.decision.density:.0%} kept"
    sign = text(left + 3, top + 12, _SIGNS[grain]) if grain is not None and width >= 9 else Markup("")
    return join(cell(left, top, width, _ROW - 2, moment.decision.density, title), sign)


def _variances(times: Mapping[str, Sequence[_Moment]]) -> Markup:
    """Maps of the matrices whose variances moved most: a row an observation, a column some channels."""
    moved = sorted(times, key=lambda name: -_movement(times[name]))[:_MAPS]
    maps = [_map(name, times[name]) for name in moved if _movement(times[name]) > 0]
    if not maps:
        return tag("p", "Too little was observed.")
    words = (
        "Channels from the least to the most varying at first, each beside its own mean over time: one color is more, "
        "the other less, darkest from four times on."
    )
    return join(tag("p", words), *maps)


def _seen(moments: Sequence[_Moment]) -> np.ndarray:
    """Logarithms of variances over their channel's mean, (observations, channels)."""
    rows = [moment.seen.variance for moment in moments if moment.seen is not None and moment.seen.count > 0]
    if len(rows) < 2:
        return np.zeros((0, 0))
    variances = np.array(rows)
    ordered = variances[:, np.argsort(variances[0], kind="stable")] + 1e-30
    return np.asarray(np.log2(ordered / ordered.mean(axis=0)))


def _movement(moments: Sequence[_Moment]) -> float:
    logs = _seen(moments)
    return float(np.abs(logs).mean()) if logs.size else 0.0


def _map(name: str, moments: Sequence[_Moment]) -> Markup:
    logs = _seen(moments)
    bins = min(_BINS, logs.shape[1])
    edges = np.linspace(0, logs.shape[1], bins + 1).astype(int)
    means = np.add.reduceat(logs, edges[:-1], axis=1) / np.diff(edges)
    rows = means[np.linspace(0, len(means) - 1, min(len(means), _SEEN)).astype(int)]
    width, height = (WIDTH - _NAMES - _RIGHT) / bins, 8.0
    parts = [text(0, _TOP + 12, _short(name))]
    for number, row in enumerate(rows):
        for place, value in enumerate(row):
            title = f"channels {edges[place]} to {edges[place + 1] - 1}: {2.0**value:.2f} times their mean"
            parts.append(
                cell(
                    _NAMES + place * width, _TOP + number * height, width, height, abs(value) / 2, title, less=value < 0
                )
            )
    high = max(_TOP + len(rows) * height + 8, 2 * _TOP + 8)
    return svg(high, f"variances of {name} over time", *parts)


def _matrices(found: Run) -> Markup:
    names = ("matrix", "granularity", "kept", "layout", "bytes", "switches", "bias renewed", "given up")
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    rows = [
        tag("tr", *(tag("td", str(value)) for value in (layer.name, layer.granularity, f"{layer.density:.1%}",
            layer.layout, f"{layer.nbytes:,}", layer.switches, layer.refreshes, layer.reverts)))
        for layer in found.layers
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)))


def _short(name: str) -> str:
    return name if len(name) <= 38 else f"…{name[-37:]}"
