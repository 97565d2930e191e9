"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A .safetensors file, an .index.json with its shards, a model directory, or a PyTorch state dict (.pt, "
        ".pth, .bin; read without running code in it).",
        show_default=False,
    ),
]
ArtifactPath = Annotated[
    Path,
    typer.Argument(metavar="ARTIFACT", help="A file or directory that regrain compress wrote.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of text.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads to use.", show_default="every processor"),
]
Everything = Annotated[bool, typer.Option("--all", "-a", help="Show every tensor, not only the largest.")]
