"""`regrain plan`: the search of `regrain compress --task` alone; held-out data are not looked at, nothing is built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regrain.artifact.output import check_output, output_file
from regrain.core.budget import Budget
from regrain.core.errors import BudgetError
from regrain.core.recipe import Recipe
from regrain.models.task import Task
from regrain.pipelines.budgeted import choose, resolutions
from regrain.pipelines.limits import budget_of
from regrain.pipelines.options import Listener, Options, options_of
from regrain.pipelines.receipt_texts import why
from regrain.pipelines.session import Session, prepare
from regrain.planning.search import Point, Search
from regrain.planning.selectors import RuleOptions
from regrain.planning.solve import Objective


@dataclass(frozen=True, slots=True, eq=False)
class PlanResult:
    """What the search found. `best` is the point that `recipe` is of, None where that is lossless; `points` are all
    that were evaluated, `path` the recipe's file if it was written. Bytes are of whole files, `weights` a count, and
    `original_work` multiply-adds for each example.
    """

    recipe: Recipe
    best: Point | None
    points: tuple[Point, ...]
    weights: int
    original_bytes: int
    lossless_bytes: int
    notes: tuple[str, ...]
    path: Path | None = None
    objective: Objective = Objective.BYTES
    original_work: int = 0

    @property
    def nbytes(self) -> int:
        """Predicted size of the artifact."""
        return self.lossless_bytes if self.best is None else self.best.nbytes

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "recipe": self.recipe.to_json(),
            "best": None if self.best is None else self.best.number,
            "points": [self._point(point) for point in self.points],
            "weights": self.weights,
            "bytes": self.nbytes,
            "original_bytes": self.original_bytes,
            "lossless_bytes": self.lossless_bytes,
            "objective": str(self.objective),
            "original_work": self.original_work,
            "notes": list(self.notes),
            "path": None if self.path is None else str(self.path),
        }

    def _point(self, point: Point) -> dict[str, object]:
        return {
            "point": point.number,
            "bytes": point.nbytes,
            "bits_per_weight": 8 * point.nbytes / self.weights,
            "work": point.work,
            "predicted_loss": point.loss,
            "fidelity": point.measured.fidelity.to_json(),
            "metrics": {name: drop.to_json() for name, drop in point.measured.drops.items()},
            "ok": point.ok,
            "verdict": None if point.verdict is None else point.verdict.to_json(),
        }


def plan(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    task: Task | str | os.PathLike[str],
    max_drop: float | str | None = None,
    max_drop_abs: float | None = None,
    min_fidelity: float | str | None = None,
    max_size: int | str | None = None,
    bits: float | None = None,
    max_work: float | str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    cells: Sequence[str] | None = None,
    objective: str = "bytes",
    patterns: Sequence[str] | None = None,
    selector: str = "search",
    rule: RuleOptions | None = None,
    work: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    force: bool = False,
    threads: int | None = None,
    listener: Listener | None = None,
) -> PlanResult:
    """The smallest recipe that keeps the limits on the task's search data, written to `out` if that is given.

    Limits and options are those of `regrain.compress`, which finds the same recipe and then proves it on held-out data.
    Raises TaskError, BudgetError (with `nearest` if the limits can't be met), and what `regrain.compress` raises.
    """
    budget = budget_of(
        max_drop=max_drop,
        max_drop_abs=max_drop_abs,
        min_fidelity=min_fidelity,
        max_size=max_size,
        bits=bits,
        max_work=max_work,
        confidence=confidence,
    )
    if budget is None:
        raise BudgetError("a limit must be given: max_drop='1%', for example")
    options = options_of(
        seed=seed,
        cells=cells,
        work=work,
        resume=resume,
        fresh=fresh,
        threads=threads,
        objective=objective,
        patterns=patterns,
        selector=selector,
        rule=rule,
    )
    return plan_within(
        model, out, task=task, budget=budget, options=options, force=force, listener=listener or Listener()
    )


def plan_within(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    task: Task | str | os.PathLike[str],
    budget: Budget,
    options: Options,
    force: bool,
    listener: Listener,
) -> PlanResult:
    """`plan`, with its limits and options put together."""
    target = None if out is None else Path(out)
    if target is not None:
        check_output(target, force=force)
    session = prepare(model, task, options, listener)
    notes = resolutions(session, budget)
    for note in notes:
        listener.note(note)
    notes[:0] = session.warnings
    search = Search(session.candidate, session.solver, budget, listener.point)
    best = choose(session, search, budget, None, listener, notes)
    recipe = _explained(session.recipe(best, budget), session)
    if target is not None:
        with output_file(target, force=force) as sink:
            sink.write(recipe.text().encode("utf-8"))
    return PlanResult(
        recipe,
        best,
        tuple(search.points),
        session.weights,
        session.original_bytes,
        session.lossless_bytes,
        tuple(notes),
        target,
        session.options.objective,
        session.evidence.work,
    )


def _explained(recipe: Recipe, session: Session) -> Recipe:
    """With a reason for each tensor, for people who edit it."""
    layers = session.evidence.layers
    return replace(recipe, layers=tuple(replace(each, why=why(layers[each.name], each)) for each in recipe.layers))
