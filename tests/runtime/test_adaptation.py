"""Layouts follow the data, in the background; nothing that serves notices but by its results."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import regrain
from regrain.policies import (
    POLICIES,
    Bank,
    Class,
    Controlled,
    Decision,
    Observation,
    State,
    Static,
    kept_weights,
)
from regrain.policies import trace as traces
from regrain.runtime import Calibrated, attach, calibrate
from regrain.runtime.buffers import Buffers
from regrain.runtime.engine import EVERY, TOKENS

from .stress import stress

WEIGHT = "layers.0.weight"


@dataclass
class Scripted:
    """A policy that says what a test wants it to."""

    first: Decision
    steps: list = field(default_factory=list)
    asked: int = 0
    name: str = "scripted"

    def start(self, matrix):
        return State(self.first), self.first

    def decide(self, state, matrix, observation):
        self.asked += 1
        if not self.steps:
            return state, None
        step = self.steps.pop(0)
        decision = step(matrix, observation) if callable(step) else step
        return (state, None) if decision is None else (replace(state, current=decision), decision)


def pattern(kept, mean=0.0, columns=40):
    """Of the channels, those that are kept."""
    classes = np.full(columns, Class.DROPPED, np.uint8)
    classes[kept] = Class.DENSE
    return Decision("coarse", classes, len(classes[kept]) / columns, np.full(columns, mean), np.ones(columns))


def known(columns=40, **fields):
    return {WEIGHT: Calibrated(Observation(512, np.zeros(columns), np.ones(columns)), **fields)}


def feed(model, xs):
    with torch.no_grad():
        for x in xs:
            model(x)


def enough(stream, kind=0, rounds=1):
    """What makes an engine ask its policy that many times at least."""
    return [stream(kind, seed=seed) for seed in range(rounds * EVERY * TOKENS // 64 + EVERY)]


def error(model, dense, x):
    with torch.no_grad():
        return float((model(x) - dense(x)).square().mean())


def test_layouts_follow_a_drift(mlp, stream, calibration):
    dense = type(mlp)().eval()
    dense.load_state_dict(mlp.state_dict())
    losses = {}
    for policy in ("static", "ranked", "auto"):
        with attach(mlp, policy=policy, calibration=calibration) as attachment:
            before = error(mlp, dense, stream(1, 512, seed=99))
            for x in enough(stream, 1, rounds=20):
                feed(mlp, [x])
                attachment.settle()
            losses[policy] = error(mlp, dense, stream(1, 512, seed=99))
            assert losses[policy] <= before
            switched = sum(engine.adaptation.switches for engine in attachment.engines.values())
            assert (switched > 0) == (policy != "static")
    assert losses["ranked"] < 0.7 * losses["static"]
    assert losses["auto"] < 0.7 * losses["static"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_serves_what_it_decided(mlp, stream, calibration, policy):
    banked = calibrate(
        mlp, [lambda kind=kind: (mlp(stream(kind, seed=seed)) for seed in range(8)) for kind in (0, 1)],
        density=0.5, pattern="block:16x1", skip=True,
    )  # fmt: skip
    x = stream(0, seed=50)
    with attach(mlp, policy=policy, calibration=banked) as attachment:
        feed(mlp, enough(stream, 1, rounds=4))
        attachment.settle()
        engine = attachment.engines[WEIGHT]
        decision, master = engine.layout.decision, engine.adaptation.master
        assert engine.adaptation.state.current == decision
        if decision.threshold is not None:
            return
        with torch.no_grad():
            found = mlp.layers[0](x).numpy()
    weights = mlp.layers[0].weight.detach().numpy()
    if decision.candidate is not None:
        kept = master.candidates[decision.candidate].weights
    else:
        kept = np.where(kept_weights(decision, weights, master.matrix.energy), weights, 0)
    bias = mlp.layers[0].bias.detach().numpy() + (weights - kept) @ decision.mean
    assert np.allclose(found, x.numpy() @ kept.T + bias, rtol=1e-3, atol=1e-4)


def test_what_pruning_does_to_inputs_is_no_drift(mlp, stream):
    def run():
        return (mlp(stream(0, seed=seed)) for seed in range(8))

    known = calibrate(mlp, run, density=0.3)
    with attach(mlp, policy="ranked", calibration=known) as attachment:
        engine = attachment.engines["layers.1.weight"]
        matrix = engine.adaptation.master.matrix
        assert matrix.served is None
        attachment.acquaint(run)
        matrix = engine.adaptation.master.matrix
        with torch.no_grad():
            inputs = torch.cat([nn.functional.gelu(mlp.layers[0](stream(0, seed=seed))) for seed in range(8)]).double()
        seen = Observation(len(inputs), inputs.mean(0).numpy(), inputs.var(0, correction=0).numpy())
        assert not np.allclose(seen.variance, matrix.variance, rtol=0.02)  # the first layer has lost weights
        taken = matrix.undisturbed(seen)
        assert np.allclose(taken.mean, matrix.mean, atol=1e-5)
        assert np.allclose(taken.variance, matrix.variance, rtol=1e-3)
        assert engine.watching
        assert engine.adaptation.state.estimate is None  # calibration data are no part of the stream
        assert mlp.layers[1].forward is not None and "forward" in vars(mlp.layers[1])


def test_nothing_that_adapts_is_acquainted_with_nothing(mlp):
    with attach(mlp) as attachment:
        attachment.acquaint(lambda: pytest.fail("it must not be run"))


def test_the_bank_changes_weights(mlp, stream):
    runs = [lambda kind=kind: (mlp(stream(kind, seed=seed)) for seed in range(8)) for kind in (0, 1)]
    banked = calibrate(mlp, runs, density=0.5, pattern="block:16x1")
    dense = type(mlp)().eval()
    dense.load_state_dict(mlp.state_dict())
    with attach(mlp, policy=Controlled(Bank()), calibration=banked) as attachment:
        before = error(mlp, dense, stream(1, 512, seed=99))
        for x in enough(stream, 1, rounds=20):
            feed(mlp, [x])
            attachment.settle()
        assert attachment.engines[WEIGHT].layout.decision.candidate == 2
        assert error(mlp, dense, stream(1, 512, seed=99)) < before


def test_a_new_mean_keeps_the_weights(mlp, stream):
    first = pattern(slice(0, 20))
    policy = Scripted(first, [replace(first, mean=np.full(40, 2.0))])
    with attach(mlp, policy=policy, calibration=known()) as attachment:
        engine = attachment.engines[WEIGHT]
        values = engine.layout.few.arrays.values
        x = stream(0, seed=3)
        x[:, 20:] = 2.0
        feed(mlp, enough(stream))
        attachment.settle()
        assert engine.layout.few.arrays.values is values
        assert (engine.adaptation.refreshes, engine.adaptation.switches, engine.layout.number) == (1, 0, 1)
        with torch.no_grad():
            found = mlp.layers[0](x)
    with torch.no_grad():
        assert torch.allclose(found, mlp.layers[0](x), rtol=1e-4, atol=1e-4)


def test_what_is_worse_is_given_up(mlp, stream, tmp_path):
    order = np.argsort(-np.asarray(stream(0, 4096).square().mean(0)))
    good, bad, fewer = pattern(order[:20]), pattern(order[20:]), pattern(order[-8:])
    path = tmp_path / "trace.jsonl"
    policy = Scripted(good, [bad, fewer])
    with attach(mlp, policy=policy, calibration=known(), trace=path) as attachment:
        engine = attachment.engines[WEIGHT]
        while policy.asked == 0:
            feed(mlp, enough(stream))
            attachment.settle()
        assert engine.adaptation.reverts == 1
        assert engine.layout.decision is good
        assert engine.adaptation.state.current == good
        assert engine.adaptation.state.penalty > 0
        while policy.steps:
            feed(mlp, enough(stream))
            attachment.settle()
        assert engine.layout.decision is fewer  # what keeps less was meant to lose more
    events = list(traces.read(path.read_text().splitlines()))
    kinds = [type(event).__name__ for event in events]
    assert kinds[:3] == ["Started", "Observed", "Reverted"]
    assert (events[1].decision, events[2].decision) == (bad, good)


@pytest.mark.parametrize("policy", ["ranked", "variance-thresholds"])
def test_a_trace_can_be_replayed(mlp, stream, calibration, tmp_path, policy):
    path = tmp_path / "trace.jsonl"
    with attach(mlp, policy=policy, calibration=calibration, trace=path) as attachment:
        feed(mlp, enough(stream, 1, rounds=12))
        attachment.settle()
        matrices = {name: engine.adaptation.master.matrix for name, engine in attachment.engines.items()}
    events = list(traces.read(path.read_text().splitlines()))
    assert {event.matrix for event in events} == set(matrices)
    assert any(isinstance(event, traces.Observed) and event.decision is not None for event in events)
    for event, decision in traces.replay(events, POLICIES[policy], matrices):
        assert decision == event.decision
    assert all(json.loads(line)["event"] for line in path.read_text().splitlines())


def test_static_and_what_is_not_dynamic_are_not_watched(mlp, stream, calibration):
    for policy in ("static", Static()):
        with attach(mlp, policy=policy, calibration=calibration) as attachment:
            assert not any(engine.watching for engine in attachment.engines.values())
    with attach(mlp, policy="ranked") as attachment:
        assert not any(engine.watching for engine in attachment.engines.values())


def test_numbers_that_are_none_poison_nothing(mlp, stream):
    policy = Scripted(pattern(slice(0, 20)))
    x = stream(0, seed=5)
    x[7, 3] = torch.nan
    with attach(mlp, policy=policy, calibration=known()) as attachment:
        adaptation = attachment.engines[WEIGHT].adaptation
        seen = []
        policy.steps = [lambda matrix, observation: seen.append(observation)]
        feed(mlp, [x if number % (2 * EVERY) == 0 else y for number, y in enumerate(enough(stream, rounds=3))])
        attachment.settle()
        assert seen[0].discarded > 0
        assert np.isfinite(seen[0].mean).all()
        assert np.isfinite(adaptation._probe.rows()).all()


def test_a_failure_is_told_once_and_serving_goes_on(mlp, stream):
    def fail(*_):
        raise ZeroDivisionError("no way")

    x = stream(0, seed=3)
    for how in ("warned", "raised", "at the end"):
        policy = Scripted(pattern(slice(0, 20)), [fail])
        attachment = attach(mlp, policy=policy, calibration=known())
        with torch.no_grad():
            before = mlp(x)
            feed(mlp, enough(stream)[: EVERY * (TOKENS // 64 - 1)])  # with the call before, the last one asks
            attachment.settle()
            text = r"layers.0.weight could not be laid out anew, and is served .*: ZeroDivisionError: no way"
            if how == "warned":
                with pytest.warns(RuntimeWarning, match=text) as told:
                    assert torch.equal(mlp(x), before)
                assert len(told) == 1
            elif how == "raised":
                with pytest.raises(regrain.ServingError, match=text) as raised:
                    attachment.check()
                assert isinstance(raised.value.__cause__, ZeroDivisionError)
            else:
                with pytest.raises(regrain.ServingError, match=text):
                    attachment.detach()
            if how != "at the end":
                attachment.check()
                feed(mlp, enough(stream, rounds=2))
                assert torch.equal(mlp(x), before)
                attachment.detach()
        assert policy.asked == 1
        assert "forward" not in vars(mlp.layers[0])


def test_detaching_during_a_switch(mlp, stream):
    begun, go_on = threading.Event(), threading.Event()

    def slow(matrix, observation):
        begun.set()
        assert go_on.wait(20)
        return pattern(slice(0, 30))

    first = pattern(slice(0, 20))
    attachment = attach(mlp, policy=Scripted(first, [slow]), calibration=known())
    feed(mlp, enough(stream))
    assert begun.wait(20)
    ending = threading.Thread(target=attachment.detach)
    ending.start()
    while "forward" in vars(mlp.layers[0]):
        ending.join(0.01)
    feed(mlp, [stream(0)])
    go_on.set()
    ending.join(20)
    assert not ending.is_alive()
    assert attachment.engines[WEIGHT].layout.decision is first


def test_a_call_of_the_model_sees_one_version():
    layer = nn.Linear(40, 40)
    changed = threading.Event()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([layer])

        def forward(self, x, between):
            first = layer(x)
            between()
            return first, layer(x)

    model, x = Twice().eval(), torch.randn(3, 40)
    for consistent in ("model", "layer"):
        policy = Scripted(pattern(slice(0, 20)))
        with attach(model, policy=policy, calibration=known(), consistent=consistent) as attachment, torch.no_grad():
            engine = attachment.engines[WEIGHT]
            new = replace(engine.layout, few=engine.layout.few.with_bias(np.ones(40, np.float32)), number=1)
            first, second = model(x, partial(attachment._reorganizer.swap, engine, new))
            assert torch.equal(first, second) == (consistent == "model")
            assert torch.equal(model(x, changed.set)[0], model(x, changed.set)[1])
            with pytest.raises(TypeError):
                model(x)
            assert not torch.equal(layer(x), first)


def test_memory_is_used_again(mlp):
    with attach(mlp, policy=Scripted(pattern(slice(0, 20))), calibration=known()) as attachment:
        master, buffers = attachment.engines[WEIGHT].adaptation.master, Buffers()
        held = master.lay_out(pattern(slice(0, 20)), buffers)
        first = held.few.arrays.values.ctypes.data
        other = master.lay_out(pattern(slice(5, 25)), buffers)
        places = {first, other.few.arrays.values.ctypes.data}
        assert len(places) == 2
        del other
        for start in range(10):
            held = master.lay_out(pattern(slice(start, start + 20)), buffers)
            assert held.few.arrays.values.ctypes.data in places
        kept = [held]
        kept += [master.lay_out(pattern(slice(start, start + 20)), buffers) for start in range(4)]
        assert len({one.few.arrays.values.ctypes.data for one in kept}) == 5


def test_results_are_of_one_version():
    assert stress(15_000)["switches"] > 10


PROGRAM = """
import os, sys, time, threading, warnings
import numpy as np, torch
from regrain.policies import Observation, State
from regrain.runtime import Calibrated, attach
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
torch.set_num_threads(1)
model = torch.nn.Linear(40, 40).eval()
seen = Calibrated(Observation(9, np.zeros(40), np.ones(40)), 0.5)

