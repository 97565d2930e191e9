"""The command line: arguments in, one verb of `regrain.pipelines` run, a table or JSON out."""

from __future__ import annotations

import sys
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Run the command `regrain` and exit: 0 done, 1 error, 2 usage, 3 the constraint cannot be met, 130 interrupted."""
    from regrain.cli.failures import explained, polite_signals

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of tensors may have letters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    with polite_signals(), explained():
        from regrain.cli.app import app

        app(prog_name="regrain")
    sys.exit(0)
