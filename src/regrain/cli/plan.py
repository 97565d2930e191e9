"""`regrain plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import (
    Bits,
    Cells,
    Confidence,
    Force,
    Fresh,
    HighEntropy,
    Json,
    LowEntropy,
    MaxDrop,
    MaxDropAbs,
    MaxSize,
    MaxSparsity,
    MaxWork,
    MinFidelity,
    Model,
    Objective,
    Patterns,
    Resume,
    RuleBits,
    RuleDensity,
    Seed,
    Selector,
    TaskFile,
    Threads,
    Work,
)

if TYPE_CHECKING:
    from regrain.pipelines.plan import PlanResult
    from regrain.planning.search import Point

EXAMPLE = "Example: regrain plan model.safetensors --task task.py --max-drop 1% -o recipe.json"


def command(
    model: Model,
    task: TaskFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RECIPE", help="Write the recipe to this file.", show_default=False),
    ] = None,
    max_drop: MaxDrop = None,
    max_drop_abs: MaxDropAbs = None,
    min_fidelity: MinFidelity = None,
    max_size: MaxSize = None,
    bits: Bits = None,
    max_work: MaxWork = None,
    confidence: Confidence = 0.95,
    seed: Seed = 0,
    cells: Cells = None,
    objective: Objective = "bytes",
    patterns: Patterns = None,
    selector: Selector = "search",
    high_entropy: HighEntropy = None,
    low_entropy: LowEntropy = None,
    max_sparsity: MaxSparsity = None,
    rule_bits: RuleBits = None,
    rule_density: RuleDensity = None,
    work: Work = None,
    resume: Resume = False,
    fresh: Fresh = False,
    force: Force = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Search the smallest recipe within a budget, and show the frontier; writes no artifact.

    Looks at calibration and search data only: what was found is proved by regrain compress, which starts from the same
    measurements. A recipe is JSON with a line for each tensor, to be read, edited and given to compress --recipe.
    """
    from regrain.cli.budget import parse_budget, parse_options, parse_rule
    from regrain.cli.failures import resumable
    from regrain.cli.output import emit_json
    from regrain.cli.progress import job_progress

    budget = parse_budget(max_drop, max_drop_abs, min_fidelity, max_size, bits, confidence, max_work)
    if budget is None:
        raise typer.BadParameter("a limit must be given, such as --max-drop 1%")
    rule = parse_rule(selector, high_entropy, low_entropy, max_sparsity, rule_bits, rule_density)
    options = parse_options(seed, cells, work, resume, fresh, threads, objective, patterns, selector, rule)
    from regrain.pipelines.plan import plan_within

    with resumable(), job_progress(quiet=as_json) as listener:
        result = plan_within(model, out, task=task, budget=budget, options=options, force=force, listener=listener)
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result)


def _print(result: PlanResult) -> None:
    from regrain.cli.output import bits, bold, megabytes, stdout, work_line

    console = stdout()
    console.print(_frontier(result))
    console.print()
    pruned = sum(layer.pruning is not None for layer in result.recipe.layers)
    quantized = sum(layer.step is not None for layer in result.recipe.layers)
    console.print(
        bold(f"{megabytes(result.nbytes)} MB of {megabytes(result.original_bytes)} MB"),
        f"= {bits(8 * result.nbytes / result.weights)} bits per weight:",
        f"{quantized} of {len(result.recipe.layers)} tensors quantized{f', {pruned} pruned' if pruned else ''}",
    )
    if pruned and result.best is not None:
        console.print(work_line(result.original_work, result.best.work))
    console.print("on search data; regrain compress proves it on held-out data", style="dim")
    for note in result.notes:
        console.print(f"note: {note}")
    if result.path is not None:
        console.print(bold(str(result.path)), soft_wrap=True)


def _frontier(result: PlanResult) -> object:
    from regrain.cli.output import bits, megabytes, table

    names = list(result.points[0].measured.drops) if result.points else []
    loss = "D" if not result.points or result.points[0].measured.fidelity.kind == "embeddings" else "KL"
    work = ["work %"] if result.objective in ("work", "both") else []
    grid = table(
        "", "MB", "b/w", *work, f"{loss} predicted", loss, *(f"{name} drop" for name in names), "of limit %", left=1
    )
    size = [megabytes(result.lossless_bytes), bits(8 * result.lossless_bytes / result.weights)]
    lossless = [*size, *("100.0" for _ in work), "0", "0"]
    grid.add_row("lossless", *lossless, *("0" for _ in names), "0", style="bold" if result.best is None else None)
    for point in sorted(result.points, key=lambda point: -point.nbytes):
        chosen = point is result.best
        grid.add_row(_mark(point, chosen), *_cells(point, result, bool(work)), style="bold" if chosen else None)
    return grid


def _mark(point: Point, chosen: bool) -> str:
    return f"→ {point.number}" if chosen else f"{point.number}" if point.ok else f"{point.number} ✗"


def _cells(point: Point, result: PlanResult, worked: bool) -> list[str]:
    from regrain.cli.output import bits, megabytes, percent

    drops = [f"{drop.drop:.3g}" for drop in point.measured.drops.values()]
    used = "-" if point.verdict is None else f"{100 * point.verdict.margin:.0f}"
    size = [megabytes(point.nbytes), bits(8 * point.nbytes / result.weights)]
    if worked:
        size.append(percent(point.work / result.original_work) if result.original_work else "-")
    return [*size, f"{point.loss:.3g}", f"{point.measured.fidelity.value:.3g}", *drops, used]
