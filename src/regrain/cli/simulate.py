"""`regrain simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Confidence, Everything, Json, TaskFile, Threads

if TYPE_CHECKING:
    from regrain.pipelines.simulate import Simulation

EXAMPLE = (
    "Example: regrain simulate model.regrain.safetensors --task task.py --bandwidth 32 --latency 60 --html sim.html"
)

_MACHINE, _MEMORY = "The machine", "Its memory"


def command(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="An artifact, or a plain model.", show_default=False)
    ],
    task: TaskFile,
    policy: Annotated[
        str,
        typer.Option(
            metavar="static|fine|medium|coarse|variance-thresholds",
            help="What decides the granularity of each matrix: static runs it as it is stored; fine, medium and coarse "
            "are predefined; variance-thresholds goes by the mean variance of its inputs, after each call.",
        ),
    ] = "static",
    density: Annotated[
        float, typer.Option(metavar="FRACTION", help="Of each matrix that may change, what a granularity keeps.")
    ] = 1.0,
    thresholds: Annotated[
        str,
        typer.Option(metavar="LOW,HIGH", help="Variance below LOW is coarse and above HIGH fine, between them medium."),
    ] = "0.2,0.5",
    inverted: Annotated[bool, typer.Option("--inverted", help="The other way round: low variance is fine.")] = False,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="How many batches of the split are run.")] = 4,
    split: Annotated[str, typer.Option(metavar="search|held_out", help="Which of the task's data.")] = "search",
    score: Annotated[
        bool, typer.Option("--score", help="Run the task's evaluation with the machine's numbers, on the whole split.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="Compare with this model, the original.", show_default="the artifact's own weights"
        ),
    ] = None,
    others: Annotated[
        bool,
        typer.Option(
            "--others", help="Run the same weights in every encoding, too, and price each by every energy table."
        ),
    ] = False,
    table: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.json",
            help="What actions cost: horowitz or accelergy (45 nm), own (gates of this machine, 180 nm), or a table of "
            "yours.",
        ),
    ] = "horowitz",
    bandwidth: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="BYTES",
            help="A cycle, half for weights and half for activations.",
            show_default="no limit",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    latency: Annotated[
        int,
        typer.Option(min=0, metavar="CYCLES", help="Until what is asked for begins to come.", rich_help_panel=_MEMORY),
    ] = 0,
    buffer: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="Of the activation buffer.", rich_help_panel=_MEMORY)
    ] = 262_144,
    kept: Annotated[
        int,
        typer.Option(
            "--features",
            min=0,
            metavar="BYTES",
            help="Of a memory on chip where feature maps stay from one layer to the next; larger ones go outside.",
            rich_help_panel=_MEMORY,
        ),
    ] = 0,
    rows: Annotated[int, typer.Option(metavar="N", help="Tokens at a time.", rich_help_panel=_MACHINE)] = 16,
    pes: Annotated[int, typer.Option(metavar="N", help="Processing elements of a row.", rich_help_panel=_MACHINE)] = 4,
    lanes: Annotated[
        int, typer.Option(metavar="N", help="Multipliers of a processing element.", rich_help_panel=_MACHINE)
    ] = 4,
    accumulator: Annotated[int, typer.Option(metavar="BITS", help="Of an accumulator.", rich_help_panel=_MACHINE)] = 24,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page with utilization by layer and granularity over time.", show_default=False
        ),
    ] = None,
    confidence: Confidence = 0.95,
    threads: Threads = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Run a network on regrain's accelerator, by its cycle model: real weights and inputs, cycles, bytes and energy.

    Linear layers and convolutions are computed as the hardware does it, with int8 weights and activations, layer after
    layer; attention, norms and what is between stay torch's, cost nothing here, and see floats. Weights that an
    artifact has as 8-bit indices with steps by rows are run as they are, others are rounded. Energy is events times
    published figures, an estimate. A matrix of an artifact changes only where its descriptor allows it (compress
    --dynamic).
    """
    from regrain.cli.output import emit_json, stdout
    from regrain.cli.progress import progress_line
    from regrain.hw.energy_table import load
    from regrain.hw.machine import Machine
    from regrain.hw.model.memory import Memory
    from regrain.pipelines.adapting import POLICIES, Adapting
    from regrain.pipelines.hardware import Hardware
    from regrain.pipelines.simulate import simulate
    from regrain.pipelines.simulation_report import simulation_report

    if split not in ("search", "held_out"):
        raise typer.BadParameter(f"split must be search or held_out, not {split!r}")
    if not 0.0 < density <= 1.0:
        raise typer.BadParameter(f"density must be a fraction above 0 to 1, not {density!r}")
    if policy not in POLICIES:
        raise typer.BadParameter(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
    bits = None if bandwidth is None else 8 * bandwidth // 2
    hardware = Hardware(
        Machine(rows=rows, pes=pes, lanes=lanes, accumulator=accumulator),
        Memory(weight_bits=bits, activation_bits=bits, latency=latency, buffer_bits=8 * buffer),
        load(table),
        kept,
    )
    adapting = Adapting.of(policy, density, _pair(thresholds), inverted=inverted)
    with progress_line() as told:
        found = simulate(
            artifact,
            task=task,
            hardware=hardware,
            adapting=adapting,
            against=against,
            split=split,
            batches=batches,
            score=score,
            others=others,
            confidence=confidence,
            threads=threads,
            progress=told,
        )
    if html is not None:
        simulation_report(found, html, force=True)
    if as_json:
        emit_json(found.to_json())
        return
    _print(found, everything)
    if html is not None:
        stdout().print(f"page: {html}", soft_wrap=True)


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"thresholds must be two numbers LOW,HIGH, not {text!r}") from None
    return low, high


