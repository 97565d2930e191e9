"""When a proposal becomes a decision: a moving estimate, hysteresis, dwell and costs. Pure functions of values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from regrain.policies.damage import damage, lost
from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.divergence import divergence
from regrain.policies.policy import State

SLOWLY = 0.125
"""What an observation weighs in the usual distance."""

CHANCE = 0.3
"""Of the usual distance, at most: how far an estimate over the whole memory is taken to be from a steady stream."""

COMMON = 1.5
"""How much farther than tokens that follow each other as many positions of images are from what they estimate."""

FORGIVEN = 8
"""A penalty is one token less for every so many that pass."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a switch costs beside what it gains.

    `reorganization` is the number of multiply-adds that take as long as laying out one weight anew; `horizon` the
    tokens for which a switch is expected to pay. `least` is the fall of the expected damage, as a fraction, below
    which nothing is switched; `price` what a fraction of the time is worth as such a fraction.
    """

    reorganization: float = 20.0
    horizon: int = 8192
    least: float = 0.03
    price: float = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """When to act, in tokens.

    `window`: an estimate of fewer is not acted on, unless it is `plain` times as far from the data that the current
    decision was made for as chance would have it. `memory`: the estimate forgets exponentially what is older. `jump`:
    an observation that is so many times as far from the estimate as usual begins a new one.
    `confirm`: a switch must have been worth it for so long. `dwell`: so long nothing is switched after a switch.
    `refresh`: the bias alone is folded anew as soon as the means that were dropped have come to add that fraction to
    the expected damage.
    """

    window: int = 512
    memory: int = 1024
    jump: float = 3.0
    plain: float = 4.0
    confirm: int = 512
    dwell: int = 512
    refresh: float = 0.02
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        if self.window < 1 or self.memory < self.window:
            raise ValueError(f"window must be 1 token to memory ({self.memory}), not {self.window}")
        for name, value in (("jump", self.jump), ("plain", self.plain)):
            if not value > 1.0:
                raise ValueError(f"{name} must be above 1 (times the usual distance), not {value!r}")
        if self.confirm < 0 or self.dwell < 0:
            raise ValueError(f"confirm and dwell must be 0 tokens or more, not {self.confirm} and {self.dwell}")


class Rule(Protocol):
    """What a policy would like, were switching free."""

    @property
    def name(self) -> str:
        """That of the policy."""
        ...

    def propose(self, matrix: Matrix, inputs: Observation, current: Decision | None) -> Decision:
        """The decision for such inputs; `current` is what holds, None at the start."""
        ...

    def gain(self, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
        """The fraction of the loss that is gone with `proposed`: at most 1; below 0 if it is worse."""
        ...


@dataclass(frozen=True, slots=True)
class Controlled:
    """The policy that follows a rule with hysteresis, dwell and costs."""

    rule: Rule
    control: Control = field(default_factory=Control)

    @property
    def name(self) -> str:
        """The rule's."""
        return self.rule.name

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        """What the rule proposes for the calibration data; the stored pattern of a matrix that must not change."""
        seen = Observation(matrix.calibrated, matrix.mean, matrix.variance)
        if not matrix.dynamic and matrix.candidates:
            decision = matrix.candidates[0]
        else:
            decision = self.rule.propose(matrix, seen, None)
        return State(decision), decision

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision | None]:
        """One step: see `step`."""
        return step(self.rule, self.control, state, matrix, observation)


