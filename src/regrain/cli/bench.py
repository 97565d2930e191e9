"""`regrain bench`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regrain.pipelines.bench import Timing

EXAMPLE = "Example: regrain bench model.safetensors --tokens 1,16"


def command(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]", help="Take shapes and weights of this model or artifact.", show_default="usual shapes"
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(metavar="COUNTS", help="How many tokens at once.")] = "1,16,128",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each contender.")] = 1,
    as_json: Json = False,
) -> None:
    """Time products in every layout on this machine, beside torch's dense ones.

    All contenders take turns; each figure is the median of how many times faster than torch it was, and every result is
    checked.
    """
    from regrain.cli.output import emit_json
    from regrain.cli.progress import progress_line
    from regrain.pipelines.bench import bench, machine

    counts = _counts(tokens)
    with progress_line() as told:
        found = list(bench(model, tokens=counts, threads=threads, progress=told))
    if as_json:
        rows = [{name: getattr(timing, name) for name in timing.__slots__} for timing in found]
        emit_json({"machine": machine(), "threads": threads, "timings": rows})
    else:
        _print(found, counts, threads, machine())


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1 or max(counts) > 1 << 16:
        raise typer.BadParameter(f"tokens must be counts from 1 to 65536 such as 1,16,128, not {text!r}")
    return counts


def _print(found: Sequence[Timing], counts: Sequence[int], threads: int, machine: str) -> None:
    from regrain.cli.output import bold, stdout, table

    console = stdout()
    for shape, group in groupby(found, key=lambda timing: (timing.rows, timing.columns)):
        timings = list(group)
        console.print(bold(f"{shape[0]} x {shape[1]}"), "times as fast as torch's dense product")
        grid = table("layout", *(f"{count} token{'s' if count > 1 else ''}" for count in counts))
        ratios = {(timing.name, timing.tokens): timing for timing in timings}
        for name in dict.fromkeys(timing.name for timing in timings):
            cells = []
            for count in counts:
                timing = ratios.get((name, count))
                if timing is None:
                    cells.append("-")
                elif name == "torch":
                    cells.append(f"{1e6 * timing.seconds:,.{1 if timing.seconds < 1e-4 else 0}f} us")
                else:
                    cells.append(f"{timing.ratio:.2f}")
            grid.add_row(name, *cells)
        console.print(grid)
    console.print(f"{threads} thread{'s' if threads > 1 else ''}; instruction set {machine}", style="dim")
