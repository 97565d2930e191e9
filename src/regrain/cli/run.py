"""`regrain run`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Confidence, Everything, Json, TaskFile, Threads
from regrain.cli.running import (
    Against,
    Density,
    Model,
    Split,
    check,
    check_page,
    check_trace,
    print_left,
    print_outputs,
)

if TYPE_CHECKING:
    from regrain.pipelines.run import Run

EXAMPLE = (
    "Example: regrain run model.regrain.safetensors --task task.py --policy ranked --density 0.7 --trace run.jsonl"
)


def command(
    artifact: Model,
    task: TaskFile,
    policy: Annotated[
        str,
        typer.Option(
            metavar="static|auto|ranked|bank|token-skip|normalized-variance|variance-thresholds",
            help="What decides the granularity of each matrix while it serves; static leaves it as it is stored.",
        ),
    ] = "auto",
    density: Density = 1.0,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Build a bank of patterns with compensated weights from calibration data: block:16x1 or column.",
            show_default=False,
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            metavar="f32|f16|i8|i4", help="What weights are kept as in memory.", show_default="what suits the artifact"
        ),
    ] = None,
    activations: Annotated[
        str, typer.Option(metavar="f32|i8", help="What inputs are multiplied as; i8 rounds each token's.")
    ] = "f32",
    against: Against = None,
    split: Split = "held_out",
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what is observed and decided there, as JSON lines.", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with granularity and latency over time.", show_default=False),
    ] = None,
    confidence: Confidence = 0.95,
    threads: Threads = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Serve a model on a task from panels, with granularity that follows the data, beside torch.

    Shows how much faster it is than torch, how close its outputs stay, and what became of each matrix. A matrix of an
    artifact changes only where its descriptor allows it (compress --dynamic).
    """
    from regrain.cli.output import emit_json, stdout
    from regrain.cli.progress import progress_line
    from regrain.core.errors import RecipeError
    from regrain.core.pattern import Pattern
    from regrain.kernels.panels import VALUES
    from regrain.pipelines.run import Serving, run
    from regrain.pipelines.run_report import run_report
    from regrain.policies import POLICIES
    from regrain.runtime.host import remembered

    check(split, density)
    if policy not in POLICIES:
        raise typer.BadParameter(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
    if value is not None and value not in VALUES:
        raise typer.BadParameter(f"value must be one of {', '.join(VALUES)}, not {value!r}")
    if activations not in ("f32", "i8"):
        raise typer.BadParameter(f"activations must be f32 or i8, not {activations!r}")
    if pattern is not None:
        try:
            Pattern(pattern)
        except RecipeError as error:
            raise typer.BadParameter(str(error)) from None
    for path, checked in ((html, check_page), (trace, check_trace)):
        if path is not None:
            checked(path)
    serving = Serving(policy, density, pattern, value, activations, remembered())
    with progress_line() as told:
        found = run(
            artifact,
            task=task,
            serving=serving,
            against=against,
            split=split,
            trace=trace,
            confidence=confidence,
            threads=threads,
            progress=told,
        )
    if html is not None:
        run_report(found, html, trace=trace, force=True)
    if as_json:
        emit_json(found.to_json())
        return
    _print(found, everything)
    for what, path in (("trace", trace), ("page", html)):
        if path is not None:
            stdout().print(f"{what}: {path}", soft_wrap=True)


def _print(found: Run, everything: bool) -> None:
    from regrain.cli.output import bold, megabytes, percent, rows_to_show, shorten, stdout, table

    console = stdout()
    console.print(bold(str(found.path)), f"on {found.split} data of task {found.task!r}", soft_wrap=True)
    layers = sorted(found.layers, key=lambda layer: -layer.nbytes)
    grid = table("matrix", "grain", "kept %", "MB", "switches", "bias", left=2)
    shown = rows_to_show(len(layers), everything)
    for layer in layers[:shown]:
        grid.add_row(
            shorten(layer.name, 36),
            layer.granularity,
            percent(layer.density),
            megabytes(layer.nbytes),
            f"{layer.switches:,}",
            f"{layer.refreshes:,}",
        )
    console.print(grid)
    if shown < len(layers):
        console.print(f"and {len(layers) - shown} more: --all shows every one", style="dim")
    for layout, count in Counter(layer.layout for layer in layers).most_common():
        console.print(f"{count} served by {layout}", style="dim")
    print_left(found.left, everything)
    plain, served = (
        sorted(getattr(batch, which) for batch in found.batches)[len(found.batches) // 2]
        for which in ("plain", "served")
    )
    console.print(
        bold(f"{found.ratio:.2f} times as fast as torch"),
        f"({1e3 * served:.3g} ms a batch for {1e3 * plain:.3g}; medians of {len(found.batches)} batches, "
        f"{found.threads} threads, {found.instruction_set})",
    )
    print_outputs(found.fidelity, found.drops, found.against, found.confidence)
