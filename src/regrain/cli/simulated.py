"""What `regrain simulate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regrain.cli.running import print_left, print_outputs

if TYPE_CHECKING:
    from regrain.pipelines.simulate import Simulation
    from regrain.pipelines.simulated_layers import SimulatedLayer

_ENCODINGS = {"block, fine inside": "block/fine"}
"""Short names."""

_NAME = 10
"""Columns of a matrix' name, at least."""

_MORE = ("used", "stalls", "MB")
"""What a narrow terminal doesn't show."""


def print_simulation(found: Simulation, everything: bool) -> None:
    """The layers that take most cycles, or with `everything` all of them, and the whole."""
    from regrain.cli.output import bold, rows_to_show, shorten, stdout, table
    from regrain.core.granularity import Granularity
    from regrain.pipelines.simulation_texts import control_text

    console = stdout()
    console.print(bold(str(found.path)), f"on {found.split} data of task {found.task!r}", soft_wrap=True)
    layers = sorted(found.layers, key=lambda layer: -layer.timing.cycles)
    changing = found.policy not in ("static", *Granularity)
    shown = rows_to_show(len(layers), everything)
    columns = _columns(found, layers[:shown], changing)
    room = console.width - sum(2 + max(map(len, (name, *cells))) for name, cells in columns.items())
    narrow = room < _NAME
    if narrow:
        for name in _MORE:
            room += 2 + max(map(len, (name, *columns.pop(name))))
    width = max(_NAME, room)
    grid = table("matrix", *columns, left=2)
    for layer, *cells in zip(layers[:shown], *columns.values(), strict=True):
        short = layer.name if len(layer.name) <= width else layer.name.removesuffix(".weight")
        grid.add_row(shorten(short, width), *cells)
    console.print(grid)
    told = "a wider terminal shows more" if narrow else "used: of its multipliers"
    console.print(f"dense: of the cycles that the same array takes dense; {told}", style="dim", soft_wrap=True)
    if shown < len(layers):
        console.print(f"and {len(layers) - shown} more: --all shows every one", style="dim")
    print_left(found.left, everything)
    if found.policy != "static" and not any(layer.may_change for layer in found.layers):
        console.print("no matrix may change: compress the model with --dynamic", style="yellow")
    if found.policy == "hardware":
        console.print(control_text(found), style="dim", soft_wrap=True)
    _print_totals(found)


def _columns(found: Simulation, layers: Sequence[SimulatedLayer], changing: bool) -> dict[str, list[str]]:
    """What stands beside the layers' names, column by column."""
    from regrain.cli.output import percent
    from regrain.hw.networks.schedule import stalls

    columns: dict[str, list[str]] = {}
    for layer in layers:
        moved, how = layer.traffic["memory"], _how(layer, changing)
        cells = {
            **dict(zip(("grain", "changes") if changing else ("encoding",), how, strict=True)),
            "kept": f"{percent(layer.density, 0)}%",
            "cycles": _brief(layer.timing.cycles),
            "dense": f"{percent(layer.timing.cycles / layer.dense.cycles)}%",
            "used": f"{percent(layer.timing.utilization(found.hardware.machine), 0)}%",
            "stalls": _brief(sum(stalls(layer.timing).values())),
            "MB": _brief((moved.read + moved.written) / 1e6),
            "uJ": _brief(sum(layer.energy.values()) / 1e6),
        }
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    return columns


def _how(layer: SimulatedLayer, changing: bool) -> tuple[str, ...]:
    """What it is run as in the end."""
    if changing:
        return layer.granularity, f"{layer.switches:,}"
    return (_ENCODINGS.get(layer.encoding, layer.encoding),)


def _brief(number: float) -> str:
    """At most six characters below a million million."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if number >= least:
            return f"{number / unit:.4g}{letter}"
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def _print_totals(found: Simulation) -> None:
    from regrain.cli.output import bold, percent, stdout
    from regrain.pipelines.configurations import rankings, survives
    from regrain.pipelines.simulation_texts import added_text, area_text, batches_text, energy_text

    console, total = stdout(), sum(found.energy.values())
    console.print(
        bold(f"{found.cycles:,} cycles"),
        f"for {batches_text(found.batches)}, {found.dense_cycles / found.cycles:.2f} times fewer than the same array "
        f"dense; {percent(found.utilization)} % of its multipliers used",
        soft_wrap=True,
    )
    parts = sorted(found.energy.items(), key=lambda part: -part[1])[:3]
    console.print(
        bold(energy_text(total)),
        f"by table {found.hardware.table.name}, {found.dense_energy / total:.2f} times less than dense; most of it "
        + ", ".join(f"{name} {percent(value / total, 0)} %" for name, value in parts),
        soft_wrap=True,
    )
    console.print(
        f"for each of {found.rows:,} output rows: {found.cycles / found.rows:,.0f} cycles, "
        f"{energy_text(total / found.rows)}; energy x cycles {found.energy_delay:.2f} times less than dense",
        soft_wrap=True,
    )
    console.print(bold(f"{found.area.total:,.3g} mm2"), area_text(found), soft_wrap=True)
    console.print(added_text(found), soft_wrap=True)
    print_outputs(found.fidelity, found.drops, found.against, found.confidence)
    for one in found.configurations:
        costs = ", ".join(f"{energy_text(cost)} by {name}" for name, cost in one.energy.items())
        console.print(f"{one.name}: {one.cycles:,} cycles, {costs}", soft_wrap=True)
    if found.configurations:
        orders = rankings(found.configurations)
        said = "all tables rank these alike" if survives(found.configurations) else "the tables rank these differently"
        least = ", ".join(f"{name}: {order[0]}" for name, order in orders.items())
        console.print(f"{said}: least by {least}", soft_wrap=True)
