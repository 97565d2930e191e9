"""`regrain compress`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Force, Json, Model, Threads

if TYPE_CHECKING:
    from regrain.pipelines.compress import CompressResult

EXAMPLE = "Example: regrain compress model.safetensors -o small.regrain.safetensors --threads 2"


def command(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="OUT", help="The artifact to write.", show_default="MODEL with .regrain in its name"
        ),
    ] = None,
    force: Force = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Compress a model without losing a bit.

    The result is an ordinary safetensors file: regrain.torch.load_file and regrain.numpy.load_file read it
    directly, and regrain restore gives the original file back, byte for byte. A model directory comes
    out as a directory, with its other files as they are.
    """
    from regrain.cli.output import emit_json
    from regrain.cli.progress import progress_bar
    from regrain.pipelines.compress import compress

    if out is not None and out.is_file() and model.is_file() and out.samefile(model):
        raise typer.BadParameter(f"must be another file than MODEL, not {str(out)!r}", param_hint="--out")
    start = time.perf_counter()
    with progress_bar("compressing") as progress:
        result = compress(model, out, force=force, threads=threads, progress=progress)
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result, time.perf_counter() - start)


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
    coders = Counter(str(tensor.descriptor.scheme.coder) for tensor in found.tensors)
    console.print(
        f"{len(found.tensors)} tensors: {coders['rans']} coded, {coders['raw']} kept as they are, {coders['tied']} tied"
    )
    verb = "saved" if saved >= 0 else "added"
    console.print(
        f"{verb} {megabytes(abs(saved))} MB in {seconds:.2f} s, {found.original_bytes / seconds / 1e9:.2f} GB/s"
    )
    for note in result.notes:
        console.print(f"note: {note}")
