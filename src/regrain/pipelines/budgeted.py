"""`regrain compress --task`: the smallest artifact within a budget, judged on data that the search never saw."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regrain import __version__
from regrain.accuracy import Budget
from regrain.accuracy.drops import ZERO_BASELINE
from regrain.accuracy.resolution import resolve
from regrain.artifact.layout import artifact_name, check_apart, find_layout
from regrain.artifact.output import check_output, output_directory, output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Source
from regrain.core.dtypes import numpy_dtype
from regrain.core.errors import BudgetError, RecipeError, TaskError
from regrain.core.pattern import Pruning
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.core.scores import Scores
from regrain.models import open_source
from regrain.models.network import Network
from regrain.models.task import Task
from regrain.pipelines.inspect import Inspection, inspect
from regrain.pipelines.lossless import copy_others, default_output
from regrain.pipelines.measured import write_measured
from regrain.pipelines.memory import PeakMemory
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.receipt import Judgment, Verdicts, measured_json, receipt_of
from regrain.pipelines.session import Session, prepare
from regrain.pipelines.slim import Cut, cut_built, slim_model, slim_source
from regrain.planning.build import Built
from regrain.planning.evaluate import Evaluator, Raw
from regrain.planning.evidence import batches_digest
from regrain.planning.search import Candidate, Point, Search
from regrain.planning.store import Store

STEPS = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
"""Predicted losses of the points that are judged, in this order, as fractions of the best point's."""

STEPS_FIDELITY = (0.5, 0.8, 0.93, 1.0)
"""The same where only fidelity is limited, whose intervals are narrow."""


SEARCH_CONFIDENCE = 0.75
"""Confidence of the bounds in the search, at most. Held-out data have the last word at the budget's own; a search as
strict as they are would stop too early half of the time, since both are uncertain."""


DEFAULTS, NOBODY, NOTHING = Options(), Listener(), Cut({}, {})


