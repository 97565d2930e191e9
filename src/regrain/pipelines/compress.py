"""`regrain compress`: a model in, an artifact out; how much may be lost is the caller's to say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regrain.artifact.writer import Progress
from regrain.core.budget import Budget
from regrain.core.errors import BudgetError
from regrain.core.recipe import Recipe, parse_recipe
from regrain.pipelines.limits import budget_of
from regrain.pipelines.lossless import CompressResult, compress_lossless

if TYPE_CHECKING:
    from regrain.models.task import Task
    from regrain.pipelines.budgeted import BudgetedResult
    from regrain.pipelines.options import Listener
    from regrain.planning.selectors import RuleOptions

__all__ = ["CompressResult", "compress", "read_recipe"]

ANYTHING = Budget(min_fidelity=0.0)
"""For a recipe by hand: whatever it does is reported, not judged."""


def compress(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    task: Task | str | os.PathLike[str] | None = None,
    max_drop: float | str | None = None,
    max_drop_abs: float | None = None,
    min_fidelity: float | str | None = None,
    max_size: int | str | None = None,
    bits: float | None = None,
    max_work: float | str | None = None,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    cells: Sequence[str] | None = None,
    objective: str = "bytes",
    patterns: Sequence[str] | None = None,
    selector: str = "search",
    rule: RuleOptions | None = None,
    slim: bool = False,
    dynamic: bool = False,
    work: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    listener: Listener | None = None,
) -> CompressResult | BudgetedResult:
    """Compress a model: without loss, or as small as the limits of a task allow.

    `model` is a safetensors file, a PyTorch state dict, a sharded checkpoint's index JSON or a directory. `out` is
    X.regrain.safetensors beside a file X, a directory X.regrain for the other two, unless it is given; a directory
    holds each file of weights as an artifact of its own and all other files as they are. `threads` None means every
    processor. `progress` is called with the bytes done and all bytes. Nothing is left behind by an error or Ctrl-C.

    With `task` (a file, or `regrain.models.task.task_from`), at least one limit is needed, or a recipe. Limits hold
    together: `max_drop` (a fraction, or "1%") and `max_drop_abs` of every metric, `min_fidelity`, `max_size` (bytes, or
    "12MB"), `bits` per weight, `max_work` (the fraction of multiply-adds that may be left). They are proved on held-out
    data at `confidence`. `cells` are tried for every matrix ("tensor", "row", "group:32", "block:16x16"); `objective`
    is what is minimized, "bytes", "work" (multiply-adds), "both", or "latency" of loading on this machine; `patterns`
    are tried for pruning ("block:16x1", "column", "fine", "2:4"), by default only where work counts. `selector` decides
    what is done to each tensor ("search", "closed-form", "learned", "rule"); `rule` says what the rule leaves open.
    With `slim`, channels that nothing uses any more are removed: the artifact is that of a smaller model
    (`regrain.models.slim.fit`). With `dynamic`, descriptors say that a run time may change the granularity of every
    matrix. `work` is where measurements are kept, beside the model by default;
    `resume` insists that there are some, `fresh` throws them away.
    `listener` hears how it goes. With a recipe and no task, its steps are applied by rounding to the nearest, and
    nothing is measured.

    Raises OutputExistsError unless `force` is set, and whenever `out` is the model itself; OutputError if writing
    fails, UnsupportedModelError and CorruptArtifactError for a model that cannot be read; TaskError, BudgetError (with
    `nearest` if the limits can't be met) and RecipeError.
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
    steps = read_recipe(recipe) if isinstance(recipe, str | os.PathLike) else recipe
    if task is not None:
        from regrain.pipelines.budgeted import compress_within
        from regrain.pipelines.options import Listener, options_of

        if budget is None and steps is None:
            raise BudgetError("a limit or a recipe must be given with a task: max_drop='1%', for example")
        return compress_within(
            model,
            out,
            task=task,
            budget=budget or ANYTHING,
            recipe=steps,
            options=options_of(
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
                slim=slim,
                dynamic=dynamic,
            ),
            force=force,
            listener=listener or Listener(),
        )
    if budget is not None:
        raise BudgetError("a task must be given with limits: they are kept on its data")
    if steps is not None:
        from regrain.pipelines.replay import replay

        return replay(model, out, recipe=steps, force=force, threads=threads, progress=progress, dynamic=dynamic)
    return compress_lossless(model, out, force=force, threads=threads, progress=progress, dynamic=dynamic)


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """A recipe's file. Raises OSError, RecipeError."""
    return parse_recipe(Path(path).read_text("utf-8", "replace"))
