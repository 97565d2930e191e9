"""`regrain eval`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Confidence, Json, TaskFile, Threads

if TYPE_CHECKING:
    from regrain.pipelines.evaluate import Evaluation

EXAMPLE = "Example: regrain eval model.regrain.safetensors --task task.py --against model.safetensors"


class Split(StrEnum):
    """The data to evaluate on."""

    SEARCH = "search"
    HELD_OUT = "held_out"


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL_OR_ARTIFACT", help="What to evaluate.", show_default=False)],
    task: TaskFile,
    against: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare with this model, the original.", show_default=False),
    ] = None,
    split: Annotated[Split, typer.Option(help="Which of the task's data.")] = Split.HELD_OUT,
    confidence: Confidence = 0.95,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Evaluate a model or an artifact on a task; with --against, how much worse than another, and how sure that is.

    Held-out data are worth most while nobody chooses by them: use --split search to try things.
    """
    from regrain.cli.output import emit_json
    from regrain.pipelines.evaluate import evaluate

    if not 0.5 <= confidence < 1.0:
        raise typer.BadParameter(f"confidence must be from 0.5 to below 1, not {confidence!r}")
    found = evaluate(model, task=task, against=against, split=split, confidence=confidence, threads=threads)
    if as_json:
        emit_json(found.to_json())
    else:
        _print(found)


def _print(found: Evaluation) -> None:
    from regrain.cli.output import bold, percent, stdout, table

    console = stdout()
    console.print(bold(str(found.path)), f"on {found.split} data of task {found.task!r}", soft_wrap=True)
    if found.against is None:
        grid = table("metric", "value")
        for name, value in found.metrics.items():
            grid.add_row(name, f"{value:.5g}")
        console.print(grid)
        return
    grid = table("metric", "original", "this", "drop", "at most", "n")
    for name, drop in found.drops.items():
        bound = "-" if drop.upper is None else f"{drop.upper:.4g}"
        grid.add_row(name, f"{drop.before:.5g}", f"{drop.after:.5g}", f"{drop.drop:.4g}", bound, f"{drop.n:,}")
    if found.drops:
        console.print(grid)
    fidelity = found.fidelity
    assert fidelity is not None
    loss = fidelity.loss(found.confidence)
    bound = "" if loss.upper is None else f" (at most {loss.upper:.3g})"
    words = [f"{'D' if fidelity.kind == 'embeddings' else 'KL'} {loss.drop:.3g}{bound}"]
    if fidelity.top1 is not None:
        words.append(f"top-1 agreement {percent(fidelity.top1)} %")
    if fidelity.neighbor_overlap is not None:
        words.append(f"{percent(fidelity.neighbor_overlap)} % of nearest neighbors kept")
    console.print(f"outputs beside the original's: {' · '.join(words)}")
    console.print(f"bounds hold with {100 * found.confidence:g} % confidence each", style="dim")
