"""`regrain compress`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import (
    Bits,
    Cells,
    Confidence,
    Dynamic,
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
    Slim,
    TaskOption,
    Threads,
    Work,
)

if TYPE_CHECKING:
    from regrain.core.budget import Budget
    from regrain.core.descriptor import WeightDescriptor
    from regrain.core.recipe import Recipe
    from regrain.pipelines.lossless import CompressResult
    from regrain.pipelines.options import Options

EXAMPLE = "Example: regrain compress model.safetensors --task task.py --max-drop 1% -o small.regrain.safetensors"


def command(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="The artifact to write.", show_default="MODEL with .regrain in its name"
        ),
    ] = None,
    task: TaskOption = None,
    max_drop: MaxDrop = None,
    max_drop_abs: MaxDropAbs = None,
    min_fidelity: MinFidelity = None,
    max_size: MaxSize = None,
    bits: Bits = None,
    max_work: MaxWork = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="RECIPE", help="Do what this file of regrain plan says; search nothing.", show_default=False
        ),
    ] = None,
    confidence: Confidence = 0.95,
    seed: Seed = 0,
    cells: Cells = None,
    objective: Objective = "bytes",
    patterns: Patterns = None,
    slim: Slim = False,
    dynamic: Dynamic = False,
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
    """Compress a model: as small as the limits of a task allow, or without losing a bit.

    Without --task nothing is lost. With it and a limit, the result is the smallest that was found to keep all limits,
    proved on data that the search did not see; where nothing else can be shown to keep them, it is lossless. Ctrl-C
    during the search takes the best so far.

    The artifact is an ordinary safetensors file: regrain.torch.load_file and regrain.numpy.load_file read it directly,
    and regrain restore writes the plain file. A model directory comes out as a directory, its other files as they are.
    """
    if out is not None and out.is_file() and model.is_file() and out.samefile(model):
        raise typer.BadParameter(f"must be another file than MODEL, not {str(out)!r}", param_hint="--out")
    from regrain.cli.budget import parse_budget, parse_options, parse_rule
    from regrain.pipelines.compress import read_recipe

    budget = parse_budget(max_drop, max_drop_abs, min_fidelity, max_size, bits, confidence, max_work)
    searching = {"--cells": cells, "--patterns": patterns, "--slim": slim, "--work": work, "--resume": resume}
    searching |= {"--fresh": fresh, "--selector": selector != "search", "--objective": objective != "bytes"}
    rule = parse_rule(selector, high_entropy, low_entropy, max_sparsity, rule_bits, rule_density)
    _check(task, budget, recipe, [name for name, value in searching.items() if value])
    steps = None if recipe is None else read_recipe(recipe)
    if task is None:
        _plainly(model, out, steps, dynamic, force, threads, as_json)
    else:
        _within(
            model,
            out,
            task,
            budget,
            steps,
            parse_options(
                seed, cells, work, resume, fresh, threads, objective, patterns, selector, rule, slim, dynamic
            ),
            force,
            as_json,
        )


def _check(task: Path | None, budget: Budget | None, recipe: Path | None, searching: list[str]) -> None:
    """Refuse options that contradict each other or lack another."""
    if task is None and budget is not None:
        raise typer.BadParameter("a limit must be given with --task TASK, on whose data it is kept")
    if task is None and searching:
        raise typer.BadParameter(f"{searching[0]} must be given with --task TASK: without one nothing is measured")
    if task is not None and budget is None and recipe is None:
        raise typer.BadParameter("--task must be given with a limit, such as --max-drop 1%, or with --recipe")
    for option in ("--cells", "--patterns", "--selector", "--objective"):
        if recipe is not None and option in searching:
            raise typer.BadParameter(
                f"{option} must not be given with --recipe, which says what is done to each tensor"
            )


def _within(
    model: Path,
    out: Path | None,
    task: Path,
    budget: Budget | None,
    recipe: Recipe | None,
    options: Options,
    force: bool,
    as_json: bool,
) -> None:
    from regrain.cli.failures import resumable
    from regrain.cli.output import emit_json
    from regrain.cli.progress import job_progress
    from regrain.cli.receipt import print_receipt
    from regrain.pipelines.budgeted import compress_within
    from regrain.pipelines.compress import ANYTHING

    with resumable(), job_progress(quiet=as_json) as listener:
        result = compress_within(
            model,
            out,
            task=task,
            budget=budget or ANYTHING,
            recipe=recipe,
            options=options,
            force=force,
            listener=listener,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        print_receipt(result)


def _plainly(
    model: Path,
    out: Path | None,
    recipe: Recipe | None,
    dynamic: bool,
    force: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    from regrain.cli.output import emit_json
    from regrain.cli.progress import progress_bar
    from regrain.pipelines.compress import compress

    start = time.perf_counter()
    with progress_bar("compressing") as progress:
        result = compress(model, out, recipe=recipe, dynamic=dynamic, force=force, threads=threads, progress=progress)
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result, time.perf_counter() - start)  # type: ignore[arg-type]


def _kind(descriptor: WeightDescriptor) -> str:
    if descriptor.tied is not None:
        return "tied"
    if descriptor.density is not None:
        return "pruned"
    return "quantized" if descriptor.scheme.cell else str(descriptor.scheme.coder)


def _print(result: CompressResult, seconds: float) -> None:
    from regrain.cli.output import bits, bold, megabytes, percent, stdout

    console, found = stdout(), result.artifact
    saved = found.original_bytes - found.nbytes
    share = found.nbytes / found.original_bytes if found.original_bytes else None
    console.print(bold(str(result.path)), soft_wrap=True)
    console.print(
        f"{megabytes(found.nbytes)} MB of {megabytes(found.original_bytes)} MB ({percent(share)} %),"
        f" {bits(found.bits_per_weight)} bits per weight of {bits(found.original_bits_per_weight)}"
    )
    coders = Counter(_kind(tensor.descriptor) for tensor in found.tensors)
    lossy = "".join(f"{coders[kind]} {kind}, " for kind in ("pruned", "quantized") if coders[kind])
    console.print(
        f"{len(found.tensors)} tensors: {lossy}{coders['rans']} coded, {coders['raw']} kept as they are,"
        f" {coders['tied']} tied"
    )
    verb = "saved" if saved >= 0 else "added"
    console.print(
        f"{verb} {megabytes(abs(saved))} MB in {seconds:.2f} s, {found.original_bytes / seconds / 1e9:.2f} GB/s"
    )
    for note in result.notes:
        console.print(f"note: {note}")
