"""Which layers go a notch looser, which a notch tighter: by what they damage, and by what they would save."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from regrain.core.recipe import LayerPlan
from regrain.training.masks import unit_means
from regrain.training.views import View
from regrain.training.weights import as_matrix

LOOSENED = 0.5
"""Share of the whole damage whose layers are loosened at once."""

TIGHTENED = 0.5
"""What tightening may add to the damage at once, as a share of it."""

LOSSLESS_BITS = 0.8
"""Share of a weight's bits that lossless coding leaves of it, about: the exponent shrinks, the mantissa doesn't."""

_SAMPLE = 1 << 18


@dataclass(frozen=True, slots=True)
class Effect:
    """What a plan makes of a weight: predicted bits in all, and damage: sum E[g^2] d^2 / 2 over its changes d."""

    bits: float
    damage: float


@dataclass(frozen=True, slots=True)
class Option:
    """A layer's plan now and another one that it may have instead."""

    before: LayerPlan
    after: LayerPlan
    now: Effect
    then: Effect


def effect(weight: Tensor, plan: LayerPlan, mask: Tensor | None, energy: Tensor | None) -> Effect:
    """Bits and damage of a weight under a plan. Of large ones without a mask a sample of the rows is looked at."""
    stride = 1 if mask is not None else max(1, min(math.ceil(weight.numel() / _SAMPLE), len(weight)))
    share = len(weight) / len(weight[::stride])
    sample = weight.detach()[::stride]
    view = View(plan, mask)
    error = as_matrix(view.values(sample).float() - sample.float()).square()
    if energy is not None:
        error = error * energy[::stride] if weight.dim() > 1 else error * energy[:, ::stride]
    return Effect(share * _bits(sample, view), share * float(error.double().sum()) / 2.0)


def _bits(weight: Tensor, view: View) -> float:
    """Order-0 entropy of what is kept, and of which units are."""
    plan, mask = view.plan, view.mask
    kept = weight.numel() if mask is None else int(mask.sum())
    if view.scale is None:
        bits = LOSSLESS_BITS * 8 * weight.element_size() * kept
    else:
        indices = view.indices(weight)
        every = entropy(indices) * indices.numel()
        if mask is None:
            return every
        bits = entropy(indices[mask]) * kept
        if plan.pruning is not None and plan.pruning.pattern.name == "fine":
            return min(every, bits + _choice(kept, weight.numel()))
    if mask is None or plan.pruning is None:
        return bits
    units = unit_means(as_matrix(mask.float()), *plan.pruning.pattern.unit(weight.shape))
    return bits + _choice(int((units > 0).sum()), units.numel())


def entropy(values: Tensor) -> float:
    """Order-0 entropy of whole numbers, bits each."""
    if values.numel() == 0:
        return 0.0
    whole = values.reshape(-1).long()
    counts = torch.bincount(whole - whole.min())
    shares = counts[counts > 0].double() / whole.numel()
    return float(-(shares * shares.log2()).sum())


def _choice(kept: int, count: int) -> float:
    """Bits that say which of `count` units are kept."""
    share = kept / count
    if share in (0.0, 1.0):
        return 0.0
    return -count * (share * math.log2(share) + (1.0 - share) * math.log2(1.0 - share))


def loosen(effects: dict[str, Effect], options: Callable[[str], Iterable[Option]]) -> list[Option]:
    """Of the layers that do LOOSENED of all damage together, those that damage most first, the option that takes away
    the most damage for what it costs.
    """
    left = LOOSENED * sum(found.damage for found in effects.values())
    chosen: list[Option] = []
    for name in sorted(effects, key=lambda name: -effects[name].damage):
        if left <= 0.0 and chosen:
            break
        better = [found for found in options(name) if found.then.damage < found.now.damage]
        if better:
            chosen.append(max(better, key=_relief))
        left -= effects[name].damage
    return chosen


def _relief(option: Option) -> float:
    """Damage less, for each bit more."""
    return (option.now.damage - option.then.damage) / max(option.then.bits - option.now.bits, 1.0)


def tighten(effects: dict[str, Effect], options: Callable[[str], Iterable[Option]]) -> list[Option]:
    """Options with the most bits saved for what they damage, one a layer, up to TIGHTENED more damage in all."""
    found = [one for name in effects for one in options(name) if one.then.bits < one.now.bits]
    found.sort(key=lambda one: (one.then.damage - one.now.damage) / (one.now.bits - one.then.bits))
    left = TIGHTENED * sum(one.damage for one in effects.values())
    chosen: dict[str, Option] = {}
    for one in found:
        added = max(one.then.damage - one.now.damage, 0.0)
        if one.before.name not in chosen and (added <= left or not chosen):
            chosen[one.before.name] = one
            left -= added
    return list(chosen.values())
