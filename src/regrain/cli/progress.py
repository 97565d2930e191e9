"""A progress bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regrain.pipelines.options import Listener
    from regrain.planning.search import Point


_HINT = " (Ctrl-C: take it; twice: stop)"


@contextmanager
def progress_bar(what: str, *, wanted: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """A function to call with bytes done and bytes in all; None where nobody would see a bar.

    It is drawn on stderr and disappears at the end, so that results on stdout stay clean.
    """
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress_line() -> Iterator[Callable[[str, int, int], None] | None]:
    """A function to call with what is going on, and how much of how much is done; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)


@contextmanager
def job_progress(*, quiet: bool = False) -> Iterator[Listener]:
    """Who listens to a job within a budget: what it does and the best point so far, on stderr if that is a terminal.

    The estimate is a result, and goes to stdout before the heavy part, unless `quiet`.
    """
    from regrain.cli.output import stdout
    from regrain.pipelines.options import Listener

    def tell(estimate: object) -> None:
        if not quiet:
            stdout().print(f"{estimate}", style="dim")

    if not sys.stderr.isatty():
        yield Listener(estimate=tell)
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    bar, below = Progress(*columns, console=console), Text(style="green")
    task = bar.add_task("starting", total=None)

    def step(what: str, done: int, total: int) -> None:
        bar.update(task, description=what, completed=done, total=total or None)
        below.plain = below.plain.removesuffix(_HINT)  # after the search, Ctrl-C ends the job

    def point(found: Point, best: Point | None) -> None:
        bar.update(task, description="searching", total=None)
        below.plain = best_line(found, best) + (_HINT if best is not None else "")

    with Live(Group(bar, below), console=console, transient=True, redirect_stdout=sys.stdout.isatty()):
        yield Listener(step, tell, point, lambda note: console.print(f"note: {note}"))


def best_line(found: Point, best: Point | None) -> str:
    """How many points were evaluated, and the best of them: its size, and how much of the limits it uses."""
    from regrain.cli.output import megabytes

    count = f"{found.number + 1} point{'s' if found.number else ''}"
    if best is None:
        return f"{count}, none within the limits yet"
    used = "" if best.verdict is None else f" at {100 * best.verdict.margin:.0f} % of the limit"
    return f"{count}, best {megabytes(best.nbytes)} MB{used}"