class Slow:
    name = "slow"
    asked = 0
    def start(self, matrix):
        from regrain.policies import POLICIES
        state, decision = POLICIES["ranked"].start(matrix)
        self.decision = decision
        return state, decision
    def decide(self, state, matrix, observation):
        Slow.asked += 1
        deadline = time.monotonic() + PAUSE
        while time.monotonic() < deadline:
            sum(range(1000))
        return state, None

attachment = attach(model, policy=Slow(), calibration={"weight": seen})
def run():
    with torch.no_grad():
        for _ in range(300):
            model(torch.randn(64, 40))
run()
"""


def program(text: str, pause: float) -> subprocess.CompletedProcess:
    source = PROGRAM.replace("PAUSE", str(pause)) + text
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)


def test_a_process_can_end_at_any_time():
    done = program("print('end')", 0.3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_child_of_a_fork_adapts_too():
    done = program(
        """
time.sleep(0.05)
child = os.fork()
asked = Slow.asked
run()
attachment.settle()
assert Slow.asked > asked, (Slow.asked, asked)
if child == 0:
    attachment.detach()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
attachment.detach()
""",
        0.02,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_columns_are_chosen_for_each_token(mlp, stream):
    skipping = calibrate(mlp, lambda: (mlp(stream(0, seed=seed)) for seed in range(8)), density=0.6, skip=True)
    weights, bias = mlp.layers[0].weight.detach(), mlp.layers[0].bias.detach()
    with attach(mlp, policy="token-skip", calibration=skipping) as attachment, torch.no_grad():
        decision = attachment.engines[WEIGHT].layout.decision
        mean = torch.from_numpy(decision.mean).float()
        left = []
        for tokens in (1, 2, 3, 9):
            x = stream(0, tokens, seed=70)
            keep = (x - mean).abs() * weights.norm(dim=0) > decision.threshold
            keep |= torch.tensor(tokens > 2)
            left.append(float(keep.float().mean()))
            wanted = nn.functional.linear(torch.where(keep, x, mean), weights, bias)
            assert torch.allclose(mlp.layers[0](x), wanted, rtol=1e-4, atol=1e-5)
        assert 0.3 < left[0] < 0.9


def test_calibration_that_cannot_be(mlp, stream):
    x = stream(0)
    x[0, 0] = torch.inf
    with pytest.raises(regrain.AttachError, match="'layers.0.weight': its inputs must be finite, and have NaN or inf"):
        calibrate(mlp, lambda: [mlp(x)])
    with pytest.raises(regrain.AttachError, match="the runs must reach a linear layer"):
        calibrate(mlp, list)
    with pytest.raises(regrain.AttachError, match="'layers.0.weight': its calibration must have 40 inputs, not 39"):
        attach(mlp, calibration=known(39))
    assert "forward" not in vars(mlp.layers[0])


def test_the_error_of_a_block_is_the_one_that_is_raised(mlp, stream):
    policy = Scripted(pattern(slice(0, 20)), [lambda *_: 1 / 0])
    with pytest.raises(KeyError), attach(mlp, policy=policy, calibration=known()) as attachment:
        feed(mlp, enough(stream)[: EVERY * (TOKENS // 64 - 1) + 1])
        attachment.settle()
        raise KeyError
    assert "forward" not in vars(mlp.layers[0])
