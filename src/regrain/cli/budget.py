"""Options of a job within a budget, checked and made values: what can't be meant is a usage error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from regrain.core.errors import BudgetError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from regrain.core.budget import Budget
    from regrain.pipelines.session import Options


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong with values that were typed is wrong usage."""
    try:
        yield
    except (BudgetError, RecipeError) as error:
        raise typer.BadParameter(str(error)) from None


def parse_budget(
    max_drop: str | None,
    max_drop_abs: float | None,
    min_fidelity: str | None,
    max_size: str | None,
    bits: float | None,
    confidence: float,
) -> Budget | None:
    """The budget; None without limits. Raises typer.BadParameter."""
    from regrain.pipelines.limits import budget_of

    with usage():
        return budget_of(
            max_drop=max_drop,
            max_drop_abs=max_drop_abs,
            min_fidelity=min_fidelity,
            max_size=max_size,
            bits=bits,
            confidence=confidence,
        )


def parse_options(
    seed: int,
    cells: str | None,
    work: Path | None,
    resume: bool,
    fresh: bool,
    threads: int | None,
    objective: str = "bytes",
) -> Options:
    """Options of planning. Raises typer.BadParameter."""
    from regrain.pipelines.session import options_of

    if resume and fresh:
        raise typer.BadParameter("--resume and --fresh must not be given together: one keeps what the other removes")
    with usage():
        return options_of(
            seed=seed,
            cells=None if cells is None else [name.strip() for name in cells.split(",")],
            work=work,
            resume=resume,
            fresh=fresh,
            threads=threads,
            objective=objective,
        )
