"""`regrain report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrain.cli.options import ArtifactPath, Force, Json

EXAMPLE = "Example: regrain report model.regrain.safetensors -o report.html --open"


def command(
    artifact: ArtifactPath,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="HTML", help="The file to write.")] = Path("report.html"),
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a page that shows what was done to a model: sizes, losses, every layer and why, and how to repeat it.

    The page is one file that needs no network: mail it, archive it, open it anywhere. Decodes nothing.
    """
    from regrain.cli.output import bold, emit_json, megabytes, stdout
    from regrain.pipelines.report import report

    result = report(artifact, out, force=force)
    if as_json:
        emit_json(result.to_json())
    else:
        console = stdout()
        console.print(bold(str(result.path)), f"{megabytes(result.nbytes)} MB", soft_wrap=True)
    if show:
        import webbrowser

        webbrowser.open(result.path.resolve().as_uri())
