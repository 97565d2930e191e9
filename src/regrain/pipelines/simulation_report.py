"""What a simulation found, as one self-contained page: cycles and utilization, granularity over time, energy."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regrain.artifact.output import output_file
from regrain.hw.networks.schedule import stalls
from regrain.pipelines.report.markup import Markup, join, section, tag
from regrain.pipelines.report.sheet import WIDTH, cell, sheet, svg, text
from regrain.pipelines.simulation_texts import added_text, area_text, batches_text, control_text, energy_text

if TYPE_CHECKING:
    from regrain.pipelines.simulate import Simulation
    from regrain.pipelines.simulated_layers import SimulatedLayer, Watched

_NAMES, _RIGHT, _TOP, _BOTTOM = 240, 16, 16, 32
_ROW, _TALL, _CHART = 18, 34, 52
"""Heights of rows: of bars, of granularities, of lines."""

_HEIGHTS = {"fine": 1.0, "medium": 0.75, "coarse": 0.5}
"""Of a row."""


def simulation_report(found: Simulation, out: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the page of a simulation to the HTML file `out`.

    Raises OSError, OutputExistsError unless `force` is set, OutputError.
    """
    page = render(found).encode("utf-8")
    with output_file(Path(out), force=force) as sink:
        sink.write(page)
    return Path(out)


def render(found: Simulation) -> str:
    """The page. The same simulation gives the same text."""
    machine = found.hardware.machine
    parts = [
        tag(
            "p",
            f"{found.path.name}, {batches_text(found.batches)} of {found.split} data of task {found.task} "
            f"({found.rows:,} output rows), policy {found.policy}, on {machine.rows} x {machine.outputs} multipliers.",
        ),
        _facts(found),
        section("utilization", "Cycles and multipliers used, by layer", _utilization(found)),
    ]
    if any(layer.history[-1].granularity in _HEIGHTS for layer in found.layers if layer.history):
        parts.append(section("granularity", "Granularity of each matrix, over its tokens", _granularity(found.layers)))
    if any(layer.control is not None for layer in found.layers):
        parts.append(section("monitor", "The monitor and its thresholds, over the calls", _monitor(found)))
    parts += [
        section("energy", "Energy", _energy(found)),
        section("area", "Area", _area(found)),
        section("layers", "Layers", _layers(found)),
    ]
    if found.configurations:
        parts.append(section("others", "The same weights in other encodings", _configurations(found)))
    if found.left:
        rows = [tag("tr", tag("td", name), tag("td", reason)) for name, reason in found.left.items()]
        parts.append(section("left", "Left to torch", tag("div", tag("table", *rows))))
    return sheet("A network on the accelerator", *parts)


def _facts(found: Simulation) -> Markup:
    total, table = sum(found.energy.values()), found.hardware.table
    loss, rows = found.fidelity.loss(found.confidence), found.rows
    most = "" if loss.upper is None else f", at most {loss.upper:.3g}"
    beside = "torch with the same weights" if found.against is None else found.against.name
    facts = [
        (
            "cycles",
            f"{found.cycles:,}",
            f"{found.dense_cycles / found.cycles:.2f} times fewer than the same array dense; "
            f"{found.cycles / rows:,.0f} an output row",
        ),
        (
            "energy",
            energy_text(total),
            f"{found.dense_energy / total:.2f} times less than dense; {energy_text(total / rows)} an output row; by "
            f"table {table.name} ({table.technology})",
        ),
        ("energy x cycles", "", f"{found.energy_delay:.2f} times less than dense"),
        ("multipliers used", f"{found.utilization:.1%}", "of those in all cycles"),
        ("area", f"{found.area.total:,.3g} mm2", area_text(found)),
        (
            "outputs",
            f"{'D' if found.fidelity.kind == 'embeddings' else 'KL'} {loss.drop:.3g}",
            f"beside {beside}{most}",
        ),
        *((name, f"{drop.after:.5g}", f"before {drop.before:.5g}") for name, drop in found.drops.items()),
    ]
    return tag("div", tag("table", *(tag("tr", *(tag("td", part) for part in fact)) for fact in facts)))


