"""The command and its verbs. Each verb imports what it needs when it runs: `regrain --help` needs nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from regrain.cli import (
    bench,
    compress,
    demo,
    evaluate,
    hw,
    inspect,
    plan,
    profile,
    report,
    restore,
    run,
    simulate,
    verify,
)
from regrain.cli.failures import explained


class _Verbs(TyperGroup):
    """Explains errors in one place, below what turns usage errors into exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        with explained():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 the constraint cannot be met.",
)
VERBS: dict[str, Any] = {
    "profile": profile,
    "plan": plan,
    "compress": compress,
    "report": report,
    "inspect": inspect,
    "verify": verify,
    "restore": restore,
    "eval": evaluate,
    "run": run,
    "simulate": simulate,
    "bench": bench,
    "demo": demo,
}
for name, verb in VERBS.items():
    app.command(name, epilog=verb.EXAMPLE)(verb.command)
app.add_typer(hw.app, name="hw")


def _version(wanted: bool) -> None:
    if wanted:
        from regrain import __version__

        typer.echo(f"regrain {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Neural networks as small as an accuracy budget allows, or without losing a bit, in ordinary safetensors files."""