@dataclass(frozen=True, slots=True, eq=False)
class BudgetedResult:
    """What was written, and how it came about. `outcome` is "met" or "lossless"; `receipt` is the artifact's own,
    `measured` what differs from run to run: seconds, memory, latency.
    """

    artifact: Inspection
    outcome: str
    receipt: Mapping[str, Any]
    measured: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The artifact: a file, or a directory."""
        return self.artifact.path

    def to_json(self) -> dict[str, object]:
        """A JSON object: the receipt, and what was measured here."""
        return {
            "artifact": str(self.path),
            "outcome": self.outcome,
            "receipt": dict(self.receipt),
            "measured": dict(self.measured),
            "notes": list(self.notes),
        }


def compress_within(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    task: Task | str | os.PathLike[str],
    budget: Budget,
    recipe: Recipe | None = None,
    options: Options = DEFAULTS,
    force: bool = False,
    listener: Listener = NOBODY,
) -> BudgetedResult:
    """Compress a model as far as a budget allows, and prove it on held-out data.

    The search looks at the task's "search" data only, and demands that a one-sided bound keeps the budget (at
    SEARCH_CONFIDENCE where that is lower: it only says where to stop asking). Then the
    held-out data are read, once: a sequence of recipes that was fixed before, from one far on the safe side to the best
    that was found, is judged in its order up to the first that fails. The one before that is the result, lossless if
    there is none. Such a sequence needs no correction for the number of its tests (Angelopoulos et al., "Learn then
    test", 2021): an artifact that breaks the budget is written with probability 1 - confidence at most.

    With `recipe` nothing is searched: it is built, judged if the budget limits quality, and refused if it fails. Ctrl-C
    during the search takes the best point so far.

    Raises TaskError, BudgetError (with `nearest`, for a size that can't be met), RecipeError, and what
    `regrain.compress` raises.
    """
    start = time.perf_counter()
    layout = find_layout(model)
    target = default_output(Path(model), layout) if out is None else Path(out)
    check_apart(layout, target)
    check_output(target, force=force)
    for path in layout.paths():
        open_source(path)  # refuses artifacts: what was lost already would be taken for the original
    phases: dict[str, float] = {}
    with PeakMemory() as memory:
        follows = recipe is not None and any(plan.pruning is not None for plan in recipe.layers)
        session = prepare(model, task, options, listener, groups=follows)
        phases["profile"] = time.perf_counter() - start
        notes = list(session.warnings) + resolutions(session, budget)
        for note in notes[len(session.warnings) :]:
            listener.note(note)
        sought = replace(budget, confidence=min(budget.confidence, SEARCH_CONFIDENCE))
        search = Search(session.candidate, session.solver, sought, listener.point)
        chosen = choose(session, search, budget, recipe, listener, notes)
        phases["search"] = time.perf_counter() - start - phases["profile"]
        plans, judged = _judge(session, search, chosen, budget, recipe, listener)
        phases["judge"] = time.perf_counter() - start - sum(phases.values())
        built = session.candidate.build(plans)
        cut = cut_built(session, plans, built) if options.slim else NOTHING
        notes += cut.notes
        for note in cut.notes:
            listener.note(note)
        listener.step("writing", 0, 0)
        receipt = receipt_of(session, search, budget, judged, plans, built, cut, replayed=recipe is not None)
        _write(session, target, built, cut, receipt, budget.byte_limit(session.weights), force)
        phases["write"] = time.perf_counter() - start - sum(phases.values())
    session.candidate.put(built)
    after = slim_model(session, built, cut) if cut.rows else session.network.model
    measured = measured_json(session, target, after, time.perf_counter() - start, phases, memory.nbytes)
    found = inspect(target)
    write_measured(found, measured)
    return BudgetedResult(found, judged.outcome, receipt, measured, tuple(notes))


def choose(
    session: Session, search: Search, budget: Budget, recipe: Recipe | None, listener: Listener, notes: list[str]
) -> Point | None:
    """The point to judge, found on search data; None for lossless. Raises BudgetError."""
    if recipe is not None:
        return _replayed(session, search, recipe)
    _check_work(session, budget)
    if not budget.limits_quality:
        return _sized(session, search, budget) if budget.max_work is None else _worked(session, search, budget)
    try:
        best = search.run()
    except KeyboardInterrupt:
        best = search.best
        if best is None:
            raise
        session.candidate.take_out()  # nothing of the point that was being built may stay
        notes.append("interrupted: the best point so far was taken")
        listener.note(notes[-1])
    limit = budget.byte_limit(session.weights)
    size = session.lossless_bytes if best is None else best.nbytes
    if limit is not None and size > limit:
        raise BudgetError(
            f"no recipe keeps both limits: the smallest that keeps quality has {size:,} bytes, more than {limit:,}: "
            "allow more of either",
            nearest=session.recipe(best, budget),
        )
    work = session.evidence.work if best is None else best.work
    if budget.max_work is not None and work > budget.max_work * session.evidence.work:
        raise BudgetError(
            f"no recipe keeps both limits: the least work that keeps quality is {work / session.evidence.work:.1%} of "
            f"the multiply-adds, more than {budget.max_work:.1%}: allow more of either",
            nearest=session.recipe(best, budget),
        )
    return best


def _check_work(session: Session, budget: Budget) -> None:
    if budget.max_work is not None and not session.evidence.work:
        raise BudgetError("max_work must be given for a model with linear or convolutional layers: leave it out")


def _worked(session: Session, search: Search, budget: Budget) -> Point:
    """The best quality for an amount of work."""
    assert budget.max_work is not None
    limit = budget.max_work * session.evidence.work
    aim, work = limit, 0
    for _ in range(6):
        solution = session.solver.for_work(aim)
        plans = {plan.name: plan for plan in solution.plans}
        work = session.candidate.work(session.candidate.build(plans))
        if work <= limit:
            return search.of(plans, solution.loss)
        aim -= 1.1 * (work - limit)
    least = work / session.evidence.work
    raise BudgetError(
        f"work must be at least about {least:.1%} for this model and these patterns, not {budget.max_work:.1%}: "
        "--objective work prunes",
        nearest=least,
    )


def _sized(session: Session, search: Search, budget: Budget) -> Point:
    """The best quality for a size."""
    limit = budget.byte_limit(session.weights)
    assert limit is not None
    overhead = session.candidate.size({})
    aim = float(limit)
    size = 0
    for _ in range(6):
        solution = session.solver.for_bytes(aim - overhead)
        plans = {plan.name: plan for plan in solution.plans}
        size = session.candidate.size(session.candidate.build(plans))
        if size <= limit:
            return search.of(plans, solution.loss)
        aim -= 1.1 * (size - limit)
    raise BudgetError(f"size must be at least about {size:,} bytes for this model, not {limit:,}", nearest=size)


def _replayed(session: Session, search: Search, recipe: Recipe) -> Point:
    """A recipe by hand."""
    names = set(session.evidence.layers) | set(session.evidence.same)
    names |= {name for source in session.sources for name in source.header.entries}
    recipe.check_names(names)
    plans: dict[str, LayerPlan] = {}
    same = session.evidence.same
    for name, plan in recipe.by_name().items():
        owner = same.get(name, name)
        if owner in session.evidence.layers:
            plans.setdefault(owner, replace(plan, name=owner, pruning=_owned(plan.pruning, same)))
        elif plan.method is not Method.LOSSLESS:
            raise RecipeError(f"{name!r} must be a floating-point weight of the task's model to be quantized: drop it")
    lossless = {name: LayerPlan(name, Method.LOSSLESS) for name in session.evidence.layers}
    return search.of(lossless | plans, 0.0)


def _owned(how: Pruning | None, same: Mapping[str, str]) -> Pruning | None:
    """A pruning that follows the layer that owns the weights that it names."""
    if how is None or how.follows is None:
        return how
    return replace(how, follows=same.get(how.follows, how.follows))


def _judge(
    session: Session,
    search: Search,
    chosen: Point | None,
    budget: Budget,
    recipe: Recipe | None,
    listener: Listener,
) -> tuple[dict[str, LayerPlan], Verdicts]:
    """Held-out data, read once: a fixed sequence of recipes up to the first that fails; the last that did not."""
    lossless = session.lossless_plans()
    if chosen is None:
        return lossless, Verdicts("lossless", (), None)
    sequence = [(1.0, dict(chosen.plans))]
    if recipe is None and budget.limits_quality:
        steps = STEPS_FIDELITY if search.only_fidelity else STEPS
        safer = [(step, _plans(session, chosen.target * step)) for step in steps[:-1]]
        sequence = [(step, plans) for step, plans in safer if plans != chosen.plans] + sequence
    digest = batches_digest(session.task.batches("held_out"))
    listener.step("judging on held-out data", 0, len(sequence))
    store = Store(session.store.folder / f"held-{digest[:16]}")
    evaluator = Evaluator(session.network, session.task, "held_out", store)
    candidate = Candidate(session.evidence, evaluator, evaluator.store, session.candidate.builder)
    # A fidelity of 0 alone is what a recipe without limits has: anything goes, though KL may be above 1.
    free = recipe is not None and budget.min_fidelity == 0.0 and budget.max_drop is budget.max_drop_abs is None
    limited = budget.limits_quality and not free
    result, judgments = lossless, []
    for number, (step, plans) in enumerate(sequence, start=1):
        raw = _slim_raw(session, evaluator, candidate, plans) if session.options.slim else candidate.evaluate(plans).raw
        measured = evaluator.measured(raw, budget.confidence)
        limits = replace(search.budget, confidence=budget.confidence)
        verdict = measured.verdict(limits) if limited else None
        judgments.append(Judgment(step, chosen.number if step == 1.0 else None, measured, verdict))
        if verdict is not None and not verdict.ok:
            listener.note(f"held-out, {step:.0%} of the best point's loss: {verdict.worst}")
            break
        result = plans
        listener.step("judging on held-out data", number, len(sequence))
    if recipe is not None and result is lossless and judgments[0].verdict is not None:
        worst = judgments[0].verdict.worst
        raise BudgetError(f"the recipe must keep the budget on held-out data: {worst}", nearest=recipe)
    if all(plan.method is Method.LOSSLESS for plan in result.values()):
        return lossless, Verdicts("lossless", tuple(judgments), None)
    return result, Verdicts("met", tuple(judgments), chosen if result == chosen.plans else None)


def _slim_raw(session: Session, evaluator: Evaluator, candidate: Candidate, plans: Mapping[str, LayerPlan]) -> Raw:
    """The smaller model itself on held-out data, as it is what will run."""
    built = candidate.build(plans)
    original = evaluator.network
    evaluator.network = Network(slim_model(session, built, cut_built(session, plans, built)))
    try:
        return evaluator.raw()
    finally:
        evaluator.network = original


def _plans(session: Session, loss: float) -> dict[str, LayerPlan]:
    return {plan.name: plan for plan in session.solver.for_loss(loss).plans}


def resolutions(session: Session, budget: Budget) -> list[str]:
    """What the search data can't show. Raises TaskError for a relative limit of a metric whose baseline is 0."""
    found = []
    for name, metric in session.candidate.evaluator.baseline.items():
        if budget.max_drop is not None and (metric.value if isinstance(metric, Scores) else metric) == 0.0:
            raise TaskError(f"metric {name!r}: {ZERO_BASELINE}")
        if isinstance(metric, Scores):
            found += [f"metric {name!r}: {one}" for one in resolve(metric, budget) if not one.ok]
        else:
            found.append(f"metric {name!r} is a bare number: no interval is known, and its value is taken as it is")
    return found


def _write(
    session: Session,
    target: Path,
    built: Mapping[str, Built],
    cut: Cut,
    receipt: Mapping[str, Any],
    limit: int | None,
    force: bool,
) -> None:
    """Write the artifact. Raises BudgetError, and leaves nothing, if it comes out larger than `limit` bytes."""

    def form(name: str) -> Any:
        one = built.get(session.evidence.same.get(name, name))
        return None if one is None else cut.form(name, one.form)

    def replaced(name: str) -> Any:
        """Lossless tensors whose values changed: biases that were corrected."""
        one = built.get(session.evidence.same.get(name, name))
        if one is None or cut.form(name, one.form) is not None:
            return None
        layer = session.evidence.layers[session.evidence.same.get(name, name)]
        if np.array_equal(one.values.reshape(layer.weights.shape), layer.weights, equal_nan=True):
            return None
        return cut.of(name, one.values.astype(numpy_dtype(layer.dtype)))

    def changing(source: Source) -> Collection[str]:
        return source.matrices if session.options.dynamic else ()

    options: dict[str, Any] = {"version": __version__, "receipt": receipt, "threads": session.threads}
    sources = [slim_source(source, cut) if cut.rows else source for source in session.sources]
    if session.layout.single:
        with output_file(target, force=force) as sink:
            write_packed(sources[0], sink, form, replaced=replaced, dynamic=changing(sources[0]), **options)
            _check_size(sink.offset, limit)
        return
    total = 0
    with output_directory(target, force=force) as folder:
        for name, source in zip(session.layout.weights, sources, strict=True):
            file = folder / artifact_name(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            with output_file(file, force=False) as sink:
                write_packed(source, sink, form, replaced=replaced, dynamic=changing(source), **options)
            total += file.stat().st_size
        _check_size(total, limit)
        copy_others(session.layout, folder)


def _check_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise BudgetError(
            f"size must be at most {limit} bytes, and came out as {size}: allow a little more", nearest=size
        )