def _print(found: Simulation, everything: bool) -> None:
    from regrain.cli.output import bold, percent, rows_to_show, shorten, stdout, table
    from regrain.hw.networks.schedule import stalls

    console = stdout()
    console.print(bold(str(found.path)), f"on {found.split} data of task {found.task!r}", soft_wrap=True)
    layers = sorted(found.layers, key=lambda layer: -layer.timing.cycles)
    grid = table(
        "matrix", "encoding", "kept %", "cycles", "of dense %", "used %", "stalls", "MB", "uJ", "switches", left=2
    )
    shown = rows_to_show(len(layers), everything)
    for layer in layers[:shown]:
        moved = layer.traffic["memory"]
        grid.add_row(
            shorten(layer.name, 32),
            layer.encoding,
            percent(layer.density),
            f"{layer.timing.cycles:,}",
            percent(layer.timing.cycles / layer.dense.cycles),
            percent(layer.timing.utilization(found.hardware.machine)),
            f"{sum(stalls(layer.timing).values()):,}",
            f"{(moved.read + moved.written) / 1e6:,.2f}",
            f"{sum(layer.energy.values()) / 1e6:,.4g}",
            f"{layer.switches:,}",
        )
    console.print(grid)
    if shown < len(layers):
        console.print(f"and {len(layers) - shown} more: --all shows every one", style="dim")
    for name, reason in list(found.left.items())[: None if everything else 3]:
        console.print(f"left to torch: {name or 'the model'}, because {reason}", style="dim", soft_wrap=True)
    if found.policy != "static" and not any(layer.may_change for layer in found.layers):
        console.print("no matrix may change: compress the model with --dynamic", style="yellow")
    _print_totals(found)


def _print_totals(found: Simulation) -> None:
    from regrain.cli.output import bold, percent, stdout
    from regrain.pipelines.configurations import rankings, survives

    console, total = stdout(), sum(found.energy.values())
    console.print(
        bold(f"{found.cycles:,} cycles"),
        f"for {found.batches} batches, {found.dense_cycles / found.cycles:.2f} times fewer than the same array dense; "
        f"{percent(found.utilization)} % of its multipliers used",
        soft_wrap=True,
    )
    parts = sorted(found.energy.items(), key=lambda part: -part[1])[:3]
    console.print(
        bold(f"{total / 1e6:,.4g} uJ"),
        f"by table {found.hardware.table.name}, {found.dense_energy / total:.2f} times less than dense; most of it "
        + ", ".join(f"{name} {percent(value / total, 0)} %" for name, value in parts),
        soft_wrap=True,
    )
    loss = found.fidelity.loss(found.confidence)
    bound = "" if loss.upper is None else f" (at most {loss.upper:.3g})"
    beside = "torch with the same weights" if found.against is None else str(found.against)
    console.print(
        f"outputs beside {beside}: {'D' if found.fidelity.kind == 'embeddings' else 'KL'} {loss.drop:.3g}{bound}"
    )
    for name, drop in found.drops.items():
        most = "" if drop.upper is None else f" (at most {drop.upper:.4g} worse)"
        console.print(f"{name}: {drop.before:.5g} → {drop.after:.5g}{most}")
    for one in found.configurations:
        costs = ", ".join(f"{cost / 1e6:,.4g} uJ by {name}" for name, cost in one.energy.items())
        console.print(f"{one.name}: {one.cycles:,} cycles, {costs}", soft_wrap=True)
    if found.configurations:
        orders = rankings(found.configurations)
        said = "all tables rank these alike" if survives(found.configurations) else "the tables rank these differently"
        console.print(f"{said}: least by " + ", ".join(f"{name}: {order[0]}" for name, order in orders.items()))
