"""`regrain verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import ArtifactPath, Json, Threads

if TYPE_CHECKING:
    from regrain.pipelines.verify import VerifyResult

EXAMPLE = "Example: regrain verify model.regrain.safetensors --against model.safetensors"


def command(
    artifact: ArtifactPath,
    against: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare every weight with this model, too.", show_default=False),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Check an artifact: its structure, every checksum, every decoder's final state, the SHA-256 of what it restores.

    Of a lossy one, --against measures how far its weights are from the model's. Without --against, an artifact that
    someone made to look right can't be told from an honest one.
    """
    from regrain.cli.output import CHANGED, bold, emit_json, megabytes, stdout
    from regrain.cli.progress import progress_bar
    from regrain.pipelines.verify import verify

    with progress_bar("verifying") as progress:
        result = verify(artifact, against, threads=threads, progress=progress)
    if as_json:
        emit_json(result.to_json())
        return
    console = stdout()
    console.print(bold(f"right: {result.path}"), soft_wrap=True)
    console.print(f"{result.tensors} tensors, {megabytes(result.nbytes)} MB: checksums, final states and SHA-256 agree")
    for name, digest in result.sha256.items():
        console.print(f"sha256 {digest}  {name}", soft_wrap=True)
    if result.against is None:
        if not result.lossless:
            console.print(f"lossy: {CHANGED}; --against MODEL measures how far they are")
    elif result.lossless:
        console.print(f"every bit is that of {result.against}", soft_wrap=True)
    else:
        _print_differences(result)


def _print_differences(result: VerifyResult) -> None:
    from regrain.cli.output import percent, rows_to_show, shorten, stdout, table

    console = stdout()
    ordered = sorted(result.differences, key=lambda difference: -difference.relative)
    grid = table("tensor", "error %", "largest in steps")
    for difference in ordered[: rows_to_show(len(ordered), False)]:
        steps = "-" if difference.steps is None else f"{difference.steps:.2f}"
        grid.add_row(shorten(difference.name, max(12, console.width - 30)), percent(difference.relative, 2), steps)
    console.print(grid)
    exact = result.tensors - len(ordered)
    console.print(
        f"lossy: {len(ordered)} tensors differ from {result.against} as shown, {exact} have its every bit",
        soft_wrap=True,
    )