def _utilization(found: Simulation) -> Markup:
    """A row a layer: dark what multiplies, light what the cycles could have done; the mark is the array's, dense."""
    most = max(max(layer.timing.cycles, layer.dense.cycles) for layer in found.layers)
    room = (WIDTH - _NAMES - _RIGHT) / most
    parts: list[Markup] = []
    for row, layer in enumerate(found.layers):
        top, used = _TOP + row * _ROW, layer.timing.utilization(found.hardware.machine)
        long, plain = layer.timing.cycles * room, _NAMES + layer.dense.cycles * room
        title = f"{layer.name}: {layer.timing.cycles:,} cycles, {used:.1%} used; dense {layer.dense.cycles:,}"
        parts += [
            text(0, top + 12, _short(layer.name)),
            cell(_NAMES, top, long, _ROW - 4, 0.1, title),
            cell(_NAMES, top, long * used, _ROW - 4, 1.0, title),
            tag("line", x1=f"{plain:.1f}", x2=f"{plain:.1f}", y1=f"{top}", y2=f"{top + _ROW - 4}", class_="event"),
        ]
    bottom = _TOP + len(found.layers) * _ROW
    return join(
        tag("p", "Length: cycles. Dark: the part in which multipliers are used. Dashed: the same array, dense."),
        svg(
            bottom + _BOTTOM,
            "cycles and utilization of each layer",
            *parts,
            text(WIDTH - _RIGHT, bottom + 20, f"{most:,} cycles", text_anchor="end"),
        ),
    )


def _granularity(layers: Sequence[SimulatedLayer]) -> Markup:
    """A row a matrix, from left to right its tokens; the finer, the higher."""
    parts: list[Markup] = []
    for row, layer in enumerate(layers):
        top, done = _TOP + row * _TALL, 0
        parts.append(text(0, top + _TALL - 7, _short(layer.name)))
        for span in layer.history:
            room = (WIDTH - _NAMES - _RIGHT) / max(1, layer.tokens)
            left, width = _NAMES + done * room, max(span.tokens * room - 1, 1.0)
            what = f"{span.granularity}, {span.density:.0%} kept, {span.calls:,} calls, {span.cycles:,} cycles"
            title = f"{layer.name}, from token {done:,}: {what}"
            height = (_TALL - 4) * _HEIGHTS.get(span.granularity, 1.0)
            share = 0.3 if span.granularity in _HEIGHTS else 0.0
            parts.append(cell(left, top + _TALL - 4 - height, width, height, share, title))
            if width >= 6 * len(span.granularity) + 6:
                parts.append(text(left + 3, top + _TALL - 7, span.granularity))
            done += span.tokens
    return join(
        tag("p", "The finer, the higher. Pale: run as it is stored."),
        svg(_TOP + len(layers) * _TALL + _TOP, "granularity of each matrix over its tokens", *parts),
    )


def _monitor(found: Simulation) -> Markup:
    """A row a matrix, from left to right its calls."""
    watched = [(layer.name, layer.control) for layer in found.layers if layer.control is not None]
    rows = [join(*_metrics(name, one, _TOP + row * _CHART)) for row, (name, one) in enumerate(watched)]
    return join(
        tag("p", control_text(found) + "."),
        tag(
            "p",
            "Line: mean variance of the bytes that came in, in squared steps, logarithmic. Dashed: thresholds, in the "
            "middle of the band in which the granularity stays.",
        ),
        svg(_TOP + len(watched) * _CHART + _TOP, "metric of each matrix over its calls", *rows),
    )


