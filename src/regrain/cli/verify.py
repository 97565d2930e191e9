"""`regrain verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrain.cli.options import ArtifactPath, Json, Threads

EXAMPLE = "Example: regrain verify model.regrain.safetensors --against model.safetensors"


def command(
    artifact: ArtifactPath,
    against: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Compare every bit with this model, too.", show_default=False),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Check an artifact: its structure, every checksum, every decoder's final state, the SHA-256 of the original.

    Without --against, an artifact that someone made to look right can't be told from an honest one.
    """
    from regrain.cli.output import bold, emit_json, megabytes, stdout
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
    if result.against is not None:
        console.print(f"every bit is that of {result.against}", soft_wrap=True)
