"""A run can be written down, read and replayed; what isn't such a line is refused with its number."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.policies import POLICIES, Control, Controlled, Ranked, revert
from regrain.policies.trace import Observed, Reverted, Started, TraceError, open_trace, read, replay, write


def recorded(policy, matrices, turns, observe):
    """The trace of a run: each turn is (matrix, seed, count), or None to go back to the last decision but one."""
    file, states, before = io.StringIO(), {}, {}
    for name, matrix in matrices.items():
        states[name], decision = policy.start(matrix)
        before[name] = decision
        write(Started(name, policy.name, decision), file)
    for name, seed, count in turns:
        if seed is None:
            states[name] = revert(states[name], before[name], 700)
            write(Reverted(name, before[name], 700), file)
            continue
        held, observation = states[name].current, observe(seed, count=count)
        states[name], decision = policy.decide(states[name], matrices[name], observation)
        if decision is not None:
            before[name] = held
        write(Observed(name, observation, decision), file)
    return file.getvalue()


turns = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.none() | st.integers(0, 3), st.integers(0, 3000)), max_size=12
)


@settings(max_examples=40)
@given(st.sampled_from(sorted(set(POLICIES) - {"bank"})), turns)
def test_replaying_a_run_decides_what_was_decided(make_matrix, make_observation, name, turns):
    matrices = {key: replace(make_matrix(seed)[0], name=key) for seed, key in enumerate("ab")}
    policy = POLICIES[name]
    trace = recorded(policy, matrices, turns, make_observation)
    events = list(read(trace.splitlines()))
    assert len(events) == 2 + len(turns)
    for event, decision in replay(events, policy, matrices):
        assert decision == event.decision
    again = io.StringIO()
    for event in events:
        write(event, again)
    assert again.getvalue() == trace


def test_another_policy_is_found_out(make_matrix, make_observation):
    matrices = {"a": make_matrix()[0]}
    policy = Controlled(Ranked(), Control(window=1, confirm=0, dwell=0))
    trace = recorded(policy, matrices, [("a", seed, 2000) for seed in range(4)], make_observation)
    pairs = list(replay(read(trace.splitlines()), Controlled(Ranked(0.4, 0.4)), matrices))
    assert any(decision != event.decision for event, decision in pairs)


DECISION = {
    "granularity": "medium",
    "classes": [1],
    "density": 0.5,
    "mean": [0.0],
    "variance": [1.0],
    "threshold": None,
    "candidate": None,
}
START = {"event": "start", "matrix": "a", "policy": "ranked", "decision": DECISION}
SEEN = {"count": 1, "mean": [0.0], "variance": [1.0], "discarded": 0}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "event must be start, observation or revert, not None"),
        ('{"event": ["start"]}', "event must be start, observation or revert"),
        (json.dumps({**START, "more": 1}), "a line of start must have exactly event, matrix, policy, decision, not"),
        (json.dumps({**START, "matrix": 3}), "matrix must be a name, not 3"),
        (json.dumps({**START, "decision": None}), "object must have exactly granularity"),
        (json.dumps({**START, "decision": {**DECISION, "mean": [0.0, 1.0]}}), "mean must have 1 numbers"),
        (json.dumps(START).replace("0.5", "NaN"), "numbers must be finite, not NaN"),
        (json.dumps(START).replace("0.5", "1e999"), "density must be a fraction"),
        (json.dumps(START).replace('"event"', '"matrix": "b", "event"'), "an object must not have a name twice"),
        (
            json.dumps({"event": "revert", "matrix": "a", "decision": DECISION, "dwell": -1}),
            "dwell must be a number of",
        ),
        (
            json.dumps(
                {"event": "observation", "matrix": "a", "observation": {**SEEN, "count": "1"}, "decision": None}
            ),
            "count must be a number of tokens",
        ),
        ("[" * 100_000, "recursion"),
    ],
)
def test_other_lines_are_refused_with_their_number(line, reason):
    with pytest.raises(TraceError, match=reason) as caught:
        list(read([json.dumps(START), line]))
    assert caught.value.line == 2
    assert str(caught.value).startswith("line 2: ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@settings(max_examples=40)
@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_junk_is_refused(line):
    with pytest.raises(TraceError):
        list(read([line]))


def test_a_trace_of_other_matrices_is_not_replayed(make_matrix):
    matrix, _ = make_matrix()
    start = Started("a", "ranked", POLICIES["ranked"].start(matrix)[1])
    with pytest.raises(TraceError, match="line 1: matrix must be one of those given, not 'a'"):
        list(replay([start], POLICIES["ranked"], {"b": matrix}))
    with pytest.raises(TraceError, match="line 1: 'a' must start before anything else happens to it"):
        list(replay([Reverted("a", start.decision, 1)], POLICIES["ranked"], {"a": matrix}))


def test_numbers_come_back_to_the_last_bit(make_observation):
    file = io.StringIO()
    observation = replace(make_observation(0), variance=np.full(12, 0.1 + 0.2))
    write(Observed("a", observation, None), file)
    (event,) = read(file.getvalue().splitlines())
    assert event.observation == observation


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_is_compressed_where_its_name_says_so(tmp_path, make_matrix, make_observation, name):
    matrix, _ = make_matrix()
    _, decision = POLICIES["ranked"].start(matrix)
    events = [Started("fc", "ranked", decision)]
    events += [Observed("fc", make_observation(seed).brief(), None) for seed in range(9)]
    with open_trace(tmp_path / name, "w") as file:
        for event in events:
            write(event, file)
    with open_trace(tmp_path / name, "r") as file:
        assert [event.to_json() for event in read(file)] == [event.to_json() for event in events]
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
