"""The search for a budget: predict, build, evaluate for real, correct the prediction, close in; the best is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from regrain.accuracy import Budget, Fidelity, Verdict
from regrain.core.recipe import LayerPlan
from regrain.core.scores import Scores
from regrain.planning.build import Built
from regrain.planning.builder import Builder, plans_digest
from regrain.planning.evaluate import Evaluator, Measured, Raw
from regrain.planning.evidence import Evidence
from regrain.planning.solve import Solver
from regrain.planning.store import Store

MOST_POINTS = 10
"""Points that are evaluated at most."""

MOST_TARGETS = 40
"""Losses that are asked for at most: several may lead to the same point."""

CLOSE = 1.07
"""The search ends when the loss of the best point is within this factor of one that is too much: 0.05 bits a weight."""

START = {"embeddings": 0.004, "logits": 0.01}
"""Predicted loss of the first point where only metrics are limited."""

GUARD = {"embeddings": 0.05, "logits": 0.1}
"""The most D or KL that is allowed where only metrics are limited: scores hide damage."""

HEADER = 2300
"""Bytes of a file's header, index and receipt, before they are known, and for each tensor of the model:"""
HEADER_TENSOR = 88


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One evaluated recipe. `target` is the predicted loss that was asked for, `loss` what sensitivity says of the
    weights that came of it, `predicted` that corrected by what was measured at the points before; `nbytes` is the size
    with the header guessed, `work` the multiply-adds for each example.
    """

    number: int
    target: float
    plans: Mapping[str, LayerPlan]
    loss: float
    predicted: float
    nbytes: int
    measured: Measured
    verdict: Verdict | None
    work: int = 0

    @property
    def ok(self) -> bool:
        """Whether it keeps the budget on the search data."""
        return self.verdict is None or self.verdict.ok


class Evaluated(NamedTuple):
    """A recipe, built and tried."""

    loss: float
    nbytes: int
    work: int
    raw: Raw


class Candidate:
    """Builds recipes into the network and takes them out again."""

    def __init__(self, evidence: Evidence, evaluator: Evaluator, store: Store, builder: Builder) -> None:
        self.evidence = evidence
        self.evaluator = evaluator
        self.builder = builder
        self._store = store

    def build(self, plans: Mapping[str, LayerPlan]) -> dict[str, Built]:
        """Every layer as the plans want it."""
        return self.builder.build(plans)

    def size(self, built: Mapping[str, Built]) -> int:
        """Bytes of everything that is stored, the header guessed."""
        layers = self.evidence.layers
        stored = sum(one.size or layers[name].lossless for name, one in built.items())
        return stored + self.evidence.fixed + self.evidence.files * (HEADER + HEADER_TENSOR * len(layers))

    def put(self, built: Mapping[str, Built]) -> None:
        """The network's weights become those that were built."""
        for name, one in built.items():
            self.evaluator.network.set(name, one.values)

    def take_out(self) -> None:
        """The network's weights are the original's again."""
        for name, layer in self.evidence.layers.items():
            self.evaluator.network.set(name, layer.weights)

    def work(self, built: Mapping[str, Built]) -> int:
        """Multiply-adds for each example."""
        return round(sum(self.evidence.layers[name].work * one.density for name, one in built.items()))

    def evaluate(self, plans: Mapping[str, LayerPlan]) -> Evaluated:
        """Predicted loss, bytes, multiply-adds, and what the search data say; found in the store if it was measured
        before, beside just the same original.
        """
        key = f"point-{self.evaluator.digest[:16]}-{plans_digest(plans)}"
        kept = self._store.get(key)
        if kept is not None:
            value, arrays = kept
            return Evaluated(value["loss"], value["nbytes"], value["work"], _raw(value, arrays, self.evaluator))
        built = self.build(plans)
        loss, nbytes, work = sum(one.loss for one in built.values()), self.size(built), self.work(built)
        self.put(built)
        try:
            raw = self.evaluator.raw()
        finally:
            self.take_out()
        value, arrays = _record(raw)
        self._store.put(key, value | {"loss": loss, "nbytes": nbytes, "work": work}, arrays)
        return Evaluated(loss, nbytes, work, raw)


def choose_compensation(candidate: Candidate, solver: Solver) -> None:
    """Compensate in sequence only if that loses less on search data, where a search for metrics would begin: it learns
    from the calibration data's positions, which may be too few.
    """
    losses = []
    for solver.sequential in (True, False):
        plans = {plan.name: plan for plan in solver.for_loss(START[candidate.evaluator.kind]).plans}
        losses.append(candidate.evaluate(plans).raw.fidelity.value)
    solver.sequential = losses[0] <= losses[1]


