"""Pruning as one more choice for each tensor: patterns and densities, with exact weights or quantized ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from regrain.codecs.sparse import mask_bytes
from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.models.channels import Group
from regrain.planning.candidates import Candidates, Curve
from regrain.planning.layer import Layer
from regrain.planning.store import Store

MEASURED = (0.95, 0.85, 0.7, 0.5, 0.3, 0.15)
"""Fractions of the units whose keeping is tried."""

DENSITIES = tuple(round(0.975 - 0.025 * number, 3) for number in range(36))
"""Fractions that may be kept: between two that were tried, the logarithm of the loss is a straight line of that of
what is dropped."""

PATTERNS = (Pattern("block:16x1"), Pattern("column"))
"""Patterns that are tried where work counts: what ordinary dense arithmetic can skip."""

_HEAD = 60.0  # bytes of a pruned payload, beside those of the mask


@dataclass(frozen=True, slots=True)
class Stage:
    """A tensor at one density: the `share` of its weights that is left, bytes of the mask, and the predicted loss."""

    density: float
    share: float
    mask: float
    loss: float


def stages(layer: Layer, pattern: Pattern, store: Store) -> list[Stage]:
    """What pruning a tensor costs at DENSITIES, found by doing it at MEASURED; empty where it can't be pruned so."""
    if not layer.prunable or layer.factors.trace == 0.0:
        return []
    key = "pruned-" + hashlib.sha256(json.dumps([layer.name, pattern.name]).encode()).hexdigest()[:24]
    if not store.has(key):
        among = pattern.among
        densities = MEASURED if among is None else (among[0] / among[1],)
        found = [
            [one.density, layer.kept_share(pattern, one.units), mask_bytes(one.units), one.cost]
            for one in layer.prune(Pruning(pattern, densities[0]), densities)
        ]
        store.put(key, {"name": layer.name, "pattern": pattern.name, "stages": found}, {})
    kept = store.get(key)
    assert kept is not None
    tried = [Stage(*numbers) for numbers in kept[0]["stages"]]
    if pattern.among is not None:
        return [stage for stage in tried if stage.share < 1.0]
    return _between(tried, _units(layer, pattern))


def _between(tried: Sequence[Stage], units: int) -> list[Stage]:
    """Stages at DENSITIES, each number of units once; beyond the ends the outer straight lines go on.

    Lines go through the fractions that are really kept: of few units that is not the density that was asked for.
    """
    known = _kept([stage.density for stage in tried], units)
    if len(known) < 2:
        return [tried[number] for number in known.values()]
    fractions = np.array(list(known)) / units
    chosen = [tried[number] for number in known.values()]
    # Units of zeros cost nothing, which has no logarithm: little beside the greatest loss stands for it.
    least = max(1e-6 * max(stage.loss for stage in chosen), 1e-300)
    dropped, loss = np.log(1.0 - fractions), np.log([max(stage.loss, least) for stage in chosen])
    found = []
    for kept, number in _kept(DENSITIES, units).items():
        at = float(np.log(1.0 - kept / units))
        low = int(np.clip(np.searchsorted(dropped, at) - 1, 0, len(chosen) - 2))
        slope = (loss[low + 1] - loss[low]) / (dropped[low + 1] - dropped[low])
        ratios = [stage.share / fraction for stage, fraction in zip(chosen, fractions, strict=True)]
        share = kept / units * float(np.interp(-kept / units, -fractions, ratios))
        mask = float(np.interp(-kept / units, -fractions, [stage.mask for stage in chosen]))
        found.append(Stage(DENSITIES[number], share, mask, float(np.exp(loss[low] + slope * (at - dropped[low])))))
    return found


def _kept(densities: Sequence[float], units: int) -> dict[int, int]:
    """How many units are kept at falling densities, each number once and not all of them: the first density's place."""
    kept: dict[int, int] = {}
    for place, density in enumerate(densities):
        kept.setdefault(max(1, round(density * units)), place)
    return {count: place for count, place in kept.items() if count < units}


def _units(layer: Layer, pattern: Pattern) -> int:
    """Units of a tensor; those at its right and lower edges may be smaller."""
    down, across = pattern.unit(layer.shape)
    rows, columns = layer.weights.shape
    count: int = -(-rows // down) * -(-columns // across)
    return count


def with_pruning(
    plain: Candidates, layer: Layer, patterns: Sequence[Pattern], group: Group | None, store: Store
) -> Candidates:
    """The candidates of a tensor, and those of each pattern and density, alone and with each way to quantize.

    A pruned tensor that is quantized costs what pruning costs, and of what rounding costs the share that is left.
    `group` has this tensor as its only user: with the columns that it loses, its makers lose rows.
    """
    curves = list(plain.curves)
    for pattern in patterns:
        makers = group.makers if group is not None and pattern.name == "column" else ()
        for stage in stages(layer, pattern, store):
            pruning = Pruning(pattern, stage.density, compensation=Compensation.SEQUENTIAL)
            head = _HEAD + stage.mask
            exact = np.array([stage.share * plain.lossless + head])
            none = np.zeros(1, np.int64)
            curves.append(Curve(None, none, exact, np.array([stage.loss]), pruning, stage.share, makers))
            curves += [
                replace(
                    found,
                    bytes=stage.share * found.bytes + head,
                    loss=stage.share * found.loss + stage.loss,
                    pruning=pruning,
                    share=stage.share,
                    makers=makers,
                )
                for found in plain.curves
            ]
    return replace(plain, curves=tuple(curves), absorbs=layer.prunable and layer.factors.trace > 0.0)
