"""`regrain compress --recipe` without a task: a recipe's steps on any weights, no data looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from regrain import __version__
from regrain.artifact.layout import artifact_name, check_apart, find_layout
from regrain.artifact.output import check_output, output_directory, output_file
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Source
from regrain.artifact.threads import resolve_threads
from regrain.artifact.ties import Ties
from regrain.artifact.writer import Progress
from regrain.codecs.quantized import Quantized, matrix_shape
from regrain.core.errors import RecipeError
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.models import open_any
from regrain.pipelines.inspect import inspect
from regrain.pipelines.lossless import CompressResult, copy_others, default_output
from regrain.planning.build import build
from regrain.planning.evidence import floats
from regrain.planning.layer import Factors, Layer

NOTE = "no task was given: weights were rounded to the nearest step of the recipe, and nothing was measured"


def replay(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    dynamic: bool = False,
) -> CompressResult:
    """Apply a recipe to a model's weights: every weight of a tensor counts alike, and is rounded to the nearest.

    A tensor that the recipe doesn't name is done as an earlier one with the same bytes is, else kept without loss. In a
    model of several files `progress` starts anew with each. With `dynamic` a run time may change the granularity of
    every matrix. Raises RecipeError for a recipe of another model or one that a tensor can't have, and what
    `regrain.compress` raises.
    """
    layout = find_layout(model)
    target = default_output(Path(model), layout) if out is None else Path(out)
    check_apart(layout, target)
    check_output(target, force=force)
    count = resolve_threads(threads)
    sources = [open_any(path) for path in layout.paths()]
    recipe.check_names({name for source in sources for name in source.header.entries})
    if layout.single:
        _replay_file(sources[0], recipe, target, force, count, progress, dynamic)
    else:
        with output_directory(target, force=force) as folder:
            for name, source in zip(layout.weights, sources, strict=True):
                file = folder / artifact_name(name)
                file.parent.mkdir(parents=True, exist_ok=True)
                _replay_file(source, recipe, file, False, count, progress, dynamic)
            copy_others(layout, folder)
    return CompressResult(inspect(target), (NOTE,))


def _replay_file(
    source: Source, recipe: Recipe, out: Path, force: bool, threads: int, progress: Progress | None, dynamic: bool
) -> None:
    plans = _plans(source, recipe)

    def quantized(name: str) -> Quantized | None:
        plan = plans.get(name)
        return None if plan is None or plan.method is Method.LOSSLESS else _rounded(source, plan)

    receipt = {
        "outcome": "replayed",
        "recipe": {name: plan.to_json() for name, plan in plans.items()},
        "notes": [NOTE],
        "command": f"regrain compress {Path(source.label).name} --recipe recipe.json",
    }
    with output_file(out, force=force) as sink:
        write_packed(
            source,
            sink,
            quantized,
            version=__version__,
            receipt=receipt,
            threads=threads,
            progress=progress,
            dynamic=source.matrices if dynamic else (),
        )


def _plans(source: Source, recipe: Recipe) -> Mapping[str, LayerPlan]:
    """Plans of a file's tensors, those without a plan of their own sharing that of their twin."""
    known, ties = recipe.by_name(), Ties(source.read)
    found: dict[str, LayerPlan] = {}
    for name, entry in source.header.entries.items():
        twin = ties.find(name, entry, source.read(name))
        if name in known:
            found[name] = known[name]
        elif twin is not None and twin in found:
            found[name] = replace(found[twin], name=name)
        source.done(name)
    return found


def _rounded(source: Source, plan: LayerPlan) -> Quantized:
    """One tensor with the recipe's steps. Raises RecipeError for a tensor that can't have them."""
    entry = source.header.entries[plan.name]
    if plan.pruning is not None:
        raise RecipeError(
            f"{plan.name!r} is to be pruned, which needs a task's data: give --task, or leave pruning out"
        )
    if entry.dtype not in ("F32", "F16", "BF16"):
        raise RecipeError(
            f"{plan.name!r} must be F32, F16 or BF16 to be quantized, not {entry.dtype}: make it lossless"
        )
    weights = floats(source, plan.name).reshape(matrix_shape(entry.shape))
    layer = Layer(plan.name, entry.dtype, "other", entry.shape, weights, 0, Factors.alike(*weights.shape))
    if not layer.usable:
        raise RecipeError(f"{plan.name!r} must have finite weights that differ to be quantized: leave it out")
    made = build({plan.name: layer}, {plan.name: plan})[plan.name].form
    assert isinstance(made, Quantized)
    return made
