"""What a simulation found, as one self-contained page: cycles and utilization, granularity over time, energy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regrain.artifact.output import output_file
from regrain.hw.networks.schedule import stalls
from regrain.pipelines.report.markup import Markup, join, section, tag
from regrain.pipelines.report.sheet import WIDTH, cell, sheet, svg, text

if TYPE_CHECKING:
    from regrain.pipelines.simulate import Simulation
    from regrain.pipelines.simulated_layers import SimulatedLayer

_NAMES, _RIGHT, _TOP, _BOTTOM, _ROW = 240, 16, 16, 32, 18
_SIGNS = {"fine": "·", "medium": "▪", "coarse": "■"}


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
    total, machine = sum(found.energy.values()), found.hardware.machine
    loss = found.fidelity.loss(found.confidence).drop
    said = (
        f"{found.path.name}, {found.batches} batches of {found.split} data of task {found.task}, policy "
        f"{found.policy}, on {machine.rows} x {machine.outputs} multipliers: {found.cycles:,} cycles, "
        f"{found.dense_cycles / found.cycles:.2f} times fewer than the same array dense; {total / 1e6:,.4g} uJ by "
        f"table {found.hardware.table.name} "
        f"({found.hardware.table.technology}), {found.dense_energy / total:.2f} times less; "
        f"{'D' if found.fidelity.kind == 'embeddings' else 'KL'} {loss:.3g}"
    )
    metrics = [tag("p", f"{name}: {drop.before:.5g} → {drop.after:.5g}") for name, drop in found.drops.items()]
    parts = [
        tag("p", said),
        *metrics,
        section("utilization", "Multipliers used, by layer", _utilization(found)),
        section("granularity", "Granularity of each matrix, over its tokens", _granularity(found.layers)),
        section("energy", "Energy", _energy(found)),
        section("layers", "Layers", _layers(found)),
    ]
    if found.configurations:
        parts.append(section("others", "The same weights in other encodings", _configurations(found)))
    if found.left:
        rows = [tag("tr", tag("td", name), tag("td", reason)) for name, reason in found.left.items()]
        parts.append(section("left", "Left to torch", tag("div", tag("table", *rows))))
    return sheet("A network on the accelerator", *parts)


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
    """A row a matrix, from left to right its tokens."""
    parts: list[Markup] = []
    for row, layer in enumerate(layers):
        top, done = _TOP + row * _ROW, 0
        parts.append(text(0, top + 12, _short(layer.name)))
        for span in layer.history:
            room = (WIDTH - _NAMES - _RIGHT) / max(1, layer.tokens)
            left, width = _NAMES + done * room, max(span.tokens * room - 1, 1.0)
            what = f"{span.granularity}, {span.density:.0%} kept, {span.cycles:,} cycles"
            title = f"{layer.name}, from token {done:,}: {what}"
            parts.append(cell(left, top, width, _ROW - 4, span.density, title))
            if span.granularity in _SIGNS and width >= 9:
                parts.append(text(left + 3, top + 12, _SIGNS[span.granularity]))
            done += span.tokens
    legend = ", ".join(f"{sign} {unit}" for unit, sign in _SIGNS.items())
    return join(
        tag("p", f"{legend}; nothing where a matrix is run as it is stored. Darker: more of the weights is kept."),
        svg(_TOP + len(layers) * _ROW + _TOP, "granularity of each matrix over its tokens", *parts),
    )


def _energy(found: Simulation) -> Markup:
    total = sum(found.energy.values())
    rows = [
        tag("tr", tag("td", name), tag("td", f"{value / 1e6:,.4g} uJ"), tag("td", f"{value / total:.1%}"))
        for name, value in sorted(found.energy.items(), key=lambda part: -part[1])
    ]
    return join(tag("p", found.hardware.table.about), tag("div", tag("table", *rows)))


def _layers(found: Simulation) -> Markup:
    causes = list(stalls(found.layers[0].timing))
    names = ("matrix", "shape", "tokens", "encoding", "granularity", "kept", "cycles", "dense", "used",
             *(f"stalls: {cause}" for cause in causes), "MB read", "MB written", "uJ", "switches")  # fmt: skip
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    rows = []
    for layer in found.layers:
        memory = layer.traffic["memory"]
        values = (layer.name, f"{layer.shape[0]} x {layer.shape[1]}", f"{layer.tokens:,}", layer.encoding,
                  layer.granularity, f"{layer.density:.1%}", f"{layer.timing.cycles:,}", f"{layer.dense.cycles:,}",
                  f"{layer.timing.utilization(found.hardware.machine):.1%}",
                  *(f"{stalls(layer.timing)[cause]:,}" for cause in causes), f"{memory.read / 1e6:,.3f}",
                  f"{memory.written / 1e6:,.3f}", f"{sum(layer.energy.values()) / 1e6:,.4g}",
                  str(layer.switches))  # fmt: skip
        rows.append(tag("tr", *(tag("td", value) for value in values)))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)))


def _configurations(found: Simulation) -> Markup:
    tables = list(found.configurations[0].energy)
    head = tag(
        "tr", *(tag("th", name, scope="col") for name in ("encoding", "cycles", *(f"uJ: {name}" for name in tables)))
    )
    rows = [
        tag("tr", tag("td", one.name), tag("td", f"{one.cycles:,}"),
            *(tag("td", f"{one.energy[name] / 1e6:,.4g}") for name in tables))
        for one in found.configurations
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)))


def _short(name: str) -> str:
    return name if len(name) <= 38 else f"…{name[-37:]}"
