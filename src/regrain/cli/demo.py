"""`regrain demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Force, Json

if TYPE_CHECKING:
    from rich.table import Table

    from regrain.pipelines.demo import DemoResult, ModelDemo

EXAMPLE = "Example: regrain demo -o demo/"


def command(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Keep the files here.", show_default="a temporary directory"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each tool is measured.")] = 5,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show everything on a real model: sizes, proofs that no bit is lost, speed beside other tools.

    The model is the sentence encoder all-MiniLM-L6-v2 from an installed package; nothing is downloaded. Peers that are
    not installed are left out. Takes about a minute.
    """
    from regrain.cli.output import emit_json

    os.environ["HF_HUB_OFFLINE"] = "1"  # transformers must never ask the network, and reads this when imported
    with _steps() as said, nullcontext(out) if out is not None else _temporary() as folder:
        from regrain.pipelines.demo import demo

        result = demo(Path(folder), kept=out is not None, force=force, rounds=rounds, said=said)
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result)


@contextmanager
def _temporary() -> Iterator[Path]:
    with TemporaryDirectory(prefix="regrain-demo-") as folder:
        yield Path(folder)


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("loading PyTorch and transformers") as status:
        yield lambda what: status.update(what)


def _print(result: DemoResult) -> None:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from regrain.cli.output import bits, megabytes, percent, stdout

    console = stdout()
    parts: list[Text | Table] = []
    for model in result.models:
        found = model.artifact
        saved = 1 - found.nbytes / found.original_bytes
        parts.append(
            Text.assemble(
                (f"{_TITLES[model.dtype]}  ", "bold"),
                f"{megabytes(found.original_bytes)} MB → ",
                (f"{megabytes(found.nbytes)} MB", "bold green"),
                f"   {bits(found.original_bits_per_weight)} → {bits(found.bits_per_weight)} bits per weight",
                (f"   {percent(saved)} % saved", "green"),
            )
        )
        parts.append(Text(f"profile had predicted {megabytes(model.profile.predicted_bytes)} MB", style="dim"))
        parts += [Text.assemble(("✓ ", "green"), proof.text) for proof in model.proofs]
        parts += [Text(), _rates(model)]
        parts.append(
            Text(f"loads sooner than the plain file from any disk below {model.break_even:.1f} GB/s\n", style="dim")
        )
        if model.missing:
            parts.append(Text(f"not installed, left out: pip install {' '.join(model.missing)}", style="dim"))
    pair = result.models[-1].closest
    parts.append(Text(f"Closest of {result.sentences} sentences, cosine {pair.cosine:.3f}:", style="dim"))
    parts.append(Text(f"  “{pair.first}”\n  “{pair.second}”\n", style="dim"))
    parts.append(Text("Now your own model:", style="bold"))
    parts.append(
        Text(
            "  regrain compress model.safetensors\n"
            "  regrain verify model.regrain.safetensors --against model.safetensors"
        )
    )
    title = "regrain on all-MiniLM-L6-v2"
    console.print(Panel(Group(*parts), title=title, title_align="left", padding=(1, 2), width=min(console.width, 100)))
    console.print(
        f"GB/s: of the original's bytes, medians of {result.rounds} interleaved rounds after one that checked every"
        " bit. One thread is bound to one processor. Encode: from memory to memory. Load: from a file in the page cache"
        " to tensors, a byte of each page read; plain safetensors are only mapped.",
        style="dim",
    )
    where = f" Files: {result.folder}" if result.kept else ""
    console.print(f"Done in {result.seconds:.0f} s.{where}", style="dim")


_TITLES = {"BF16": "bf16 (cast)", "F32": "fp32 (as published)"}


def _rates(model: ModelDemo) -> Table:
    from regrain.cli.output import bits, megabytes, table

    weights = model.artifact.weights
    grid = table("", "threads", "MB", "b/w", "encode GB/s", "load GB/s")
    for rate in model.rates:
        grid.add_row(
            rate.name,
            str(rate.threads),
            megabytes(rate.nbytes),
            bits(8 * rate.nbytes / weights if weights else None),
            f"{rate.encode:.2f}",
            f"{rate.load:.2f}",
            style="bold" if rate.name == "regrain" else None,
        )
    return grid
