"""`regrain simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrain.cli.options import Confidence, Everything, Json, TaskFile, Threads
from regrain.cli.running import Against, Density, Model, Split, check, check_page

EXAMPLE = (
    "Example: regrain simulate model.regrain.safetensors --task task.py --bandwidth 32 --latency 60 --html sim.html"
)

_DWELL = 1

_GRAIN, _MACHINE, _MEMORY = "Granularity", "The machine", "Its memory"


def command(
    artifact: Model,
    task: TaskFile,
    policy: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            rich_help_panel=_GRAIN,
            help="What decides the granularity of each matrix: static runs it as it is stored; fine, medium and coarse "
            "are predefined; hardware is the machine's own monitor and control, before each call; variance-thresholds "
            "and ranked are the run time's, after each call: ranked has blocks, and chooses them anew.",
        ),
    ] = "static",
    density: Density = 1.0,
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Mean variance of a matrix' inputs below LOW is coarse and above HIGH fine, between them medium.",
            show_default="0.2,0.5; of hardware thirds of calibration's calls",
            rich_help_panel=_GRAIN,
        ),
    ] = None,
    inverted: Annotated[
        bool,
        typer.Option("--inverted", help="The other way round: low variance is fine.", rich_help_panel=_GRAIN),
    ] = False,
    dwell: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="CALLS",
            help="Of hardware: so many calls and one must ask for a change.",
            rich_help_panel=_GRAIN,
        ),
    ] = _DWELL,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="How many batches of the split are run.")] = 4,
    split: Split = "search",
    score: Annotated[
        bool, typer.Option("--score", help="Run the task's evaluation with the machine's numbers, on the whole split.")
    ] = False,
    against: Against = None,
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
    areas: Annotated[
        str,
        typer.Option(
            "--areas",
            metavar="NAME|FILE.json",
            help="What components take: osu018 (180 nm) or osu035 (350 nm), open cell libraries, or a table of yours.",
        ),
    ] = "osu018",
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
        typer.Option(
            min=0,
            metavar="CYCLES",
            help="Until what is asked for begins to come; the reorganizer has 8 words on their way.",
            rich_help_panel=_MEMORY,
        ),
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
    published figures, an estimate; area is that of cells, without wires and memories. A matrix of an artifact changes
    only where its descriptor allows it (compress --dynamic), and is then re-packed from its master copy in every run,
    in the very cycles that the hardware takes.
    """
    from regrain.cli.output import emit_json, stdout
    from regrain.cli.progress import progress_line
    from regrain.cli.simulated import print_simulation
    from regrain.hw import area, energy_table
    from regrain.hw.machine import Machine
    from regrain.hw.model.memory import Memory
    from regrain.hw.networks.adapting import POLICIES, REFUSED, Adapting
    from regrain.pipelines.hardware import Hardware
    from regrain.pipelines.simulate import simulate
    from regrain.pipelines.simulation_report import simulation_report

    check(split, density)
    if policy not in (*POLICIES, *REFUSED):
        raise typer.BadParameter(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
    bits = None if bandwidth is None else 8 * bandwidth // 2
    hardware = Hardware(
        Machine(rows=rows, pes=pes, lanes=lanes, accumulator=accumulator),
        Memory(weight_bits=bits, activation_bits=bits, latency=latency, buffer_bits=8 * buffer),
        energy_table.load(table),
        kept,
        area.load(areas),
    )
    limits = None if thresholds is None else _pair(thresholds)
    adapting = Adapting.of(policy, density, limits, inverted=inverted, dwell=dwell)
    if html is not None:
        check_page(html)
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
    print_simulation(found, everything)
    if policy != "static" and density == 1.0:
        stdout().print("nothing was dropped: give a --density below 1", style="yellow")
    unheard = _unheard(policy, density, thresholds, inverted=inverted, dwell=dwell)
    if unheard:
        stdout().print(f"--policy {policy} has no use for {', '.join(unheard)}", style="yellow", soft_wrap=True)
    if html is not None:
        stdout().print(f"page: {html}", soft_wrap=True)


def _unheard(policy: str, density: float, thresholds: str | None, *, inverted: bool, dwell: int) -> list[str]:
    """Options that were given and change nothing."""
    limited = policy in ("hardware", "variance-thresholds")
    given = {
        "--density": policy == "static" and density != 1.0,
        "--thresholds": not limited and thresholds is not None,
        "--inverted": not limited and inverted,
        "--dwell": policy != "hardware" and dwell != _DWELL,
    }
    return [name for name, useless in given.items() if useless]


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"thresholds must be two numbers LOW,HIGH, not {text!r}") from None
    return low, high
