"""`regrain restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrain.cli.options import ArtifactPath, Force, Json, Threads

EXAMPLE = "Example: regrain restore model.regrain.safetensors -o model.safetensors"


def command(
    artifact: ArtifactPath,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="MODEL", help="The file or directory to write.", show_default=False)
    ],
    slim: Annotated[
        bool,
        typer.Option(
            "--slim", help="Leave out channels that nothing uses any more: a smaller model, where columns were pruned."
        ),
    ] = False,
    force: Force = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write the plain safetensors file or directory that an artifact was made from, byte for byte.

    Of a lossy artifact: the same file with the weights that were kept. The SHA-256 is checked on the way: what is
    written is right, or it is not there.
    """
    from regrain.cli.output import CHANGED, bold, emit_json, megabytes, stdout
    from regrain.cli.progress import progress_bar
    from regrain.pipelines.restore import restore

    with progress_bar("restoring") as progress:
        result = restore(artifact, out, slim=slim, force=force, threads=threads, progress=progress)
    if as_json:
        emit_json(result.to_json())
        return
    console = stdout()
    console.print(bold(str(result.path)), soft_wrap=True)
    same = "byte-identical to the original" if result.lossless else f"lossy: {CHANGED}"
    if slim:
        same = "without the channels that nothing uses; regrain.models.slim.fit gives a model these shapes"
    console.print(f"{megabytes(result.nbytes)} MB, {same}")
    for name, digest in result.sha256.items():
        console.print(f"sha256 {digest}  {name}", soft_wrap=True)
