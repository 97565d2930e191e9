"""What a policy is: a pure function from what was seen to what is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from regrain.policies.decision import Decision, Matrix, Observation


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a policy carries from one observation to the next: a value, never changed.

    `current` is in force, or will be as soon as the run time has laid it out: it is taken to be done. `estimate` is
    the moving estimate of the inputs, None before the first observation; `since` counts tokens since the last switch,
    `agreed` those for which another decision has been worth it without a break; `penalty` tokens more than usual must
    pass before the next switch, fewer with each that does; `usual` is how far observations are from the estimate, in
    nats, 0 if unknown.
    """

    current: Decision
    estimate: Observation | None = None
    since: int = 0
    agreed: int = 0
    penalty: int = 0
    usual: float = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.to_json() == other.to_json()

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "current": self.current.to_json(),
            "estimate": None if self.estimate is None else self.estimate.to_json(),
            "since": self.since,
            "agreed": self.agreed,
            "penalty": self.penalty,
            "usual": self.usual,
        }

    @classmethod
    def from_json(cls, value: object) -> State:
        """Inverse of `to_json`. Raises ValueError."""
        names = {"current", "estimate", "since", "agreed", "penalty", "usual"}
        if not isinstance(value, dict) or set(value) != names:
            raise ValueError(f"state must be an object with exactly {', '.join(sorted(names))}, not {value!r}")
        counts = [value[name] for name in ("since", "agreed", "penalty")]
        if any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts):
            raise ValueError(f"since, agreed and penalty must be numbers of tokens, 0 or more, not {counts!r}")
        estimate = None if value["estimate"] is None else Observation.from_json(value["estimate"])
        usual = value["usual"]
        if isinstance(usual, bool) or not isinstance(usual, int | float) or not 0.0 <= usual < math.inf:
            raise ValueError(f"usual must be 0 or more, not {usual!r}")
        since, agreed, penalty = counts
        return cls(Decision.from_json(value["current"]), estimate, since, agreed, penalty, float(usual))


class Policy(Protocol):
    """Decides for one matrix at a time. Instances are frozen options; both methods are pure functions:

    decide(s, m, o) == decide(s, m, o)          decide(..., m without its flag `dynamic`, ...) decides nothing
    """

    @property
    def name(self) -> str:
        """Its name in the table `POLICIES`, on the command line and in traces."""
        ...

    def start(self, matrix: Matrix) -> tuple[State, Decision]:
        """Before anything was seen: from the calibration data."""
        ...

    def decide(self, state: State, matrix: Matrix, observation: Observation) -> tuple[State, Decision | None]:
        """After `observation.count` more tokens; None: everything stays.

        Where `decision.same_weights(state.current)`, only the bias is to be folded anew. After a decision the run
        time need not ask again before it is laid out; if it gives it up, `controller.revert` takes it back.
        """
        ...
