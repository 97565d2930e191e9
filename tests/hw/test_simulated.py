"""A layer that is simulated gives what the accelerator would, and follows its policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.golden import product, run
from regrain.hw.networks.fixed import Fixed
from regrain.hw.networks.layers import layers_of
from regrain.hw.networks.quantize import MOST, Integers
from regrain.hw.networks.simulated import Seen, Simulated, channels_last, replaced, watched
from regrain.hw.networks.variants import keep
from regrain.policies import Controlled, Matrix, Observation, Ranked, State, Static, VarianceThresholds

MACHINE, STATIC = Machine(), Static()
ONES = np.ones(4, np.float32)


def simulated(module, x, policy=STATIC, density=1.0, machine=MACHINE, *, dynamic=True):
    layer = layers_of(module)[0][0]
    seen = Seen(layer)
    seen.add(x)
    weights, inputs = layer.matrix(), seen.observation()
    factors = seen.range.factors(weights.reshape(len(weights), -1, layer.span))
    integers = Integers.of(weights * np.repeat(factors, layer.span), machine)
    matrix = Matrix.of(
        layer.name,
        integers.weights().reshape(layer.shape[0], -1, layer.span) / factors[:, None],
        inputs.mean,
        inputs.variance,
        density=density,
        dynamic=dynamic,
        calibrated=inputs.count,
        positions=seen.positions,
    )
    return Simulated(
        layer, integers, factors, seen.range.step(factors), matrix, policy, machine, dict.fromkeys(Granularity, density)
    )


@pytest.mark.parametrize("accumulator", [24, 32])
def test_values_are_those_of_the_array_word_by_word(accumulator):
    torch.manual_seed(0)
    machine = Machine(accumulator=accumulator)
    module, x = nn.Conv2d(5, 20, 3, padding=1), torch.randn(2, 5, 6, 6)
    one = simulated(module, x, machine=machine)
    with torch.no_grad():
        found = one(x)
        steps = torch.round(x / torch.from_numpy(one.factors * one.step)[:, None, None]).clamp(-MOST, MOST)
        rows = one.layer.rows(steps).numpy().astype(np.int8)
        encoding, program = one.variant(None).encoded
        sums = run(program, rows, machine)
        assert np.array_equal(sums, product(one.integers.values, rows)) and encoding
        scaled = sums * (one.integers.scales.astype(np.float64) * one.step) + module.bias.double().numpy()
        assert torch.equal(found, one.layer.outputs(torch.from_numpy(scaled).float(), x))
        assert torch.allclose(found, module(x), atol=0.05)
    assert [(call.tokens, call.granularity, call.numbers) for call in one.calls] == [(72, None, 360)]


def test_wide_accumulators_stay_exact():
    """Sums beyond 2^24, where float32 loses ones."""
    module = nn.Linear(2048, 16, bias=False)
    nn.init.ones_(module.weight)
    with torch.no_grad():
        module.weight[:, 0] = 1 / 127
        x = torch.full((1, 2048), 127.0)
        one = simulated(module, x, machine=Machine(accumulator=32))
        one = replace(
            one, integers=Integers.of(module.weight.numpy(), one.machine), factors=ONES[:1].repeat(2048), step=1.0
        )
        assert one(x)[0, 0].double() == pytest.approx((2047 * 127 + 1) * 127 / 127, rel=1e-6)
        (weights, _, _) = one._operand()
        assert weights.dtype == torch.float64


def test_clipped_inputs_are_counted_and_nothing_is_no_trouble():
    module = nn.Linear(4, 3)
    one = replace(simulated(module, torch.ones(1, 4)), factors=ONES, step=1 / MOST)
    with torch.no_grad():
        one(torch.tensor([[1.0, 2.0, 0.5, -9.0]]))
        assert one.calls[-1].clipped == 2 and np.array_equal(one.factors, ONES)
        assert one(torch.zeros(0, 4)).shape == (0, 3) and len(one.calls) == 1


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_predefined_granularity_drops_and_folds(granularity):
    torch.manual_seed(0)
    module, x = nn.Linear(64, 32), torch.randn(200, 64) + 3
    one = simulated(module, x, Fixed(granularity), 0.5)
    variant = one.variant(granularity)
    whole = one.integers.weights() / one.factors.astype(np.float64)
    mask = keep(granularity, whole**2 * one.matrix.variance, 0.5, 1, MACHINE)
    assert np.array_equal(variant.weights, one.integers.values * mask) and 0.45 < mask.mean() < 0.55
    with torch.no_grad():
        found, plain = one(x), module(x)
        assert (found - plain).mean(0).abs().max() < 0.05  # what is dropped leaves its mean
        assert 0.02 < (found - plain).square().mean() < plain.var()
    assert one.granularity is granularity and one.switches == 0 and not one.adapts
    stored = simulated(module, x, Fixed(granularity), 0.5, dynamic=False)
    assert stored.granularity is None and stored.variant(None).weights is stored.integers.values


@dataclass(frozen=True)
class Instant:
    """A policy that follows the thresholds at once."""

    name: str = "instant"

    def start(self, matrix):
        return self.decide(None, matrix, Observation(matrix.calibrated, matrix.mean, matrix.variance))

    def decide(self, state, matrix, seen):
        decision = VarianceThresholds(scope="matrix").propose(matrix, seen, None)
        return State(decision), decision


def test_granularity_follows_the_variance():
    torch.manual_seed(0)
    x = torch.randn(512, 32)
    one = simulated(nn.Linear(32, 16), 0.1 * x, Instant(), 0.5)
    assert one.granularity is Granularity.COARSE and one.adapts

    def run():
        with torch.no_grad():
            for size in (0.1, 0.1, 2.0, 2.0, 0.6, 0.6, 0.1):
                one(size * x)
        return [str(call.granularity) for call in one.calls]

    order = run()
    # What a call shows holds from the next one on.
    assert order == ["coarse", "coarse", "coarse", "fine", "fine", "medium", "medium"] and one.switches == 3
    one.calls, one.switches = [], 0
    one.restart()
    assert run() == order and one.switches == 3
    one.recording = False
    assert run() == order and one.switches == 3, "neither is counted"
    fine = one.variant(Granularity.FINE)
    assert fine.source.words == 32 and fine.encoded[0] == "fine" and 0.45 < fine.density <= 0.5


def test_ranked_chooses_weights_anew():
    torch.manual_seed(0)
    x = torch.randn(2048, 64)
    quiet = torch.cat([torch.full((32,), 0.1), torch.ones(32)])
    one = simulated(nn.Linear(64, 32), x * quiet, Controlled(Ranked()), 0.5)
    assert one.granularity is Granularity.MEDIUM and one.adapts
    first = one.variant(Granularity.MEDIUM).mask
    with torch.no_grad():
        before = one(x * quiet)
        for _ in range(4):
            one(x * quiet.flip(0))
        one(x * quiet.flip(0))
    assert [call.tags for call in one.calls][::5] == [0, one.switches] and one.switches >= 1
    then = one.variant(Granularity.MEDIUM, one.calls[-1].tags).mask
    assert first[:, 32:].mean() > 0.9 and then[:, :32].mean() > 0.9 and first.mean() == then.mean() == 0.5
    assert one.variant(Granularity.MEDIUM, 1).source.words == one.variant(Granularity.MEDIUM).source.words
    one.restart()
    with torch.no_grad():
        assert torch.equal(one(x * quiet), before) and one.calls[-1].tags == 0


def test_what_calibration_sees():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 2), nn.Linear(9, 9))
    layers, _ = layers_of(model)
    x = torch.randn(10, 3, 6, 6) * 2 + 1
    with torch.no_grad(), watched(layers) as found:
        model[:3](x[:4])
        model[:3](x[4:])
    assert list(found) == ["0.weight", "2.weight"]
    seen = found["0.weight"]
    inputs = seen.observation()
    rows = channels_last(x)
    assert rows.shape == (360, 3) and inputs.count == 360 and seen.positions == 36
    assert np.allclose(inputs.mean, rows.mean(0), atol=1e-5) and np.allclose(inputs.variance, rows.var(0), rtol=1e-5)
    assert np.array_equal(seen.range.most, x.abs().amax((0, 2, 3)).numpy())
    assert not any(module._forward_pre_hooks for module in model)


def test_inputs_that_are_not_finite():
    model = nn.Sequential(nn.Linear(2, 2))
    message = "0.weight: inputs must be finite"
    with torch.no_grad(), watched(layers_of(model)[0]), pytest.raises(HardwareError, match=message):
        model(torch.tensor([[1.0, float("nan")]]))


def test_layers_are_given_back():
    model = nn.Sequential(nn.Linear(4, 4))
    x = torch.randn(3, 4)
    one = simulated(model[0], x)
    one = replace(one, layer=layers_of(model)[0][0])
    plain = model(x)
    with pytest.raises(ZeroDivisionError), replaced([one]):
        assert not torch.equal(model(x), plain)
        raise ZeroDivisionError
    assert torch.equal(model(x), plain) and "forward" not in vars(model[0])
