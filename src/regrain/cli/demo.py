"""`regrain demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Annotated

import typer

from regrain.cli.options import Force, Json, TaskOption, Threads

if TYPE_CHECKING:
    from rich.table import Table

    from regrain.pipelines.demo.lossless import LosslessDemo, ModelDemo

EXAMPLE = "Example: regrain demo -o demo/"


def command(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write the files here.", show_default="a new folder"),
    ] = None,
    task: TaskOption = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Lose nothing: prove it, and measure speed beside other tools.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each tool is measured.", show_default="5, with --lossless")
    ] = 5,
    force: Force = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Compress a real model within a budget: a sentence encoder that may get 1 % worse at what it is for.

    The model is all-MiniLM-L6-v2 from an installed package, the task is the repository's: finding articles by their
    passages. Writes an artifact and its report. Nothing is downloaded. Takes some minutes, with --lossless about one.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # transformers must never ask the network, and reads this when imported
    if lossless:
        _lossless(out, rounds, force, as_json)
    else:
        _budgeted(out, task, force, threads, as_json)


def _budgeted(out: Path | None, task: Path | None, force: bool, threads: int | None, as_json: bool) -> None:
    from regrain.cli.output import bold, emit_json, stdout
    from regrain.cli.progress import job_progress
    from regrain.cli.receipt import duration, print_receipt
    from regrain.pipelines.demo.budgeted import default_task, demo

    job = task or default_task()
    folder = Path(mkdtemp(prefix="regrain-demo-")) if out is None else out
    with job_progress(quiet=as_json) as listener:
        found = demo(folder, task=job, force=force, threads=threads, listener=listener)
    if as_json:
        emit_json(found.to_json())
        return
    print_receipt(found.result, hints=False)
    console = stdout()
    console.print(f"\ndone in {duration(found.seconds)}; the report, for a browser:")
    console.print(bold(str(found.report.path)), soft_wrap=True)
    console.print("your own model: docs/tutorial.md", style="dim")


def _lossless(out: Path | None, rounds: int, force: bool, as_json: bool) -> None:
    from regrain.cli.output import emit_json

    with _steps() as said, nullcontext(out) if out is not None else _temporary() as folder:
        from regrain.pipelines.demo.lossless import demo_lossless

        result = demo_lossless(Path(folder), kept=out is not None, force=force, rounds=rounds, said=said)
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


def _print(result: LosslessDemo) -> None:
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