class Search:
    """Finds the smallest recipe that keeps a budget of quality on the search data."""

    def __init__(
        self,
        candidate: Candidate,
        solver: Solver,
        budget: Budget,
        said: Callable[[Point, Point | None], None] = lambda *_: None,
    ) -> None:
        kind = candidate.evaluator.kind
        self._candidate = candidate
        self._solver = solver
        self.budget = guarded(budget, kind, bool(candidate.evaluator.baseline))
        self._said = said
        self._fidelity_limit = 1.0 - self.budget.min_fidelity if self.budget.min_fidelity is not None else None
        if not candidate.evaluator.baseline and self.budget.limits_quality:
            limits = (self.budget.max_drop, self.budget.max_drop_abs, self._fidelity_limit)
            self._fidelity_limit = min(limit for limit in limits if limit is not None)
        limits_drop = budget.max_drop is not None or budget.max_drop_abs is not None
        self.only_fidelity = not (candidate.evaluator.baseline and limits_drop)
        self._start = START[kind]
        self.points: list[Point] = []

    @property
    def best(self) -> Point | None:
        """The best point so far that keeps the budget: with the least of what is minimized."""
        return min((point for point in self.points if point.ok), key=self._cost, default=None)

    def _cost(self, point: Point) -> tuple[float, int]:
        return self._solver.cost(point.nbytes, point.work), point.nbytes

    def run(self) -> Point | None:
        """The best point; None where nothing but lossless keeps the budget."""
        target = self._start
        if self.only_fidelity and self._fidelity_limit is not None:
            target = self._fidelity_limit
        if target <= 0.0 or 0.0 in (self.budget.max_drop, self.budget.max_drop_abs):
            return None  # a budget of nothing: a metric that happens to improve is no proof
        known: list[tuple[float, bool]] = []  # losses that were asked for, and whether they kept the budget
        while len(self.points) < MOST_POINTS and len(known) < MOST_TARGETS and target > 1e-9:
            point = self._same(target) or self.at(target)
            known.append((target, point.ok))
            low = max((asked for asked, ok in known if ok), default=None)
            high = min((asked for asked, ok in known if not ok), default=None)
            if low is not None and high is not None and (low >= high or high / low < CLOSE):
                break
            if point.ok and point.verdict is not None and point.verdict.margin >= 0.97:
                break
            target = self._next(point, target, low, high)
        return self.best

    def _same(self, target: float) -> Point | None:
        """The point that was evaluated with just the plans that this loss leads to: small models have few."""
        plans = self._plans(target)
        return next((point for point in self.points if point.plans == plans), None)

    def at(self, target: float) -> Point:
        """Build and evaluate the recipe with that predicted loss."""
        return self.of(self._plans(target), target)

    def _plans(self, target: float) -> dict[str, LayerPlan]:
        return {plan.name: plan for plan in self._solver.for_loss(target).plans}

    def of(self, plans: Mapping[str, LayerPlan], target: float) -> Point:
        """Evaluate a recipe, whatever came up with it."""
        loss, nbytes, work, raw = self._candidate.evaluate(plans)
        measured = self._candidate.evaluator.measured(raw, self.budget.confidence)
        verdict = measured.verdict(self.budget) if self.budget.limits_quality else None
        predicted = loss * self.correction(loss)
        point = Point(len(self.points), target or loss, plans, loss, predicted, nbytes, measured, verdict, work)
        self.points.append(point)
        self._said(point, self.best)
        return point

    def correction(self, loss: float) -> float:
        """What the loss that sensitivity predicts must be multiplied with: measured over predicted at the points so
        far, between two of them a power of the loss, 1 before the first.
        """
        known = sorted((p.loss, p.measured.fidelity.value) for p in self.points if p.loss > 0.0)
        known = [(predicted, max(measured, 1e-12) / predicted) for predicted, measured in known]
        if not known:
            return 1.0
        at, ratios = np.log(np.array(known)).T
        return float(np.exp(np.interp(np.log(max(loss, 1e-300)), at, ratios)))

    def _next(self, point: Point, target: float, low: float | None, high: float | None) -> float:
        """The next loss to try: where the margin is expected to be just below 1, kept within the bracket."""
        assert point.verdict is not None
        margin = min(max(point.verdict.margin, 0.02), 50.0)
        if low is None:
            return target * max(min(0.97 / margin, 0.7), 0.05)
        if high is None:
            return target * min(max(0.97 / margin, 1.15), 8.0)
        guess = target * 0.985 / margin if self.only_fidelity else float(np.sqrt(low * high))
        ratio = (high / low) ** 0.15
        return float(min(max(guess, low * ratio), high / ratio))


def guarded(budget: Budget, kind: str, metrics: bool) -> Budget:
    """The budget, with a least fidelity where it limits nothing but metrics."""
    if metrics and budget.limits_quality and budget.min_fidelity is None:
        return replace(budget, min_fidelity=1.0 - GUARD[kind])
    return budget


def _record(raw: Raw) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    arrays: dict[str, NDArray[Any]] = {"fidelity.losses": raw.fidelity.losses}
    for name in ("agrees", "overlaps", "clusters"):
        found = getattr(raw.fidelity, name)
        if found is not None:
            arrays[f"fidelity.{name}"] = found
    numbers: dict[str, float] = {}
    names = list(raw.scores)
    for at, (name, metric) in enumerate(raw.scores.items()):
        if isinstance(metric, Scores):
            arrays[f"scores.{at}"] = metric.values
        else:
            numbers[name] = metric
    return {"names": names, "numbers": numbers, "kind": raw.fidelity.kind}, arrays


def _raw(value: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], evaluator: Evaluator) -> Raw:
    scores: dict[str, Any] = dict(value["numbers"])
    for at, name in enumerate(value["names"]):
        if f"scores.{at}" in arrays:
            before = evaluator.baseline[name]
            assert isinstance(before, Scores)
            scores[name] = Scores(arrays[f"scores.{at}"], before.higher_is_better, before.aggregate, before.clusters)
    fidelity = Fidelity(
        value["kind"],
        np.array(arrays["fidelity.losses"]),
        arrays.get("fidelity.agrees"),
        arrays.get("fidelity.overlaps"),
        arrays.get("fidelity.clusters"),
    )
    return Raw(fidelity, scores)
