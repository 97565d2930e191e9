"""What a receipt says in words: why a tensor is stored as it is, and how to do it all again."""

from __future__ import annotations

from regrain.core.budget import Budget
from regrain.core.pattern import Pruning
from regrain.core.recipe import LayerPlan, Method
from regrain.pipelines.options import Options
from regrain.pipelines.session import Session
from regrain.planning.candidates import CELLS
from regrain.planning.layer import Layer
from regrain.planning.selectors import RuleOptions, Selection
from regrain.planning.solve import Objective


def why(layer: Layer, plan: LayerPlan) -> str:
    """What decided, in a sentence."""
    if plan.method is Method.LOSSLESS:
        if not layer.usable:
            return "kept as it is: it can't be quantized, or has nothing in it to gain from"
        return "kept as it is: that is the cheapest way to spend the loss"
    if plan.pruning is not None:
        return _pruned_because(plan, plan.pruning)
    if layer.factors.trace == 0.0:
        return "the task's output does not depend on it: rounded to about 6 bits, no more is known"
    per_weight = layer.factors.trace / layer.count
    shared = "one step for all of it" if plan.cell is not None and plan.cell.name == "tensor" else "steps by row"
    return f"sensitivity {per_weight:.2g} a weight asks for steps of {plan.step:.2g}; {shared} costs fewest bytes"


def _pruned_because(plan: LayerPlan, how: Pruning) -> str:
    if how.follows is not None:
        return f"rows that make what {how.follows} uses no more are gone with its columns"
    kept = (
        f"{how.density:.0%} of its units ({how.pattern.name}) cost {plan.loss:.2g} once the others make up for the rest"
    )
    return kept if plan.step is None else f"{kept}; these have steps of {plan.step:.2g}"


def command(session: Session, budget: Budget, *, replayed: bool) -> str:
    """What has to be typed to get the same artifact; a recipe by hand must be called recipe.json."""
    limits = {
        "--max-drop": budget.max_drop,
        "--max-drop-abs": budget.max_drop_abs,
        "--min-fidelity": budget.min_fidelity or None,
        "--max-size": budget.max_bytes,
        "--bits": budget.bits,
        "--max-work": budget.max_work,
    }
    given = " ".join(f"{option} {value:.9g}" for option, value in limits.items() if value is not None)
    given += " --recipe recipe.json" if replayed else ""
    confidence = "" if budget.confidence == 0.95 else f" --confidence {budget.confidence:g}"
    model = session.layout.weights[0] if session.layout.single else session.layout.root.name
    name = session.task.path.name if session.task.path is not None else session.task.name
    return (
        f"regrain compress {model} --task {name} {given}{confidence}{_options(session.options)}"
        f" --seed {session.setting.seed}"
    )


def _options(options: Options) -> str:
    """What decides which recipe is found, as it is typed; defaults are left out."""
    rule, usual = options.rule, RuleOptions()
    given: dict[str, tuple[object, object]] = {
        "--objective": (options.objective, Objective.BYTES),
        "--selector": (options.selector, Selection.SEARCH),
        "--high-entropy": (rule.thresholds.high_entropy, usual.thresholds.high_entropy),
        "--low-entropy": (rule.thresholds.low_entropy, usual.thresholds.low_entropy),
        "--max-sparsity": (rule.thresholds.max_sparsity, usual.thresholds.max_sparsity),
        "--rule-bits": (rule.bits, usual.bits),
        "--rule-density": (rule.density, usual.density),
    }
    words = [f" {option} {value}" for option, (value, default) in given.items() if value != default]
    if options.cells != CELLS:
        words.append(f" --cells {','.join(cell.name for cell in options.cells)}")
    if options.patterns is not None:
        words.append(f" --patterns {','.join(pattern.name for pattern in options.patterns) or 'none'}")
    return "".join(words) + (" --slim" if options.slim else "")
