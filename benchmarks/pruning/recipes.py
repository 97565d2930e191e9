"""Write the recipes that `measure.py --recipes` measures: the planner's at several amounts, and one density for all.

python benchmarks/pruning/recipes.py FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import results  # noqa: F401 - first: it makes the folder above this one importable
from lossy import models
from subject import SUBJECTS

from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import LayerPlan, Method, Recipe
from regrain.pipelines.options import Listener, Options
from regrain.pipelines.session import Session, prepare
from regrain.planning.solve import Objective

REMOVED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
DENSITIES = (0.7, 0.5)
COARSE = (Pattern("block:16x1"), Pattern("column"))
CHANNELS = (Pattern("column"),)
FINE = (Pattern("fine"),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for subject in SUBJECTS:
        name = subject.task.parent.name
        target = args.folder / name
        target.mkdir(parents=True, exist_ok=True)
        for patterns in (COARSE, CHANNELS, FINE):
            options = Options(
                work=args.folder / "work" / name, threads=args.threads, objective=Objective.WORK, patterns=patterns
            )
            session = prepare(models.path(name), subject.task, options, Listener())
            kind = {COARSE: "structured", CHANNELS: "channels"}.get(patterns)
            recipes = _planned(session, kind) if kind is not None else [*_fine(session), *_uniform(session)]
            for stem, plans in recipes:
                recipe = Recipe(tuple(plans.values()), session.model_sha256)
                (target / f"{stem}.json").write_text(recipe.text())
                print(target / f"{stem}.json", flush=True)


def _planned(session: Session, kind: str) -> Iterator[tuple[str, dict[str, LayerPlan]]]:
    """The least predicted loss for so much less work: by channels, alone or with 16 x 1 blocks."""
    for removed in REMOVED:
        solution = session.solver.for_work((1.0 - removed) * session.evidence.work)
        yield f"{kind}, {removed:.0%} removed", {plan.name: plan for plan in solution.plans}


def _fine(session: Session) -> Iterator[tuple[str, dict[str, LayerPlan]]]:
    for density in DENSITIES:
        solution = session.solver.for_work(density * session.evidence.work)
        yield f"fine, planned, kept {density:g}", {plan.name: plan for plan in solution.plans}


def _uniform(session: Session) -> Iterator[tuple[str, dict[str, LayerPlan]]]:
    """All matrices alike, as the peers have it."""
    patterns = [("fine", density) for density in DENSITIES] + [("2:4", 0.5), ("block:16x1", 0.9)]
    for name, density in patterns:
        pruning = Pruning(Pattern(name), density)
        yield (
            f"{name.replace(':', ' ')}, one density, kept {density:g}",
            {
                layer.name: LayerPlan(layer.name, Method.PRUNE, pruning=pruning)
                if layer.prunable and layer.factors.trace and layer.work
                else LayerPlan(layer.name, Method.LOSSLESS)
                for layer in session.evidence.layers.values()
            },
        )


if __name__ == "__main__":
    main()
