"""The machine's own control of a network's matrices: what it decides, and that the RTL does the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.cosim.top import TopSimulation
from regrain.hw.machine import Machine
from regrain.hw.model import program
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer, product
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.repack import Master
from regrain.hw.networks.control import OwnControl, Samples, bounds, deciding, descriptor
from regrain.hw.networks.layers import layers_of
from regrain.hw.networks.quantize import MOST, Integers
from regrain.hw.networks.schedule import scheduled
from regrain.hw.networks.simulated import Seen, Simulated
from regrain.hw.rtl.top import Part
from regrain.policies import Matrix, Thresholds

MACHINE = Machine(rows=4, pes=2, lanes=2, bank_words=512, list_entries=64)
"""That of the other tests of the whole accelerator: it is compiled once."""
ROWS = 1024
TOKENS = 24


def simulated(sizes, own, density=0.5):
    """A layer that was calibrated on inputs of these sizes."""
    torch.manual_seed(0)
    layer = layers_of(nn.Linear(24, 20))[0][0]
    seen = Seen(layer)
    points = torch.randn(TOKENS, layer.shape[1], generator=torch.Generator().manual_seed(1))
    for size in sizes:
        seen.add(size * points)
    weights, inputs = layer.matrix(), seen.observation()
    factors = seen.range.factors(weights.reshape(len(weights), -1, layer.span))
    integers = Integers.of(weights * np.repeat(factors, layer.span), MACHINE)
    matrix = Matrix.of(layer.name, integers.weights() / factors, inputs.mean, inputs.variance, density=density)
    densities, step = dict.fromkeys(Granularity, density), seen.range.step(factors)
    return Simulated(layer, integers, factors, step, matrix, own, MACHINE, densities, seen.samples), points


def bytes_of(one, x):
    steps = torch.round(x / torch.from_numpy(one.factors * np.float32(one.step)))
    return steps.clamp(-MOST, MOST).numpy().astype(np.int8)


def master_of(one):
    masks = [one.variant(granularity).mask for granularity in Granularity]
    fine, medium, coarse = (np.ascontiguousarray(mask) for mask in masks)
    blocks = np.ascontiguousarray(medium[:: MACHINE.outputs, :: MACHINE.block])
    return Master.of(one.integers.values, MACHINE, fine=fine, medium=blocks, coarse=coarse[0])


def alike(channels):
    """Write-back that changes nothing."""
    return Requantizer(*(np.full(channels, number) for number in (0, 1 << 14, 14)))


@pytest.fixture(scope="module")
def top():
    return TopSimulation(MACHINE, rows=ROWS, tiles=16, patience=12)


@pytest.mark.parametrize("inverted", [False, True])
def test_the_rtl_does_the_same(top, inverted):
    one, points = simulated([0.2, 1.0, 3.0], OwnControl(dwell=1, inverted=inverted))
    before, master = np.eye(24, dtype=np.int8), master_of(one)
    made = program.dense(before, MACHINE)
    image = Image(MACHINE, ROWS)
    watched = Descriptor(
        granularity=Granularity.FINE, outputs=24, blocks=3, tokens=TOKENS, weights=0, channels=0, count=8,
        log2_samples=one.samples.log2, log2_channels=5,
    )  # fmt: skip
    first = image.add(watched, alike(24))
    fields = {name: getattr(one.control.descriptor, name) for name in Descriptor.__dataclass_fields__}
    second = image.add(Descriptor(**fields | {"tokens": TOKENS}), alike(20), master=master)
    top.reset()
    top.load(image)
    for size in (0.2, 0.2, 3.0, 3.0, 3.0, 3.0, 1.0, 0.2, 0.2, 0.2, 0.2):
        inputs = bytes_of(one, size * points)
        with torch.no_grad():
            one(size * points)
        call = one.calls[-1]
        told = top.run(first, inputs, made, matrix=0)
        assert told.fault == Part.NONE and np.array_equal(told.values, inputs)
        assert told.metric == call.metric
        found = top.run(second, inputs, master, matrix=1)
        assert found.fault == Part.NONE and found.granularity is call.granularity
        variant = one.variant(call.granularity)
        assert np.array_equal(found.sums, product(variant.weights, inputs))
        timing, runs = scheduled(variant.encoded[1], TOKENS, MACHINE, Memory(), variant.source)
        counted = found.counters
        stalls = timing.load_stalls, timing.activation_stalls, timing.drain_stalls
        assert runs == 1 and counted["cycles"] == timing.cycles
        assert (counted["load_stalls"], counted["act_stalls"], counted["drain_stalls"]) == stalls
        assert (counted["words"], counted["macs"]) == (timing.events.words, timing.events.macs)
    assert one.switches >= 3 and len({call.granularity for call in one.calls}) == 3


ONES = np.ones(4)


def sampled(*sizes):
    samples, points = Samples(), np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    for size in sizes:
        samples.add(np.float32(size) * points)
    return samples


def test_thresholds_part_calibration_in_three():
    samples = sampled(1, 2, 3, 4)
    assert samples.count == 16 and len(samples.variances) == 4
    metrics = samples.metrics(ONES)
    assert metrics[1] == pytest.approx(4 * metrics[0], rel=1e-5)
    np.testing.assert_allclose(bounds(OwnControl(), samples, ONES, ONES), np.quantile(metrics, [1 / 3, 2 / 3]))
    assert samples.metrics(2 * ONES)[0] == pytest.approx(metrics[0] / 4)  # variances in squared steps
    short = sampled()
    short.add(np.zeros((15, 4), np.float32))
    assert short.log2 == 0 and not short.variances
    short.add(np.zeros((40, 4), np.float32))
    short.add(np.zeros((31, 4), np.float32))
    assert short.count == 32 and len(short.variances) == 1


def test_thresholds_of_variances_are_brought_to_steps():
    own, steps = OwnControl(Thresholds(0.2, 0.5)), np.array([0.1, 0.1, 0.2])
    low, high = bounds(own, sampled(1), np.array([1.0, 1.0, 4.0]), steps)
    unit = (100 + 100 + 100) / 4 / 2  # three channels over four; their mean variance is two
    assert (low, high) == pytest.approx((0.2 * unit, 0.5 * unit))
    assert bounds(own, sampled(1), np.zeros(3), steps) == (0.0, 0.0)
    assert "0.2 and 0.5" in own.origin and "three" in OwnControl().origin


@pytest.mark.parametrize(("usual", "inverted", "begins"), [
    (1.0, False, Granularity.COARSE), (5.0, False, Granularity.MEDIUM), (20.0, False, Granularity.FINE),
    (1.0, True, Granularity.FINE), (20.0, True, Granularity.COARSE),
])  # fmt: skip
def test_the_descriptor(usual, inverted, begins):
    own, words = OwnControl(dwell=3, inverted=inverted), dict(zip(Granularity, (160, 161, 1), strict=True))
    found = descriptor(own, (20, 24), (2.0, 10.0), [usual], words, MACHINE)
    assert found.granularity is begins and found.dynamic and found.reverse is inverted and found.dwell == 3
    # Quarters, a tenth to either side.
    assert (found.down0, found.up0, found.down1, found.up1) == (8, 9, 37, 45)
    assert (found.cost_fine, found.cost_medium, found.cost_coarse) == (10, 11, 1)
    rule = deciding(found, MACHINE)
    assert (rule.uses, rule.reorganization, rule.priced) == (1, 5 * 3 * 8 // 16, True)
    far = descriptor(own, (20, 24), (1e5, 1e6), [usual], words, MACHINE)
    assert far.up0 == far.down1 == far.up1 == 65535  # the monitor's largest


def test_what_a_descriptor_cannot_say():
    words = dict.fromkeys(Granularity, 1 << 21)
    with pytest.raises(HardwareError, match="cost_fine must be 0 to 65535, not 131072"):
        descriptor(OwnControl(), (20, 24), (2.0, 10.0), [1.0], words, MACHINE)
    with pytest.raises(HardwareError, match="dwell must be 0 to 63 calls, not 64"):
        OwnControl(dwell=64)


def test_dwell_prices_and_calls_that_are_too_short():
    one, points = simulated([0.2, 1.0, 3.0], OwnControl(dwell=1))
    begin = one.granularity
    with torch.no_grad():
        for size in (3.0, 1.0, 3.0, 3.0):
            one(size * points)
        one(3.0 * points[:15])
    found = [call.granularity for call in one.calls]
    assert found[:3] == [begin] * 3 and found[3] is not begin and one.switches == 1
    assert found[4] is found[3] and one.calls[4].metric is None and one.calls[3].metric > one.calls[1].metric
    one.restart()
    assert one.granularity is begin


def test_thresholds_of_the_network_as_it_begins_to_run():
    one, points = simulated([0.2, 1.0, 3.0], OwnControl(dwell=0))
    begin, before = one.granularity, one.control.descriptor
    one.control.watch()
    with torch.no_grad():
        for size in (2.0, 2.5, 3.0):
            one(size * points)
    assert {call.granularity for call in one.calls} == {begin} and one.switches == 0
    one.settle()
    metrics = [call.metric for call in one.calls]
    low, high = np.quantile(metrics, [1 / 3, 2 / 3])
    after = one.control.descriptor
    assert after.up0 == int(np.ceil(1.1 * low)) and after.down1 == int(0.9 * high) + 1 and after.down0 > before.down0
    assert one.control.watching is None and one.granularity is after.granularity
    given, _ = simulated([0.2, 1.0], OwnControl(Thresholds(0.2, 0.5)))
    before = given.control.descriptor
    given.control.watch()
    with torch.no_grad():
        given(points)
    given.settle()
    assert given.control.descriptor == before and given.control.watching is None


def test_a_matrix_that_was_never_seen_for_long_enough_stays_as_it_is_stored():
    one, points = simulated([], OwnControl())
    assert one.control is None and one.granularity is None and not one.adapts
    with torch.no_grad():
        one(points)
    assert one.calls[0].granularity is None


def test_one_table_of_channels_serves_all_granularities():
    one, points = simulated([0.2, 1.0, 3.0], OwnControl(dwell=0))
    points = points + 1.0
    biases = []
    with torch.no_grad():
        for size in (0.1, 0.1, 0.1, 3.0, 3.0, 3.0):
            one(size * points)
            biases.append(one._operand()[2])
    assert len({call.granularity for call in one.calls}) >= 2
    assert all(torch.equal(bias, biases[0]) for bias in biases)
