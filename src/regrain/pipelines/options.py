"""What a job within a budget is asked for besides its budget, and who wants to know how it goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regrain.core.errors import BudgetError
from regrain.core.pattern import Pattern
from regrain.core.recipe import Cell
from regrain.pipelines.estimate import Estimate
from regrain.planning.candidates import CELLS
from regrain.planning.pruned_candidates import PATTERNS
from regrain.planning.search import Point
from regrain.planning.selectors import RuleOptions, Selection
from regrain.planning.solve import Objective


def _silent(*_: object) -> None:
    """Nobody listens."""


SLIM_CELLS = ("tensor", "row", "column")
"""Cells that a matrix still has when rows and columns of it are removed."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who wants to know how it goes. `step` is called with what is being done, how much of it is, and all of it;
    `estimate` once, before the heavy part; `point` with every evaluated point and the best so far; `note` with what the
    user should know.
    """

    step: Callable[[str, int, int], None] = field(default=_silent)
    estimate: Callable[[Estimate], None] = field(default=_silent)
    point: Callable[[Point, Point | None], None] = field(default=_silent)
    note: Callable[[str], None] = field(default=_silent)


@dataclass(frozen=True, slots=True)
class Options:
    """How to plan. `probes` are random projections of each calibration batch, None for as many as make PASSES in all;
    `cells` are tried for every matrix; `work` is the folder for measurements, None for `.regrain` beside the model;
    `fresh` measures everything again; `resume` insists that something was measured. `objective` is what is made as
    small as the budget allows; for the latency of loading this machine's costs are measured, so that the result is no
    longer the same everywhere. `patterns` are tried for pruning, None for those that go with the objective. `selector`
    is who decides what is done to each tensor, `rule` what the rule leaves open. With `slim`, channels that nothing
    uses any more are removed. With `dynamic` a run time may change the granularity of every matrix.
    """

    seed: int = 0
    probes: int | None = None
    cells: tuple[Cell, ...] = CELLS
    work: Path | None = None
    fresh: bool = False
    resume: bool = False
    threads: int | None = None
    objective: Objective = Objective.BYTES
    patterns: tuple[Pattern, ...] | None = None
    selector: Selection = Selection.SEARCH
    rule: RuleOptions = field(default_factory=RuleOptions)
    slim: bool = False
    dynamic: bool = False

    @property
    def pruning(self) -> tuple[Pattern, ...]:
        """Patterns to try. Where only bytes count there are none: coded indices gain nothing from it."""
        if self.patterns is not None:
            return self.patterns
        return PATTERNS if self.objective in (Objective.WORK, Objective.BOTH) else ()

    def to_json(self) -> dict[str, object]:
        """A JSON object with what decides which recipe is found, for recipes and receipts."""
        how: dict[str, object] = {"selector": str(self.selector), "objective": str(self.objective)}
        if self.pruning:
            how["patterns"] = [pattern.name for pattern in self.pruning]
        if self.selector is Selection.RULE:
            rule = self.rule
            how["rule"] = {**rule.thresholds.to_json(), "bits": rule.bits, "density": rule.density}
        return how


def options_of(
    *,
    seed: int = 0,
    cells: Sequence[str] | None = None,
    work: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    threads: int | None = None,
    objective: str = "bytes",
    patterns: Sequence[str] | None = None,
    selector: str = "search",
    rule: RuleOptions | None = None,
    slim: bool = False,
    dynamic: bool = False,
) -> Options:
    """Options of plain values; None means the default. Raises RecipeError for a cell or a pattern that there isn't,
    BudgetError for such an objective, selector or seed, and for options that the selector doesn't have.
    """
    if seed < 0:
        raise BudgetError(f"seed must be a whole number from 0 on, not {seed!r}")
    if objective not in tuple(Objective):
        raise BudgetError(f"objective must be {' or '.join(Objective)}, not {objective!r}")
    if selector not in tuple(Selection):
        raise BudgetError(f"selector must be {' or '.join(Selection)}, not {selector!r}")
    if selector != "search":
        _check_selector(selector, objective, {"cells": cells, "patterns": patterns})
    if rule is not None and selector != "rule":
        raise BudgetError(f"thresholds of the rule must be given with the selector rule, not {selector}")
    if slim:
        _check_slim(cells, patterns)
    return Options(
        objective=Objective(objective),
        selector=Selection(selector),
        rule=rule or RuleOptions(),
        slim=slim,
        dynamic=dynamic,
        patterns=None if patterns is None else tuple(Pattern(name) for name in patterns),
        seed=seed,
        cells=CELLS if cells is None else tuple(Cell(name) for name in cells),
        work=None if work is None else Path(work),
        resume=resume,
        fresh=fresh,
        threads=threads,
    )


def _check_selector(selector: str, objective: str, given: Mapping[str, Sequence[str] | None]) -> None:
    """Refuse what only the search can do."""
    if objective != "bytes":
        raise BudgetError(
            f"objective must be bytes with the selector {selector}, which knows no other, not {objective}"
        )
    for option, value in given.items():
        if value is not None:
            raise BudgetError(f"{option} must not be given with the selector {selector}, which has its own: use search")


def _check_slim(cells: Sequence[str] | None, patterns: Sequence[str] | None) -> None:
    """Refuse what slim models can't have."""
    odd = [cell for cell in cells or () if cell not in SLIM_CELLS]
    if odd:
        raise BudgetError(
            f"cells must be {', '.join(SLIM_CELLS)} for a slim model, not {odd[0]!r}: its rows get shorter"
        )
    if patterns is not None and not {"column", "row"} & set(patterns):
        raise BudgetError(f"patterns must have column or row among them for a slim model, not {', '.join(patterns)!r}")