def step(
    rule: Rule, control: Control, state: State, matrix: Matrix, observation: Observation
) -> tuple[State, Decision | None]:
    """A switch where it is worth it, has been for `confirm` tokens, and `dwell` tokens have passed since the last one;
    else a new bias where the old one is stale; else nothing.
    """
    observation = replace(observation, count=matrix.tokens(observation))
    if not matrix.dynamic or observation.count == 0:
        return state, None
    estimate, usual = followed(state, matrix.undisturbed(observation), control)
    penalty = max(0, state.penalty + -observation.count // FORGIVEN)
    state = replace(state, estimate=estimate, usual=usual, since=state.since + observation.count, penalty=penalty)
    current, noise = (
        state.current,
        chance(usual, observation, estimate, control.memory, COMMON if matrix.positions > 1 else 1.0),
    )
    short = estimate.count < control.window
    if usual == 0.0 or (short and not plainly(estimate, current, control.plain * noise)):
        return state, None
    inputs = believed(estimate, matrix, noise).brief()
    proposed = rule.propose(matrix, inputs, current)
    if proposed.same_weights(current) or worth(rule, matrix, inputs, proposed, current, control.costs) <= 0.0:
        state = replace(state, agreed=0)
    else:
        state = replace(state, agreed=state.agreed + observation.count)
        if (short or state.agreed >= control.confirm) and state.since >= control.dwell + state.penalty:
            return replace(state, current=proposed, since=0, agreed=0), proposed
    if stale(current, matrix, inputs) > control.refresh:
        refreshed = replace(current, mean=inputs.mean)
        return replace(state, current=refreshed), refreshed
    return state, None


def revert(state: State, previous: Decision, dwell: int) -> State:
    """After the run time gave up the last decision, or a probe showed it to be worse: `previous` holds again, and for
    twice what was left of the last penalty, at least `dwell` tokens more than usual, nothing is switched. Tokens that
    pass make it less.
    """
    return replace(state, current=previous, since=0, agreed=0, penalty=max(dwell, 2 * state.penalty))


def settled(state: State, control: Control) -> bool:
    """Whether the estimate is over as many tokens as it will ever be, and nothing waits to be confirmed."""
    return state.estimate is not None and state.estimate.count >= control.memory and state.agreed == 0


def followed(state: State, new: Observation, control: Control) -> tuple[Observation, float]:
    """The estimate with `new` in it, or `new` alone after a jump; and how far observations usually are from it.

    Every matrix has its own usual distance: some inputs vary by chance more than others do between subjects.
    """
    if state.estimate is None:
        return merged(None, new, control.memory), state.usual
    old, usual = state.estimate, state.usual
    found = divergence(new.mean, new.variance, old.mean, old.variance)
    if usual == 0.0:
        return merged(old, new, control.memory), found
    jumped = found > control.jump * usual
    usual += SLOWLY * (min(found, control.jump * usual) - usual)
    return merged(None if jumped else old, new, control.memory), usual


def chance(usual: float, observation: Observation, estimate: Observation, memory: int, common: float = 1.0) -> float:
    """How far the estimate of a stream that doesn't change is from the stream, at most, in nats.

    Moments of n tokens are k / n away for some k. An observation of m is `usual` away from an estimate over as many as
    `memory`, so that k (1 / m + 1 / memory) = usual, and so many times farther where tokens have more in `common`. And
    what keeps observations of many tokens away is not all chance: at most CHANCE of it.
    """
    part = min(CHANCE, common * observation.count / (observation.count + memory))
    return part * usual * memory / estimate.count


def plainly(estimate: Observation, current: Decision, distance: float) -> bool:
    """Whether the estimate is farther than that from the data that the current decision was made for."""
    return divergence(estimate.mean, estimate.variance, current.mean, current.variance) > distance


def believed(estimate: Observation, matrix: Matrix, chance: float) -> Observation:
    """The estimate, drawn toward calibration as far as chance can explain that it differs (James and Stein, 1961).

    With d = KL(estimate || calibration) and `chance` what d would be for a stream like the calibration data, the
    estimate counts for 1 - chance / d, and calibration for the rest: a stationary stream changes next to nothing, and
    one that is far away is taken as it is.
    """
    found = divergence(estimate.mean, estimate.variance, matrix.mean, matrix.variance)
    trust = 1.0 - chance / found if found > chance else 0.0
    return Observation(
        estimate.count,
        trust * estimate.mean + (1.0 - trust) * matrix.mean,
        trust * estimate.variance + (1.0 - trust) * matrix.variance,
        estimate.discarded,
    )


def merged(estimate: Observation | None, new: Observation, memory: int) -> Observation:
    """The estimate with `new` in it: an average over all tokens up to `memory` of them, exponential from then on.

    Means are merged by Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979).
    """
    if estimate is None or estimate.count == 0:
        return replace(new, count=min(new.count, memory))
    old = min(estimate.count, max(memory - new.count, 0))
    part = new.count / (old + new.count)
    distance = new.mean - estimate.mean
    return Observation(
        min(old + new.count, memory),
        estimate.mean + part * distance,
        (1.0 - part) * estimate.variance + part * new.variance + part * (1.0 - part) * distance * distance,
        estimate.discarded + new.discarded,
    )


def worth(
    rule: Rule, matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision, costs: Costs
) -> float:
    """How much better off than `current` the horizon is with `proposed`, above 0 if a switch pays: the loss and the
    time that are saved, less the time that laying out takes, as fractions.
    """
    saved = 1.0 - proposed.density / current.density
    spent = costs.reorganization / (costs.horizon * current.density)
    return rule.gain(matrix, inputs, proposed, current) - costs.least + costs.price * (saved - spent)


def stale(decision: Decision, matrix: Matrix, inputs: Observation) -> float:
    """What the means in the bias add to the expected damage, as a fraction of what is left with the right ones."""
    weights = matrix.column_energy if decision.threshold is not None else lost(decision, matrix)
    distance = inputs.mean - decision.mean
    added, left = float(weights @ (distance * distance)), float(weights @ inputs.variance)
    return added / left if left > 0.0 else float(added > 0.0)


def mask_gain(matrix: Matrix, inputs: Observation, proposed: Decision, current: Decision) -> float:
    """`Rule.gain` of rules that mask the original weights: by the expected damage, both with the right means."""
    now = damage(current, matrix, inputs, mean=inputs.mean)
    return 1.0 - damage(proposed, matrix, inputs, mean=inputs.mean) / now if now > 0.0 else 0.0
