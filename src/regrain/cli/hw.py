"""`regrain hw`: the accelerator as hardware."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from regrain.cli.options import Force

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="The accelerator as hardware.")

Rows = Annotated[int, typer.Option(help="Tokens (or pixels) at once: rows of the array.")]
PEs = Annotated[int, typer.Option("--pes", help="Processing elements of a row.")]
Lanes = Annotated[int, typer.Option(help="Multipliers of a processing element.")]
Block = Annotated[int, typer.Option(help="Activations that a processing element holds.")]
Accumulator = Annotated[int, typer.Option(help="Bits of an accumulator.")]
BankWords = Annotated[int, typer.Option(help="Words of a weight bank.")]
ListEntries = Annotated[int, typer.Option(help="Entries of a bank's list of blocks.")]


@app.callback()
def _about() -> None:
    """The accelerator as hardware."""


@app.command(epilog="Example: regrain hw verilog pe.v --component pe")
def verilog(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The Verilog file to write.", show_default=False)],
    component: Annotated[
        str, typer.Option("--component", "-c", metavar="NAME", help="One component; an unknown NAME lists them all.")
    ] = "accelerator",
    rows: Rows = 16,
    pes: PEs = 4,
    lanes: Lanes = 4,
    block: Block = 8,
    accumulator: Accumulator = 24,
    bank_words: BankWords = 4608,
    list_entries: ListEntries = 576,
    force: Force = False,
) -> None:
    """Write the accelerator, or one component of it, as Verilog to be read and synthesized.

    Needs Amaranth, which comes with regrain[hw].
    """
    from regrain.artifact.output import check_output, output_file
    from regrain.cli.output import bold, stdout
    from regrain.core.errors import HardwareError
    from regrain.hw.machine import Machine

    machine = Machine(rows, pes, lanes, block, accumulator, bank_words, list_entries)
    check_output(out, force=force)
    try:
        from regrain.hw.components import COMPONENTS
        from regrain.hw.text import verilog_file
    except ModuleNotFoundError as error:
        raise HardwareError(f"Verilog needs {error.name}: pip install 'regrain[hw]'") from error
    if component not in COMPONENTS:
        raise typer.BadParameter(f"component must be one of {', '.join(COMPONENTS)}, not {component!r}")
    text = verilog_file(component, machine)
    with output_file(out, force=force) as file:
        file.write(text.encode())
    console = stdout()
    console.print(bold(str(out)), soft_wrap=True)
    sizes = ", ".join(f"{field.name} {getattr(machine, field.name)}" for field in fields(machine))
    console.print(f"{component}: {text.count(chr(10))} lines; {sizes}", soft_wrap=True)
