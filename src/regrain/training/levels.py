"""One notch looser, one notch tighter: the ladder of plans that a layer goes up and down while it trains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regrain.codecs.grid import HIGHEST, LOWEST, STEPS, codes_of, scales_of
from regrain.core.pattern import Pattern, Pruning
from regrain.core.recipe import LayerPlan, Method

NOTCH = STEPS // 2
"""Codes of the grid between two steps of the ladder: a factor of 2^(1/2), half a bit a weight."""

FINEST, COARSEST = 1 / 32, 4.0
"""Steps between which a layer stays quantized, in its weights' root mean square: finer is lossless, coarser nothing."""

DENSITIES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)

_NEAR = 0.02  # a density of the ladder that is so near is no step

BLOCK = Pattern("block:16x1")
FINE = Pattern("fine")


def looser(plan: LayerPlan, spread: float) -> tuple[LayerPlan, ...]:
    """Plans that change the weights one notch less: a finer step, a higher density, or a finer pattern at the same
    density. None for a lossless plan. `spread` is the weights' root mean square.
    """
    found = []
    if plan.step is not None:
        step = _moved(plan.step, -NOTCH)
        found.append(replace(plan, step=step) if step >= FINEST * spread else unquantized(plan))
    if plan.pruning is not None and plan.pruning.density is not None:
        found.append(pruned(plan, _denser(plan.pruning)))
        finer = _finer(plan.pruning.pattern)
        if finer is not None:
            found.append(pruned(plan, replace(plan.pruning, pattern=finer)))
    return tuple(found)


def tighter(plan: LayerPlan, origin: LayerPlan, spread: float) -> tuple[LayerPlan, ...]:
    """Plans that save one notch more: a coarser step, a lower density, or a coarser pattern at the same density.

    What `origin`, the recipe's plan, leaves as it is stays so: it decides whether a layer may be quantized, and pruned
    by which pattern at its coarsest.
    """
    found = []
    if plan.step is not None:
        step = _moved(plan.step, NOTCH)
        if step <= COARSEST * spread:
            found.append(replace(plan, step=step))
    elif origin.step is not None and spread > 0.0:
        step = _moved(FINEST * spread, NOTCH)
        found.append(replace(plan, method=Method.QUANTIZE, cell=origin.cell, step=step, dead_zone=origin.dead_zone))
    if origin.pruning is not None and origin.pruning.density is not None:
        found += [pruned(plan, pruning) for pruning in _sparser(plan.pruning, origin.pruning)]
    return tuple(found)


def unquantized(plan: LayerPlan) -> LayerPlan:
    """What is kept stays floating-point."""
    method = Method.LOSSLESS if plan.pruning is None else Method.PRUNE
    return replace(plan, method=method, cell=None, step=None, dead_zone=0.0)


def pruned(plan: LayerPlan, pruning: Pruning | None) -> LayerPlan:
    """The plan with another pruning, or without one."""
    if plan.step is not None:
        return replace(plan, pruning=pruning)
    return replace(plan, method=Method.LOSSLESS if pruning is None else Method.PRUNE, pruning=pruning)


def _moved(step: float, codes: int) -> float:
    """A step of the grid, so many codes away."""
    code = np.clip(codes_of([step]).astype(np.int32) + codes, LOWEST, HIGHEST).astype(np.int16)
    return float(scales_of(code)[0])


def _denser(pruning: Pruning) -> Pruning | None:
    """One density up; None where that is everything. N:M has no other density, and becomes fine."""
    assert pruning.density is not None
    now = pruning.density
    if pruning.pattern.among is not None:
        pruning = replace(pruning, pattern=FINE)
    up = min((density for density in DENSITIES if density > now + _NEAR), default=1.0)
    return None if up == 1.0 else replace(pruning, density=up)


def _sparser(pruning: Pruning | None, origin: Pruning) -> list[Pruning]:
    if pruning is None:
        return [origin if origin.pattern.among else replace(origin, density=DENSITIES[1])]
    assert pruning.density is not None
    found = []
    down = max((density for density in DENSITIES if density < pruning.density - _NEAR), default=None)
    if down is not None and pruning.pattern.among is None:
        found.append(replace(pruning, density=down))
    coarser = _coarser(pruning.pattern, origin.pattern)
    if coarser is not None and (coarser.among is None or pruning.density == origin.density):
        found.append(replace(pruning, pattern=coarser))
    return found


def _finer(pattern: Pattern) -> Pattern | None:
    """Channels become blocks, and blocks single weights."""
    if pattern.name in ("column", "row"):
        return BLOCK
    return None if pattern == FINE else FINE


def _coarser(pattern: Pattern, coarsest: Pattern) -> Pattern | None:
    """One pattern coarser on the way to the coarsest one that is allowed."""
    finer = coarsest
    while finer != pattern:
        below = _finer(finer)
        if below is None or below == pattern:
            return finer if below == pattern else None
        finer = below
    return None
