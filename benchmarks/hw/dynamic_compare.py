"""Families of controllers at the same loss: cycles and energy off their curves, and what explains the difference."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from dynamic_network import DENSITIES, DOMAINS, GRANULARITIES, Call, Net, Numbers
from scipy.stats import rankdata, spearmanr

if TYPE_CHECKING:
    from dynamic import Families

TARGETS = (0.005, 0.01, 0.02, 0.05)
"""KL in nats. The one of the comparison is `TARGET`, chosen beforehand."""

TARGET = 0.02
DRAWS = 1000
STATIC = "static, by layer"
WHAT = ("cycles", "energy")


def at(losses: Numbers, costs: Numbers, target: float) -> float:
    """The cost at which a curve of points has that loss: linear in the loss's logarithm, between those of its points
    that no other beats in both; NaN beyond them.
    """
    order = np.lexsort((losses, costs))
    best = np.minimum.accumulate(losses[order])
    kept = order[np.concatenate(([True], best[1:] < best[:-1]))]
    kept = kept[losses[kept] > 0]
    logs = np.log(losses[kept])[::-1]
    if not len(kept) or not logs[0] <= np.log(target) <= logs[-1]:
        return float("nan")
    return float(np.interp(np.log(target), logs, costs[kept][::-1]))


def compared(net: Net, families: Families, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Curves; cycles and energy at each target, over the dense network's; ratios to what is static, with intervals."""
    calls = families.after.calls
    dense = net.spent(np.zeros((len(calls), len(net.units)), np.int64), dynamic=False).mean(0)
    even = np.full(len(calls), 1 / len(calls))
    kinds = ("spent", "free")
    levels = {name: {kind: _levels(one, kind, even, dense) for kind in kinds} for name, one in found.items()}
    spread = {name: {kind: np.empty((DRAWS, 2)) for kind in kinds} for name in found}
    for draw, weights in enumerate(_draws(calls)):
        for name, one in found.items():
            for kind in kinds:
                spread[name][kind][draw] = _level(one, kind, weights, dense, TARGET)
    place = TARGETS.index(TARGET)
    networks = [f"static, {granularity}" for granularity in GRANULARITIES]
    best = min(networks, key=lambda name: np.nan_to_num(levels[name]["spent"][place, 0], nan=np.inf))

    def gain(name: str, kind: str, against: str) -> dict[str, Any]:
        ratios = levels[against]["spent"][place] / levels[name][kind][place]
        draws = spread[against]["spent"] / spread[name][kind]
        return {what: _ratio(ratios[number], draws[:, number]) for number, what in enumerate(WHAT)}

    rows = {}
    for name, one in found.items():
        means = zip(one["losses"].mean(1), one["spent"].mean(1) / dense, strict=True)
        rows[name] = {
            "curve": [{"loss": _short(loss), **_named(cost)} for loss, cost in means],
            **{
                key: _by_target(levels[name][kind])
                for key, kind in (("at", "spent"), ("at, re-organizing free", "free"))
            },
            "gain over the best granularity": gain(name, "spent", best),
            "gain over static by layer": gain(name, "spent", STATIC),
            "gain over static by layer, re-organizing free": gain(name, "free", STATIC),
        }
    return {
        "dense cycles": dense[0],
        "dense pJ": dense[1],
        "best static": best,
        "loss": TARGET,
        "families": rows,
        "why": why(families, found),
    }


def why(families: Families, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What bounds the gain."""
    data, each = families.after, len(DENSITIES)
    domains = [d for d in DOMAINS if any(call.domain == d for call in data.calls)]
    tables = np.stack([data.of([d]).mean[:, 1:] for d in domains])  # (domains, matrices, variants)
    by_kind = tables.reshape(*tables.shape[:2], len(GRANULARITIES), each)
    fine = by_kind[:, :, :1]
    shares = {}
    for name in (STATIC, "learned by thirds of the variance", "oracle by domain", "oracle by call"):
        chosen = found[name]["chosen"]
        kinds = np.where(chosen == 0, 0, 1 + (chosen - 1) // each)
        shares[name] = dict(
            zip(("dense", *map(str, GRANULARITIES)), (_short(np.mean(kinds == kind)) for kind in range(4)), strict=True)
        )
    return {
        "loss of the other granularities over that of fine at the same density, median": {
            str(g): _short(np.median(by_kind[:, :, n] / fine[:, :, 0])) for n, g in enumerate(GRANULARITIES)
        },
        "share where fine loses least at the same density": _short(np.mean(by_kind.argmin(2) == 0)),
        "rank correlation of losses between domains": _short(
            np.mean([spearmanr(a.ravel(), b.ravel())[0] for a, b in combinations(tables, 2)])
        )
        if len(domains) > 1
        else None,
        "choices": shares,
        "rank correlation of a call's variance and its loss, mean over matrices": _short(_followed(families)),
    }


def _followed(families: Families) -> float:
    """Of the loss of each variant over calls, with the metric of the matrix: does variance tell what may be dropped?"""
    data = families.after
    found = []
    for place, losses in enumerate(data.losses[:, 1:]):
        metric = rankdata(data.metrics[:, place])
        found.append(np.mean([np.corrcoef(metric, rankdata(one))[0, 1] for one in losses]))
    return float(np.mean(found))


def _level(one: Mapping[str, Any], kind: str, weights: Numbers, dense: Numbers, target: float) -> list[float]:
    """Cycles and energy."""
    costs = np.einsum("pcw,c->wp", one[kind], weights) / dense[:, None]
    return [at(one["losses"] @ weights, cost, target) for cost in costs]


def _levels(one: Mapping[str, Any], kind: str, weights: Numbers, dense: Numbers) -> Numbers:
    """(targets, cycles and energy)."""
    return np.array([_level(one, kind, weights, dense, target) for target in TARGETS])


def _by_target(rows: Numbers) -> dict[str, Any]:
    return {str(target): _named(row) for target, row in zip(TARGETS, rows, strict=True)}


def _named(row: Numbers) -> dict[str, float | None]:
    return dict(zip(WHAT, map(_short, row), strict=True))


def _draws(calls: list[Call]) -> Any:
    """Weights of the calls, drawn with replacement within each domain."""
    random = np.random.default_rng(1)
    domains = np.array([call.domain for call in calls])
    for _ in range(DRAWS):
        weights = np.zeros(len(calls))
        for domain in dict.fromkeys(domains):
            own = np.flatnonzero(domains == domain)
            np.add.at(weights, random.choice(own, len(own)), 1 / len(calls))
        yield weights


def _ratio(value: float, draws: Numbers) -> dict[str, Any]:
    reached = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(reached) < len(draws) / 2:
        return {"ratio": None}
    low, high = np.quantile(reached, (0.025, 0.975))
    return {"ratio": _short(value), "95 %": [_short(low), _short(high)], "draws": len(reached)}


def _short(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
