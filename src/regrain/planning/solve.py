"""The best candidate of every tensor for a total loss: fewest bytes, or least work, by Lagrange's method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from regrain.core.pattern import Compensation, Pattern, Pruning
from regrain.core.recipe import LayerPlan, Method
from regrain.planning.candidates import Candidates
from regrain.planning.hostcosts import HostCosts

_HALVINGS = 64  # of the logarithm's range below: to a double's last bit
_PRICES = (1e-30, 1e30)
"""Of loss, in what is minimized: at the low end nothing else counts, at the high end everything is lossless."""


class Objective(StrEnum):
    """What is made as small as the budget allows."""

    BYTES = "bytes"
    LATENCY = "latency"  # seconds that loading takes on this machine
    WORK = "work"  # multiply-adds; weights that are kept are not rounded, which would save none
    BOTH = "both"  # bytes and multiply-adds, each as a fraction of the original's


@dataclass(frozen=True, slots=True)
class Solution:
    """Plans of all tensors, their predicted bytes, loss and multiply-adds, and by how much the best choice could be
    better at most, in what is minimized (the gap to Lagrange's lower bound).
    """

    plans: tuple[LayerPlan, ...]
    bytes: float
    loss: float
    gap: float
    work: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Choices:
    """Candidates of one tensor side by side, the lossless one first: `curve` -1, `at` 0. `plain` are those that leave
    all its weights in place, for a tensor whose rows go with another's columns.
    """

    cost: NDArray[np.float64]
    bytes: NDArray[np.float64]
    loss: NDArray[np.float64]
    share: NDArray[np.float64]
    work: NDArray[np.float64]
    curve: NDArray[np.int64]
    at: NDArray[np.int64]
    plain: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Pick:
    """A candidate of a tensor; with `follows`, only `share` of its rows are left."""

    number: int
    follows: str | None = None
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Leader:
    """A tensor some of whose candidates, `at`, lose columns that other tensors, `makers`, needn't make then."""

    number: int
    makers: tuple[int, ...]
    at: NDArray[np.int64]


class Solver:
    """Minimizes the sum of a cost over one candidate for each tensor, subject to a total loss.

    For a price of loss each tensor takes the candidate with the least cost + price x loss: what is best for some total
    is best for that price (Everett 1963; Shoham and Gersho 1988). The relaxation's lower bound says what other choices
    could save at most. A tensor whose lost columns spare other tensors' rows is decided together with these, which are
    not pruned on their own then. Where a tensor could take part in several such decisions, that which saves most goes
    first, and the bound is a guess. Where `sequential` is False, pruned tensors make up for themselves alone.
    """

    sequential = True

    def __init__(
        self, tensors: Sequence[Candidates], costs: HostCosts | None = None, objective: Objective = Objective.BYTES
    ) -> None:
        self.tensors = tensors
        totals = sum(tensor.lossless for tensor in tensors) or 1.0, float(sum(tensor.work for tensor in tensors)) or 1.0
        self._objective, self._totals = objective, totals
        self._choices = [_choices(tensor, costs, objective, totals) for tensor in tensors]
        self._leaders = _leaders(tensors, self._choices)

    def cost(self, nbytes: float, work: float) -> float:
        """What is minimized, of a whole model. Seconds of loading go with bytes."""
        if self._objective is Objective.WORK:
            return work
        return nbytes / self._totals[0] + work / self._totals[1] if self._objective is Objective.BOTH else nbytes

    def for_loss(self, loss: float) -> Solution:
        """The least cost with a predicted total loss of at most `loss`, >= 0."""
        if loss <= 0.0:
            return self._at(math.inf, loss)
        low, high = _PRICES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if self._at(middle, loss).loss <= loss:
                high = middle
            else:
                low = middle
        return self._at(high, loss)

    def for_bytes(self, size: float) -> Solution:
        """The least loss with at most `size` predicted bytes, or the smallest there is."""
        return self._at_most(size, lambda solution: solution.bytes)

    def for_work(self, work: float) -> Solution:
        """The least loss with at most `work` multiply-adds, or the fewest there are."""
        return self._at_most(work, lambda solution: solution.work)

    def _at_most(self, limit: float, size: Callable[[Solution], float]) -> Solution:
        low, high = _PRICES
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if size(self._at(middle, 0.0)) <= limit:
                low = middle
            else:
                high = middle
        return self._at(low, 0.0)

    def _at(self, price: float, loss: float) -> Solution:
        picks = [_Pick(0)] * len(self.tensors)
        if price != math.inf:
            values = [choices.cost + price * choices.loss for choices in self._choices]
            picks = [_Pick(int(value.argmin())) for value in values]
            self._spare_rows(picks, values)
        size = total = work = 0.0
        for choices, pick in zip(self._choices, picks, strict=True):
            size += pick.share * float(choices.bytes[pick.number])
            total += pick.share * float(choices.loss[pick.number])
            work += pick.share * float(choices.work[pick.number])
        gap = 0.0 if price == math.inf else max(0.0, price * (loss - total))
        plans = [self._plan(number, pick) for number, pick in enumerate(picks)]
        if not self.sequential:
            plans = [_by_itself(plan) for plan in plans]
        elif self._objective is Objective.WORK and any(plan.pruning is not None for plan in plans):
            plans = [_absorbing(plan) if one.absorbs else plan for one, plan in zip(self.tensors, plans, strict=True)]
        return Solution(tuple(plans), size, total, gap, work)

    def _spare_rows(self, picks: list[_Pick], values: Sequence[NDArray[np.float64]]) -> None:
        """Where a tensor's lost columns spare more of other tensors' rows than pruning each alone, do that instead.
        `values` are cost + price x loss of each candidate.
        """
        offers: list[tuple[float, _Leader, int]] = []
        for leader in self._leaders:
            alone = sum(float(values[number].min()) for number in (leader.number, *leader.makers))
            made = sum(float(values[maker][self._choices[maker].plain].min()) for maker in leader.makers)
            together = values[leader.number][leader.at] + self._choices[leader.number].share[leader.at] * made
            best = int(together.argmin())
            if together[best] < alone:
                offers.append((alone - float(together[best]), leader, int(leader.at[best])))
        taken: set[int] = set()
        for _, leader, pick in sorted(offers, key=lambda offer: -offer[0]):
            if not taken.isdisjoint((leader.number, *leader.makers)):
                continue
            taken.update((leader.number, *leader.makers))
            picks[leader.number] = _Pick(pick)
            name, share = self.tensors[leader.number].name, float(self._choices[leader.number].share[pick])
            for maker in leader.makers:
                plain = self._choices[maker].plain
                picks[maker] = _Pick(int(plain[values[maker][plain].argmin()]), name, share)

    def _plan(self, number: int, pick: _Pick) -> LayerPlan:
        tensor, choices = self.tensors[number], self._choices[number]
        plan = tensor.plan(int(choices.curve[pick.number]), int(choices.at[pick.number]), why="")
        if pick.follows is None:
            return plan
        pruning = Pruning(Pattern("row"), follows=pick.follows)
        method = Method.PRUNE if plan.method is Method.LOSSLESS else plan.method
        return replace(plan, method=method, pruning=pruning, bytes=pick.share * plan.bytes, loss=pick.share * plan.loss)


def _absorbing(plan: LayerPlan) -> LayerPlan:
    """Where all weights would stay: they do, but make up for what is dropped before them. It costs no work."""
    if plan.method is not Method.LOSSLESS:
        return plan
    pruning = Pruning(Pattern("column"), 1.0, compensation=Compensation.SEQUENTIAL)
    return replace(plan, method=Method.PRUNE, pruning=pruning, why="all kept, to make up for layers before")


def _by_itself(plan: LayerPlan) -> LayerPlan:
    if plan.pruning is None or plan.pruning.compensation is not Compensation.SEQUENTIAL:
        return plan
    return replace(plan, pruning=replace(plan.pruning, compensation=Compensation.LEAST_SQUARES))


def _leaders(tensors: Sequence[Candidates], choices: Sequence[_Choices]) -> list[_Leader]:
    """Those whose makers can all be pruned."""
    numbers = {tensor.name: number for number, tensor in enumerate(tensors)}
    found = []
    for number, (tensor, own) in enumerate(zip(tensors, choices, strict=True)):
        makers = next((curve.makers for curve in tensor.curves if curve.makers), ())
        if makers and all(tensors[numbers[name]].curves for name in makers):
            spares = np.array([False, *(bool(curve.makers) for curve in tensor.curves)])
            at = np.flatnonzero(spares[own.curve + 1])
            found.append(_Leader(number, tuple(numbers[name] for name in makers), at))
    return found


def _choices(
    tensor: Candidates, costs: HostCosts | None, objective: Objective, totals: tuple[float, float]
) -> _Choices:
    curves = tensor.curves
    sizes = np.concatenate([[tensor.lossless], *(curve.bytes for curve in curves)])
    losses = np.concatenate([[0.0], *(curve.loss for curve in curves)])
    share = np.concatenate([[1.0], *(np.full(curve.codes.size, curve.share) for curve in curves)])
    number = np.concatenate([[-1], *(np.full(curve.codes.size, at) for at, curve in enumerate(curves))])
    at = np.concatenate([[0], *(np.arange(curve.codes.size) for curve in curves)])
    whole = np.array([True, *(curve.pruning is None for curve in curves)])
    work = tensor.work * share
    if costs is not None:
        cost = _seconds(sizes, tensor.count, costs)
    elif objective is Objective.WORK:
        cost = work
    elif objective is Objective.BOTH:
        cost = sizes / totals[0] + work / totals[1]
    else:
        cost = sizes
    plain = np.flatnonzero(whole[number + 1])
    return _Choices(cost, sizes, losses, share, work, number.astype(np.int64), at.astype(np.int64), plain)


def _seconds(sizes: NDArray[np.float64], count: int, costs: HostCosts) -> NDArray[np.float64]:
    """Of loading each candidate of a tensor, of which the first is lossless."""
    weight = np.full(sizes.size, costs.quantized)
    weight[0] = costs.lossless
    seconds: NDArray[np.float64] = sizes * costs.byte + count * weight
    return seconds
