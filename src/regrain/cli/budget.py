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
    from regrain.pipelines.options import Options
    from regrain.planning.selectors import RuleOptions


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
    max_work: str | None = None,
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
            max_work=max_work,
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
    patterns: str | None = None,
    selector: str = "search",
    rule: RuleOptions | None = None,
    slim: bool = False,
    dynamic: bool = False,
) -> Options:
    """Options of planning. Raises typer.BadParameter."""
    from regrain.pipelines.options import options_of

    if resume and fresh:
        raise typer.BadParameter("--resume and --fresh must not be given together: one keeps what the other removes")
    with usage():
        return options_of(
            seed=seed,
            cells=None if cells is None else _names(cells),
            work=work,
            resume=resume,
            fresh=fresh,
            threads=threads,
            objective=objective,
            patterns=None if patterns is None else _names(patterns) if patterns != "none" else [],
            selector=selector,
            rule=rule,
            slim=slim,
            dynamic=dynamic,
        )


def parse_rule(
    selector: str,
    high_entropy: float | None,
    low_entropy: float | None,
    max_sparsity: str | None,
    bits: int | None,
    density: float | None,
) -> RuleOptions | None:
    """What the rule leaves open; None if nothing of it is given. Raises typer.BadParameter, also if nobody asks it."""
    given = {
        "--high-entropy": high_entropy,
        "--low-entropy": low_entropy,
        "--max-sparsity": max_sparsity,
        "--rule-bits": bits,
        "--rule-density": density,
    }
    known = [option for option, value in given.items() if value is not None]
    if not known:
        return None
    if selector != "rule":
        raise typer.BadParameter(f"{known[0]} must be given with --selector rule, not {selector}")
    from regrain.core.budget import parse_fraction
    from regrain.core.selection import SelectionRule
    from regrain.planning.selectors import RuleOptions

    default, usual = SelectionRule(), RuleOptions()
    try:
        with usage():
            thresholds = SelectionRule(
                default.high_entropy if high_entropy is None else high_entropy,
                default.low_entropy if low_entropy is None else low_entropy,
                default.max_sparsity if max_sparsity is None else parse_fraction(max_sparsity, "max_sparsity"),
            )
            return RuleOptions(
                thresholds,
                usual.bits if bits is None else bits,
                density=usual.density if density is None else density,
            )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]