def _metrics(name: str, one: Watched, top: float) -> Iterator[Markup]:
    """The metric of each call, and the middle of each threshold's band."""
    limits = [sum(pair) / 2 for pair in (one.low, one.high)]
    known = [math.log(value) for value in (*one.metrics, *limits) if value] or [0.0]
    least, span = min(known), max(max(known) - min(known), 1e-9)

    def height(value: float) -> float:
        return top + (_CHART - 10) * (1.0 - (max(math.log(value), least) - least) / span if value else 1.0)

    yield text(0, top + _CHART / 2, _short(name))
    for limit in limits:
        y = f"{height(limit):.1f}"
        yield tag("line", x1=f"{_NAMES}", x2=f"{WIDTH - _RIGHT}", y1=y, y2=y, class_="limit")
    room = (WIDTH - _NAMES - _RIGHT) / max(1, len(one.metrics))
    found = enumerate(one.metrics)
    points = [(f"{_NAMES + (at + 0.5) * room:.1f}", f"{height(value):.1f}") for at, value in found if value is not None]
    yield tag("polyline", points=" ".join(f"{x},{y}" for x, y in points), class_="line")
    for x, y in points:
        yield tag("circle", cx=x, cy=y, r="2")


def _energy(found: Simulation) -> Markup:
    total = sum(found.energy.values())
    rows = [
        tag("tr", tag("td", name), tag("td", energy_text(value)), tag("td", f"{value / total:.1%}"))
        for name, value in sorted(found.energy.items(), key=lambda part: -part[1])
        if value
    ]
    return join(tag("p", found.hardware.table.about), tag("div", tag("table", *rows)))


def _area(found: Simulation) -> Markup:
    area = found.area
    logic = [
        tag("tr", tag("td", name), tag("td", f"{mm2:,.3g} mm2"), tag("td", f"{mm2 / area.total:.1%}"))
        for name, mm2 in sorted(area.parts.items(), key=lambda part: -part[1])
    ]
    memories = [
        tag("tr", tag("td", name), tag("td", f"{bits / 1024:,.0f} kbit"), tag("td", ""))
        for name, bits in sorted(area.memories.items(), key=lambda part: -part[1])
    ]
    return join(
        tag("p", added_text(found) + "."),
        tag("p", found.hardware.areas.about),
        tag("div", tag("table", *logic, *memories)),
    )


def _layers(found: Simulation) -> Markup:
    causes = list(stalls(found.layers[0].timing))
    names = ("matrix", "shape", "tokens", "encoding", "granularity", "kept", "cycles", "dense", "used",
             *(f"stalls: {cause}" for cause in causes), "MB read", "MB written", "energy", "switches")  # fmt: skip
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    rows = []
    for layer in found.layers:
        memory = layer.traffic["memory"]
        values = (layer.name, f"{layer.shape[0]}x{layer.shape[1]}", f"{layer.tokens:,}", layer.encoding,
                  layer.granularity, f"{layer.density:.1%}", f"{layer.timing.cycles:,}", f"{layer.dense.cycles:,}",
                  f"{layer.timing.utilization(found.hardware.machine):.1%}",
                  *(f"{stalls(layer.timing)[cause]:,}" for cause in causes), f"{memory.read / 1e6:,.3f}",
                  f"{memory.written / 1e6:,.3f}", energy_text(sum(layer.energy.values())),
                  str(layer.switches))  # fmt: skip
        rows.append(tag("tr", *(tag("td", value) for value in values)))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)))


def _configurations(found: Simulation) -> Markup:
    tables = list(found.configurations[0].energy)
    head = tag(
        "tr",
        *(tag("th", name, scope="col") for name in ("encoding", "cycles", *(f"energy: {name}" for name in tables))),
    )
    rows = [
        tag("tr", tag("td", one.name), tag("td", f"{one.cycles:,}"),
            *(tag("td", energy_text(one.energy[name])) for name in tables))
        for one in found.configurations
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)))


def _short(name: str) -> str:
    return name if len(name) <= 38 else f"…{name[-37:]}"
