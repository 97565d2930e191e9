"""A run as JSON lines: what was observed of each matrix, and what was decided. It can be replayed.

{"event": "start", "matrix": NAME, "policy": NAME, "decision": {...}}
{"event": "observation", "matrix": NAME, "observation": {...}, "decision": {...} or null}
{"event": "revert", "matrix": NAME, "decision": {...}, "dwell": TOKENS}
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from regrain.core.errors import RegrainError
from regrain.policies.controller import revert
from regrain.policies.decision import Decision, Matrix, Observation
from regrain.policies.policy import Policy, State


class TraceError(RegrainError, ValueError):
    """A trace contradicts itself or the matrices it is replayed on; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.line, self.reason)


@dataclass(frozen=True, slots=True)
class Started:
    """A policy began with a matrix."""

    matrix: str
    policy: str
    decision: Decision

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {"event": "start", "matrix": self.matrix, "policy": self.policy, "decision": self.decision.to_json()}


@dataclass(frozen=True, slots=True)
class Observed:
    """A policy was told of tokens; `decision` is None where it left everything as it was."""

    matrix: str
    observation: Observation
    decision: Decision | None

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        decision = None if self.decision is None else self.decision.to_json()
        observation = self.observation.to_json()
        return {"event": "observation", "matrix": self.matrix, "observation": observation, "decision": decision}


@dataclass(frozen=True, slots=True)
class Reverted:
    """The run time went back to an earlier decision (`controller.revert`)."""

    matrix: str
    decision: Decision
    dwell: int

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {"event": "revert", "matrix": self.matrix, "decision": self.decision.to_json(), "dwell": self.dwell}


Event = Started | Observed | Reverted


def open_trace(path: str | os.PathLike[str], mode: Literal["r", "w"]) -> IO[str]:
    """A trace as text, compressed if its name ends with .gz. Raises OSError."""
    if os.fspath(path).endswith(".gz"):
        return gzip.open(path, "rt" if mode == "r" else "wt", encoding="utf-8")
    return open(path, mode, encoding="utf-8")


def write(event: Event, file: IO[str]) -> None:
    """One line; it is flushed, so that a run that dies leaves all it saw."""
    file.write(json.dumps(event.to_json(), separators=(",", ":"), allow_nan=False) + "\n")
    file.flush()


def read(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a trace. Raises TraceError for a line that `write` would not have written."""
    for number, line in enumerate(lines, 1):
        try:
            yield _event(json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TraceError(number, str(error)) from None


def replay(
    events: Iterable[Event], policy: Policy, matrices: Mapping[str, Matrix]
) -> Iterator[tuple[Event, Decision | None]]:
    """Each event beside what the policy decides now: of a run with that policy and those matrices the same.

    Raises TraceError for a matrix that is unknown, or observed before it was started.
    """
    states: dict[str, State] = {}
    for number, event in enumerate(events, 1):
        if event.matrix not in matrices:
            raise TraceError(number, f"matrix must be one of those given, not {event.matrix!r}")
        matrix = matrices[event.matrix]
        if isinstance(event, Started):
            states[event.matrix], decision = policy.start(matrix)
            yield event, decision
            continue
        if event.matrix not in states:
            raise TraceError(number, f"{event.matrix!r} must start before anything else happens to it")
        if isinstance(event, Reverted):
            states[event.matrix] = revert(states[event.matrix], event.decision, event.dwell)
            yield event, event.decision
        else:
            states[event.matrix], found = policy.decide(states[event.matrix], matrix, event.observation)
            yield event, found


def _event(value: object) -> Event:
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    names = {
        "start": ("event", "matrix", "policy", "decision"),
        "observation": ("event", "matrix", "observation", "decision"),
        "revert": ("event", "matrix", "decision", "dwell"),
    }
    kind = fields.get("event")
    if not isinstance(kind, str) or kind not in names:
        raise ValueError(f"event must be start, observation or revert, not {kind!r}")
    if set(fields) != set(names[kind]):
        raise ValueError(f"a line of {kind} must have exactly {', '.join(names[kind])}, not {', '.join(fields)}")
    matrix = _text("matrix", fields["matrix"])
    if kind == "start":
        return Started(matrix, _text("policy", fields["policy"]), Decision.from_json(fields["decision"]))
    if kind == "revert":
        dwell = fields["dwell"]
        if isinstance(dwell, bool) or not isinstance(dwell, int) or dwell < 0:
            raise ValueError(f"dwell must be a number of tokens, 0 or more, not {dwell!r}")
        return Reverted(matrix, Decision.from_json(fields["decision"]), dwell)
    decision = None if fields["decision"] is None else Decision.from_json(fields["decision"])
    return Observed(matrix, Observation.from_json(fields["observation"]), decision)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a name, not {value!r}")
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object must not have a name twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"numbers must be finite, not {name}")
