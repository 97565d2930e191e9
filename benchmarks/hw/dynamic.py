"""Does changing each matrix' granularity while it runs beat the best fixed choice at the same loss?

python benchmarks/hw/dynamic.py [--fold] [--cache FOLDER] [--out FILE.json]

The Fashion-MNIST ResNet in int8 on the simulated accelerator, on streams of images: five domains one after another, and
one alone. Every matrix of its blocks has a variant for each granularity and density, made of the same weights in the
same way. Families differ in who chooses among them, and in what that one knows. Cycles and energy are those of `regrain
simulate`; nothing is timed. What is done is in FOLDER, and isn't computed again: remove it when anything before
has changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_compare import compared
from dynamic_network import (
    CALIBRATION,
    DENSITIES,
    DOMAINS,
    GRAM,
    GRANULARITIES,
    VARIANTS,
    Call,
    Choose,
    Net,
    Numbers,
    calibration,
    stream,
)
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PRICES = (2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
"""Of a nat of loss, in cycles of the dense network: each gives a point of a curve."""

LOW, HIGH = 0.2, 0.5
"""Fixed thresholds on variance: medium from the one on, fine above the other."""

LEVELS = len(GRANULARITIES)
Choice = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """Calls with the loss of each variant alone (matrices, variants, calls), and metrics (calls, matrices)."""

    calls: Sequence[Call]
    losses: Numbers
    metrics: Numbers

    def of(self, domains: Sequence[str]) -> Known:
        places = [place for place, call in enumerate(self.calls) if call.domain in domains]
        return Known([self.calls[place] for place in places], self.losses[:, :, places], self.metrics[places])

    @property
    def mean(self) -> Numbers:
        return np.asarray(self.losses.mean(2))


def known(net: Net, calls: Sequence[Call], path: Path) -> tuple[Known, list[NDArray[Any]]]:
    logits, metrics = net.dense(calls)
    if not path.exists():
        np.savez(path, table=net.table(calls, logits))
    return Known(calls, np.load(path)["table"], metrics), logits


class Families:
    """Who may choose. `before` is calibration data; `after` the stream itself, which only oracles look into."""

    def __init__(self, net: Net, before: Known, after: Known) -> None:
        self.before, self.after = before, after
        self.stored, self.again = net.costs[:, 0, :, 0], net.costs[:, 1, :, 0]
        self.dense = float(self.stored[:, 0].sum() + net.constant[0])
        self.thirds = np.quantile(before.metrics, (1 / 3, 2 / 3), axis=0).T
        self.chance = np.random.default_rng(0).integers(LEVELS, size=(len(after.calls), len(net.units)))

    def all(self) -> Iterator[tuple[str, bool, list[Choose]]]:
        """(name, whether matrices may change, a controller for each point of its curve)."""
        for number, granularity in enumerate(GRANULARITIES):
            yield f"static, {granularity}", False, [fixed(c[:, number]) for c in self._uniform()]
        yield "static, by layer", False, [fixed(self.best(self.stored, self.before.mean, p)) for p in PRICES]
        for kind, points in (("one density", self._uniform()), ("a density each", self._fitted())):
            yield f"thresholds, {kind}", True, [self._by(self._absolute, c) for c in points]
            yield f"thresholds reversed, {kind}", True, [self._by(turned(self._absolute), c) for c in points]
            yield f"quantiles, {kind}", True, [self._by(self._third, c) for c in points]
            yield f"quantiles reversed, {kind}", True, [self._by(turned(self._third), c) for c in points]
            yield f"random, {kind}", True, [self._by_chance(c) for c in points]
        yield "learned by thirds of the variance", True, [self._learned(p) for p in PRICES]
        yield "told the domain", True, [self._told(self.before, p) for p in PRICES]
        yield "oracle by domain, granularity alone", True, [self._told(self.after, p, c) for p, c in self._priced()]
        yield "oracle by domain", True, [self._told(self.after, p) for p in PRICES]
        yield "oracle by call, granularity alone", True, [self._each(p, c) for p, c in self._priced()]
        yield "oracle by call", True, [self._each(p) for p in PRICES]

    def best(self, costs: Numbers, losses: Numbers, price: float, among: Choice | None = None) -> Choice:
        """The variant of each matrix (matrices,) with the least cycles plus price x loss, of all or of some (matrices,
        some).
        """
        whole = costs + price * self.dense * losses
        if among is None:
            return np.asarray(whole.argmin(1))
        picked = np.take_along_axis(whole, among, 1).argmin(1)
        return np.asarray(np.take_along_axis(among, picked[:, None], 1)[:, 0])

    def _uniform(self) -> list[Choice]:
        """(matrices, granularities): all with one density."""
        each = len(DENSITIES)
        one = np.arange(LEVELS) * each + 1
        return [np.broadcast_to(one + number, (len(self.stored), LEVELS)) for number in range(each)]

    def _fitted(self) -> list[Choice]:
        """(matrices, granularities): of each the density, or dense, that is best on calibration data."""
        return [choices for _, choices in self._priced()]

    def _priced(self) -> Iterator[tuple[float, Choice]]:
        each, shape = len(DENSITIES), (len(self.stored), 1)
        for price in PRICES:
            columns = []
            for number in range(LEVELS):
                own = np.concatenate(([0], np.arange(each) + 1 + number * each))
                columns.append(self.best(self.again, self.before.mean, price, np.tile(own, shape)))
            yield price, np.stack(columns, axis=1)

    def _absolute(self, _: int, metric: float) -> int:
        return 0 if metric > HIGH else 1 if metric >= LOW else 2

    def _third(self, place: int, metric: float) -> int:
        return 2 - int((metric > self.thirds[place]).sum())

    def _by(self, level: Callable[[int, float], int], choices: Choice) -> Choose:
        return lambda place, _, metric: int(choices[place, level(place, metric)])

    def _by_chance(self, choices: Choice) -> Choose:
        return lambda place, call, _: int(choices[place, self.chance[call, place]])

    def _learned(self, price: float) -> Choose:
        """For each third of a matrix' metric, the variant that was best on calibration's calls of that third."""
        places = range(len(self.stored))
        levels = np.array([[self._third(place, row[place]) for place in places] for row in self.before.metrics])
        choices = np.zeros((len(self.stored), LEVELS), np.int64)
        for place in places:
            for level in range(LEVELS):
                mine = self.before.losses[place : place + 1, :, levels[:, place] == level].mean(2)
                choices[place, level] = self.best(self.again[place : place + 1], mine, price)[0]
        return self._by(self._third, choices)

    def _told(self, data: Known, price: float, among: Choice | None = None) -> Choose:
        domains = [call.domain for call in self.after.calls]
        picked = {d: self.best(self.again, data.of([d]).mean, price, among) for d in dict.fromkeys(domains)}
        return lambda place, call, _: int(picked[domains[call]][place])

    def _each(self, price: float, among: Choice | None = None) -> Choose:
        picked = [
            self.best(self.again, self.after.losses[:, :, call], price, among) for call in range(len(self.after.calls))
        ]
        return lambda place, call, _: int(picked[call][place])


def fixed(variants: Choice) -> Choose:
    return lambda place, _call, _metric: int(variants[place])


def turned(level: Callable[[int, float], int]) -> Callable[[int, float], int]:
    """High variance coarse."""
    return lambda place, metric: LEVELS - 1 - level(place, metric)


def curves(net: Net, families: Families, logits: Sequence[NDArray[Any]], path: Path) -> dict[str, dict[str, Any]]:
    """By family: losses (points, calls), chosen (points, calls, matrices), spent (points, calls, 2); and `free`, what
    would be spent if re-organizing cost nothing.
    """
    found = dict(np.load(path)) if path.exists() else {}
    result = {}
    for name, dynamic, controllers in families.all():
        if f"{name}/losses" not in found:
            points = [net.follow(families.after.calls, logits, choose) for choose in controllers]
            found[f"{name}/losses"] = np.array([losses for losses, _ in points])
            found[f"{name}/chosen"] = np.array([chosen for _, chosen in points])
            np.savez(path, **found)
            print(f"  {name}", flush=True)
        chosen = found[f"{name}/chosen"]
        result[name] = {
            "losses": found[f"{name}/losses"],
            "chosen": chosen,
            "spent": np.array([net.spent(one, dynamic=dynamic) for one in chosen]),
            "free": np.array([net.spent(one, dynamic=False) for one in chosen]),
        }
    return result


def slower(net: Net, of: str) -> dict[str, dict[str, float]]:
    """Cycles and energy of the matrices that may change, read from master copies, over those of packed ones."""
    packed, again = np.sum([getattr(unit, of) for unit in net.units], axis=0)
    return {
        f"{granularity or 'dense'} {density}": {"cycles": round(float(one[0]), 4), "energy": round(float(one[1]), 4)}
        for (granularity, density), one in zip(VARIANTS, again / packed, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="build/dynamic, by default")
    parser.add_argument("--out", type=Path, help="by default in benchmarks/results/hw")
    parser.add_argument("--fold", action="store_true", help="the bias makes up for what is dropped, not the weights")
    options = parser.parse_args()
    name = "dynamic-fold" if options.fold else "dynamic"
    options.cache = options.cache or ROOT / "build" / name
    options.out = options.out or ROOT / "benchmarks" / "results" / "hw" / f"{name}.json"
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    net = Net(least_squares=not options.fold)
    before, _ = known(net, calibration(slice(GRAM, GRAM + CALIBRATION)), options.cache / "calibration.npz")
    after, logits = known(net, stream(), options.cache / "stream.npz")
    result: dict[str, Any] = {
        "network": "Fashion-MNIST ResNet",
        "compensation": "bias alone" if options.fold else "least squares",
        "images of a call": len(after.calls[0].images),
        "calls of a domain": {"fitted": GRAM, "calibrated": CALIBRATION, "stream": len(after.calls) // len(DOMAINS)},
        "prices": PRICES,
        "variants": [f"{granularity or 'dense'} {density}" for granularity, density in VARIANTS],
        "matrices": net.names,
        "re-organized over packed": {"a call": slower(net, "costs"), "one image": slower(net, "alone")},
    }
    for setting, domains in (("drifting", DOMAINS), ("stationary", DOMAINS[:1])):
        print(setting, flush=True)
        own = [place for place, call in enumerate(after.calls) if call.domain in domains]
        families = Families(net, before.of(domains), after.of(domains))
        found = curves(net, families, [logits[place] for place in own], options.cache / f"{setting}.npz")
        result[setting] = compared(net, families, found)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
