"""`regrain simulate`: a network on the accelerator, with its values, cycles and energy; and the page about it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regrain.core.errors import HardwareError, TaskError
from regrain.core.granularity import Granularity
from regrain.hw.area import load as load_areas
from regrain.hw.energy_table import load, names
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import dense
from regrain.hw.model.timing import simulate as run_array
from regrain.hw.networks.adapting import POLICIES, REFUSED, Adapting
from regrain.hw.networks.quantize import Integers
from regrain.hw.networks.schedule import stalls
from regrain.models.task import task_from
from regrain.pipelines.configurations import BEST, rankings, survives
from regrain.pipelines.hardware import Hardware
from regrain.pipelines.replay import replay
from regrain.pipelines.simulate import simulate
from regrain.pipelines.simulation_report import render, simulation_report
from regrain.pipelines.simulation_texts import added_text, area_text, control_text
from regrain.policies import POLICIES as RUN_TIME
from regrain.policies import Observation, State, VarianceThresholds

TASK = Path(__file__).parents[1] / "cli" / "tiny.py"


@pytest.fixture(autouse=True)
def _one_thread():
    """Later tests don't get the threads that a simulation had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    sys.path.insert(0, str(TASK.parent))
    try:
        import tiny
    finally:
        sys.path.pop(0)
    return tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny):
    path = tmp_path_factory.mktemp("simulate") / "tiny.safetensors"
    save_file(tiny.trained().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def found(model):
    return simulate(model, task=TASK, batches=3, score=True, others=True, threads=1)


def test_what_a_static_network_takes(found, tiny):
    assert [layer.name for layer in found.layers] == ["0.weight", "2.weight"]
    machine = Machine()
    weights = Integers.of(tiny.trained()[0].weight.detach().numpy(), machine).values
    one = run_array(dense(weights, machine), 64, machine, Memory())
    first = found.layers[0]
    assert first.tokens == 3 * 64 and first.shape == (96, 16) and first.granularity == "as stored"
    assert (
        first.dense.cycles == 3 * one.cycles == first.timing.cycles and first.dense.events.words == 3 * one.events.words
    )
    assert first.dense.events.macs == 192 * weights.size and first.dense.events.gated == 0
    assert first.timing.events.macs == 192 * int((weights != 0).sum()) and first.density == (weights != 0).mean()
    assert found.cycles == sum(layer.timing.cycles for layer in found.layers)
    assert 0 < found.utilization < 1 and not found.left and found.batches == 3
    assert found.energy.keys() == first.energy.keys() and found.dense_energy > sum(found.energy.values())
    assert [span.calls for span in first.history] == [3] and first.master_words == 0


def test_what_its_numbers_lose(found):
    assert 0 < found.fidelity.loss(0.95).drop < 1e-3
    drop = found.drops["accuracy"]
    assert abs(drop.before - drop.after) < 0.01 and drop.before > 0.8


def test_other_encodings(found):
    listed = {one.name: one for one in found.configurations}
    assert set(listed) >= {"dense", "fine", BEST} and listed["dense"].cycles == found.dense_cycles
    assert listed[BEST].cycles <= min(one.cycles for one in found.configurations)
    orders = rankings(found.configurations)
    assert set(orders) == set(names()) and survives(found.configurations) == (len(set(orders.values())) == 1)
    assert listed[BEST].energy["horowitz"] == pytest.approx(sum(found.energy.values()))


def test_json_and_page(found, tmp_path):
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["layers"][0]["timing"]["cycles"] == found.layers[0].timing.cycles and value["machine"]["rows"] == 16
    page = render(found)
    assert page == render(found) and page.startswith("<!DOCTYPE html>")
    for words in (
        "Cycles and multipliers used, by layer",
        "Area",
        "0.weight",
        "in other encodings",
        "accuracy",
    ):
        assert words in page
    assert "<script" not in page and not re.search(r"https?://", page.replace("github.com", ""))
    assert simulation_report(found, tmp_path / "sim.html").read_text() == page
    assert "Left to torch" not in page and "Granularity of each matrix" not in page and "The monitor" not in page


@pytest.mark.parametrize("granularity", list(Granularity))
def test_half_of_the_weights_take_half_of_the_cycles(model, granularity):
    half = simulate(model, task=TASK, batches=1, adapting=Adapting.of(granularity, 0.5), threads=1)
    layer = half.layers[1]  # 4 x 96: long enough that accumulators have left in time
    assert layer.granularity == granularity and 0.4 < layer.density <= 0.5
    assert layer.timing.events.words == layer.dense.events.words // 2 and half.dense_cycles > half.cycles
    assert half.policy == granularity and half.fidelity.loss(0.95).drop > 1e-4
    assert sum(half.energy.values()) < half.dense_energy


def test_memory_that_is_slow_and_far(model):
    near = simulate(model, task=TASK, batches=1, threads=1)
    slow = Hardware(memory=Memory(weight_bits=16, activation_bits=16, latency=100))
    far = simulate(model, task=TASK, batches=1, hardware=slow, threads=1)
    assert far.cycles > near.cycles and far.fidelity.loss(0.95).drop == near.fidelity.loss(0.95).drop
    waits = [sum(stalls(layer.timing).values()) for layer in far.layers]
    assert all(wait > 100 for wait in waits) and far.layers[0].timing.events.macs == near.layers[0].timing.events.macs
    costly = simulate(model, task=TASK, batches=1, hardware=Hardware(table=load("accelergy")), threads=1)
    assert costly.cycles == near.cycles and costly.energy["arithmetic"] > near.energy["arithmetic"]


def test_feature_maps_that_stay_on_chip(model):
    outside, inside, small = (
        simulate(model, task=TASK, batches=1, hardware=Hardware(kept_bytes=kept), threads=1)
        for kept in (0, 1 << 20, 2 * (64 * (16 + 96)))
    )
    moved = [[layer.traffic["memory"] for layer in found.layers] for found in (outside, inside, small)]
    assert moved[1][0].read == moved[0][0].read and moved[1][0].written == 0 < moved[0][0].written
    assert moved[1][1].written == moved[0][1].written and moved[1][1].read < moved[0][1].read
    assert moved[2] == moved[1] and inside.layers[0].traffic["feature memory"].written == moved[0][0].written
    assert outside.cycles == inside.cycles and sum(inside.energy.values()) < sum(outside.energy.values())
    with pytest.raises(HardwareError, match="kept_bytes must be bytes, 0 or more, not -1"):
        Hardware(kept_bytes=-1)


def drifting():
    """A network whose inputs grow and shrink from batch to batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    points = torch.randn(256, 32, generator=torch.Generator().manual_seed(1))
    sizes = {"calibration": [0.2], "search": [0.2, 0.2, 3.0, 3.0, 3.0, 0.2, 0.2, 0.2], "held_out": [1.0]}
    return model, task_from(lambda: model, lambda split: [size * points for size in sizes[split]], lambda m, x: m(x))


@dataclass(frozen=True)
class Instant:
    """A policy that follows the thresholds at once."""

    name: str = "instant"

    def start(self, matrix):
        return self.decide(None, matrix, Observation(matrix.calibrated, matrix.mean, matrix.variance))

    def decide(self, state, matrix, seen):
        decision = VarianceThresholds(scope="matrix").propose(matrix, seen, None)
        return State(decision), decision


def test_granularity_over_time(tmp_path):
    model, task = drifting()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    adapting = Adapting(Instant(), {Granularity.FINE: 0.75, Granularity.MEDIUM: 0.5, Granularity.COARSE: 0.25})
    found = simulate(path, task=task, batches=8, adapting=adapting, threads=1)
    first = found.layers[0]
    assert [(span.granularity, span.calls) for span in first.history] == [("coarse", 3), ("fine", 3), ("coarse", 2)]
    assert first.switches == 2 and sum(span.tokens for span in first.history) == first.tokens == 8 * 256
    assert sum(span.cycles for span in first.history) == first.timing.cycles < first.dense.cycles
    assert first.history[1].density > 2 * first.history[0].density
    assert first.master_words > 0 and first.energy["re-organization"] > 0
    page = render(found)
    assert "from token 0: coarse" in page and "fine, 7" in page
    again = simulate(path, task=task, batches=8, adapting=adapting, threads=2)
    assert again.to_json() == found.to_json()


def test_the_thresholds_policy(tmp_path):
    model, task = drifting()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    found = simulate(path, task=task, batches=8, adapting=Adapting.of("variance-thresholds", 0.5), threads=1)
    assert found.policy == "variance-thresholds" and found.layers[0].history[0].granularity == "coarse"
    high = Adapting.of("variance-thresholds", 0.5, (1e-9, 2e-9))
    assert simulate(path, task=task, adapting=high, threads=1).layers[0].granularity == "fine"
    other = Adapting.of("variance-thresholds", 0.5, (1e-9, 2e-9), inverted=True)
    assert simulate(path, task=task, adapting=other, threads=1).layers[0].granularity == "coarse"


def test_matrices_of_an_artifact_change_only_if_they_may(model, tmp_path):
    from regrain.core.recipe import Recipe

    for dynamic in (False, True):
        path = tmp_path / f"{dynamic}.regrain.safetensors"
        replay(model, path, recipe=Recipe(()), dynamic=dynamic)
        found = simulate(path, task=TASK, batches=1, adapting=Adapting.of("medium", 0.5), threads=1)
        assert [layer.may_change for layer in found.layers] == [dynamic] * 2
        assert (found.layers[0].granularity == "medium") is dynamic


def test_layers_that_do_not_fit_are_left_to_torch(model):
    small = Hardware(Machine(bank_words=32, list_entries=4))
    found = simulate(model, task=TASK, batches=1, hardware=small, threads=1)
    assert [layer.name for layer in found.layers] == ["0.weight"]
    assert "a tile must have at most 32 words" in found.left["2"] and "Left to torch" in render(found)
    with pytest.raises(HardwareError, match="the model must have a linear layer .* and has none; 0: a tile must have"):
        simulate(model, task=TASK, batches=1, hardware=Hardware(Machine(bank_words=1)), threads=1)


class Halves(nn.Module):
    """Whose layer runs where there is much of something."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) if x.mean() > 1 else x


class Experts(nn.Module):
    """Of which one has no tokens in a batch whose first column isn't positive."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        chosen = x[:, 0] > 0
        found = torch.zeros_like(x)
        found[chosen], found[~chosen] = self.one(x[chosen]), self.other(x[~chosen])
        return found


@pytest.mark.parametrize("policy", ["static", "coarse", "hardware", "ranked"])
def test_layers_that_are_called_with_nothing(tmp_path, policy):
    save_file(Experts().state_dict(), tmp_path / "experts.safetensors")
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = {"calibration": [x, x], "search": [-x.abs(), -x.abs()]}
    task = task_from(Experts, lambda split: data[split], lambda model, x: model(x))
    adapting = Adapting.of(policy, 0.5)
    found = simulate(tmp_path / "experts.safetensors", task=task, adapting=adapting, others=True, threads=1)
    assert [layer.name for layer in found.layers] == ["other.weight"] and found.layers[0].tokens == 128
    assert found.left == {"one": "search data don't reach it"} and "Left to torch" in render(found)


def test_layers_that_only_calibration_data_reach(tmp_path):
    save_file(Halves().state_dict(), tmp_path / "halves.safetensors")
    levels = {"calibration": 2.0}
    task = task_from(Halves, lambda split: [torch.full((8, 4), levels.get(split, 0.5))], lambda model, x: model(x))
    with pytest.raises(HardwareError, match="search data must reach a layer .* and reach none in 3 batches"):
        simulate(tmp_path / "halves.safetensors", task=task, batches=3, threads=1)


def test_a_buffer_that_two_passes_do_not_fit(model):
    def at(size):
        return simulate(model, task=TASK, batches=1, hardware=Hardware(memory=Memory(buffer_bits=8 * size)), threads=1)

    assert not at(2 * 16 * 96).left
    why = r"the activation buffer must have 3,072 bytes for the inputs of two passes, not 3,071"
    assert at(2 * 16 * 96 - 1).left == {"2": why}
    with pytest.raises(HardwareError, match="and has none; 0: the activation buffer must have 512 bytes"):
        at(1)


def test_what_is_wrong(model):
    with pytest.raises(TaskError):
        simulate(model, task=model)
    with pytest.raises(HardwareError, match="batches must be 1 or more, not 0"):
        simulate(model, task=TASK, batches=0)
    with pytest.raises(HardwareError, match="policy must be one of static, fine, .* not 'magic'"):
        Adapting.of("magic")
    with pytest.raises(HardwareError, match="density must be a fraction above 0 to 1, not 0"):
        Adapting.of("fine", 0)
    for policy in ("variance-thresholds", "hardware"):
        with pytest.raises(HardwareError, match="thresholds must be 0 < low <= high"):
            Adapting.of(policy, 0.5, (0.5, 0.2))


def test_every_policy_of_the_run_time_runs_or_says_why_not():
    assert set(RUN_TIME) <= {*POLICIES, *REFUSED} and not set(POLICIES) & set(REFUSED)
    for policy in RUN_TIME:
        if policy in REFUSED:
            with pytest.raises(HardwareError, match=f"that the machine can run, not '{policy}': .*(use|with static)"):
                Adapting.of(policy)
        else:
            assert Adapting.of(policy, 0.5).policy.name == policy


def test_a_policy_that_chooses_weights(tmp_path):
    model, task = drifting()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    found = simulate(path, task=task, batches=8, adapting=Adapting.of("ranked", 0.5), threads=1)
    first = found.layers[0]
    assert found.policy == "ranked" and first.granularity == "medium" and first.encoding == "block"
    assert first.master_words == 8 * 2 * 2 * 8  # two of the four blocks of both tiles, read in each call


def test_the_machines_own_control(tmp_path):
    model, task = drifting()
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    task = replace(task, inputs=lambda split, given=task.inputs: spread(given, split))
    found = simulate(path, task=task, batches=8, adapting=Adapting.of("hardware", 0.5, dwell=0), threads=1)
    first, control = found.layers[0], found.layers[0].control
    assert first.switches >= 2 and {span.granularity for span in first.history} >= {"coarse", "medium"}
    assert control.samples == 256 and len(control.metrics) == 8 and control.low[0] < control.low[1] < control.high[1]
    # The very call that is large is run otherwise, and not the one behind it.
    large = control.metrics[2] > control.high[1] and control.metrics[1] < control.low[0]
    assert large and first.history[0].calls == 2
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["layers"][0]["control"]["metrics"] == list(control.metrics)
    assert all(words in control_text(found) for words in ("first 256 tokens", "in three"))
    assert "The monitor" in render(found)
    slow = simulate(path, task=task, batches=8, adapting=Adapting.of("hardware", 0.5, dwell=5), threads=1)
    assert slow.layers[0].switches == 0
    cut = {"search": 8}
    short = replace(task, inputs=lambda split: [batch[: cut.get(split)] for batch in task.inputs(split)])
    told = control_text(simulate(path, task=short, batches=2, adapting=Adapting.of("hardware", 0.5), threads=1))
    assert "0 switches; 4 of 4 calls were too short to be looked at, and changed nothing" in told
    stored = simulate(path, task=task, batches=1, threads=1)
    assert stored.layers[0].control is None and "no matrix is under" in control_text(stored)


def spread(given, split):
    """Calibration data of several sizes."""
    batches = list(given(split))
    return [size * batch for size in (0.5, 5, 6, 15) for batch in batches] if split == "calibration" else batches


def test_area_and_products(found, model):
    area = found.area
    assert area.total == pytest.approx(sum(area.parts.values())) and area.total == area.dense + area.added
    ratio = found.dense_cycles / found.cycles
    assert found.area_delay == pytest.approx(ratio * area.dense / area.total)
    assert found.energy_delay == pytest.approx(ratio * found.dense_energy / sum(found.energy.values()))
    assert found.rows == 3 * 64
    value = found.to_json()["area"]
    assert value["table"] == "osu018" and value["total_mm2"] == area.total
    other = simulate(model, task=TASK, batches=1, hardware=Hardware(areas=load_areas("osu035")), threads=1)
    assert other.area.parts["elements"] == pytest.approx(4 * area.parts["elements"], rel=0.01)
    for words in ("to pick activations", "kbit of memories", "table osu018"):
        assert words in area_text(found) + added_text(found)
