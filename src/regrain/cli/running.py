"""What `regrain run` and `regrain simulate` share: arguments of a network that works, and lines about its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regrain.accuracy import Drop, Fidelity

Model = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="An artifact, or a plain model.", show_default=False)]
Density = Annotated[
    float, typer.Option(metavar="FRACTION", help="Of each matrix that may change, what is kept at any time.")
]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL", help="Compare with this model, the original.", show_default="the artifact's own weights"
    ),
]
Split = Annotated[str, typer.Option(metavar="search|held_out", help="Which of the task's data.")]

_PAGE = b"<!DOCTYPE html>"
_TRACES = (b"{", b"\x1f\x8b")  # JSON lines, or these compressed


def check(split: str, density: float) -> None:
    """Raise BadParameter for a value that can't be."""
    if split not in ("search", "held_out"):
        raise typer.BadParameter(f"split must be search or held_out, not {split!r}")
    if not 0.0 < density <= 1.0:
        raise typer.BadParameter(f"density must be a fraction above 0 to 1, not {density!r}")


def check_page(path: Path) -> None:
    """Before a long run: raise OutputError if its page can't be written, OutputExistsError if it would replace a file
    that is no page.
    """
    _check_replaced(path, "page", "an HTML page", (_PAGE,))


def check_trace(path: Path) -> None:
    """The same of a trace."""
    _check_replaced(path, "trace", "a trace", _TRACES)


def _check_replaced(path: Path, name: str, kind: str, beginnings: tuple[bytes, ...]) -> None:
    from regrain.artifact.output import translate
    from regrain.core.errors import OutputExistsError

    with translate(path):
        TemporaryFile(dir=path.parent).close()
        if not path.exists():
            return
        with path.open("rb") as file:
            begins = file.read(max(map(len, beginnings)))
    if begins and not begins.startswith(beginnings):
        raise OutputExistsError(
            f"{name} must be a new file or replace {kind}, but {str(path)!r} is something else: choose another name"
        )


def print_left(left: Mapping[str, str], everything: bool) -> None:
    """Layers that torch runs, and why."""
    from regrain.cli.output import stdout

    for name, reason in list(left.items())[: None if everything else 3]:
        stdout().print(f"left to torch: {name or 'the model'}, because {reason}", style="dim", soft_wrap=True)
    if not everything and len(left) > 3:
        stdout().print(f"and {len(left) - 3} more left to torch: --all shows every one", style="dim")


def print_outputs(fidelity: Fidelity, drops: Mapping[str, Drop], against: Path | None, confidence: float) -> None:
    """How close the outputs are to those of `against`, and the metrics."""
    from regrain.cli.output import stdout

    loss = fidelity.loss(confidence)
    bound = "" if loss.upper is None else f" (at most {loss.upper:.3g})"
    beside = "torch with the same weights" if against is None else str(against)
    kind = "D" if fidelity.kind == "embeddings" else "KL"
    stdout().print(f"outputs beside {beside}: {kind} {loss.drop:.3g}{bound}", soft_wrap=True)
    for name, drop in drops.items():
        most = "" if drop.upper is None else f" (at most {drop.upper:.4g} worse)"
        stdout().print(f"{name}: {drop.before:.5g} → {drop.after:.5g}{most}")
