"""The monitor against sums of int64, for every channel and every cycle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.cosim.simulation import Simulation
from regrain.hw.model.codes import Code
from regrain.hw.model.observe import Observing, metric_cycle, observe, result_cycles
from regrain.hw.rtl.monitor import SPREAD_BITS, Monitor

LANES = 16


@pytest.fixture(scope="module")
def monitor():
    return Simulation(Monitor())


def stream(outputs, gaps, begin=0):
    """Tokens of all tiles, one after the other, each followed by so many idle cycles: ports, and tokens' cycles."""
    tokens, channels = outputs.shape
    tiles = -(-channels // LANES)
    values = np.pad(outputs, ((0, 0), (0, tiles * LANES - channels)), constant_values=77)
    values = values.reshape(tokens, tiles, LANES).transpose(1, 0, 2).reshape(-1, LANES)
    present = np.pad(np.ones(channels, np.uint8), (0, tiles * LANES - channels)).reshape(tiles, LANES)
    at = begin + np.arange(tiles * tokens) + np.concatenate([[0], np.cumsum(gaps[: tiles * tokens - 1])])
    cycles = int(at[-1]) + 60
    ports = {name: np.zeros(cycles, np.uint16) for name in ("valid", "begin", "present")}
    ports["valid"][at] = 1
    ports["begin"][at[::tokens]] = 1
    ports["present"][at] = np.repeat(present @ (1 << np.arange(LANES)), tokens)
    data = np.zeros((cycles, LANES), np.uint8)
    data[at] = values.view(np.uint8)
    return {**ports, "values": data}, at.reshape(tiles, tokens)


def watched(monitor, outputs, observing, gaps, conclude=None):
    """Run a layer; check every result with its cycle, and the metric with its."""
    ports, at = stream(outputs, gaps)
    completed = at[:, observing.samples - 1]
    concluded = max(int(at[-1, -1]) if conclude is None else int(completed[-1]) + conclude, 0)
    cycles = max(len(ports["valid"]), concluded + 30)
    ports = {name: np.concatenate([a, np.zeros((cycles - len(a), *a.shape[1:]), a.dtype)]) for name, a in ports.items()}
    ports["conclude"] = np.arange(cycles) == concluded
    settings = {name: getattr(observing, name) for name in ("log2_samples", "low", "high", "log2_channels")}
    run = monitor.run({**ports, **settings})
    expected = observe(outputs, observing)
    bits = run["result"]
    there = np.flatnonzero(bits & 1)
    times = np.array([cycle for tile in result_cycles(completed.tolist(), LANES) for cycle in tile])
    assert there.tolist() == times[: outputs.shape[1]].tolist()
    np.testing.assert_array_equal(bits[there] >> 1 & 15, np.arange(outputs.shape[1]) % LANES)
    np.testing.assert_array_equal(bits[there] >> 5 & (1 << SPREAD_BITS) - 1, expected.spread)
    np.testing.assert_array_equal(bits[there] >> 5 + SPREAD_BITS, expected.codes)
    assert np.flatnonzero(run["updated"]).tolist() == [metric_cycle(concluded, int(completed[-1]), LANES)]
    assert run["metric"][-1] == expected.metric
    assert [int(run["counts"][-1]) >> 14 * code & 0x3FFF for code in range(3)] == expected.counts.tolist()
    assert not run["fault"].any()


@given(st.integers(0, 2**32))
def test_random_layers(monitor, seed):
    random = np.random.default_rng(seed)
    log2_samples = int(random.choice([4, 5, 8]))
    tokens = (1 << log2_samples) + int(random.integers(0, 20))
    channels = int(random.choice([1, 16, 33]))
    outputs = np.clip(random.normal(0, random.choice([1, 20, 90], channels), (tokens, channels)), -128, 127)
    low, high = sorted(int(each) for each in random.integers(0, 8000, 2))
    gaps = random.choice([[0, 0], [0, 3]][random.integers(2)], tokens * 3)
    observing = Observing(log2_samples, low, high, int(random.integers(0, 6)))
    watched(monitor, outputs.astype(np.int8), observing, gaps, int(random.integers(0, 40)))


@pytest.mark.parametrize("log2_samples", [4, 11, 12])
@pytest.mark.parametrize("pattern", [(-128, -128), (-128, 127), (127, 127), (0, -128), (0, 1)])
def test_extreme_inputs(monitor, log2_samples, pattern):
    samples = 1 << log2_samples
    outputs = np.resize(np.array(pattern, np.int8), samples)[:, None] * np.ones(16, np.int8)
    quarters = observe(outputs, Observing(log2_samples, 0, 0, 4)).metric
    observing = Observing(log2_samples, quarters, quarters, 4)  # at a threshold: neither below nor above
    assert (observe(outputs, observing).codes == Code.MEDIUM).all()
    watched(monitor, outputs, observing, np.zeros(samples, int))


def test_sixteen_samples_without_a_pause(monitor):
    """The next tile is complete in the cycle in which the last channel of the one before is evaluated."""
    outputs = np.random.default_rng(5).integers(-128, 128, (16, 80), np.int8)
    for conclude in range(25):
        watched(monitor, outputs, Observing(4, 900, 20000, 7), np.zeros(80, int), conclude)


def test_exactly_at_a_threshold(monitor):
    outputs = np.zeros((16, 16), np.int8)
    outputs[:8] = np.arange(16, dtype=np.int8)  # variance c^2 / 4: c^2 quarters
    for bound in (16, 17, 36):
        codes = observe(outputs, Observing(4, bound, bound)).codes
        squares = np.arange(16) ** 2
        wanted = np.where(squares > bound, Code.FINE, np.where(squares < bound, Code.COARSE, Code.MEDIUM))
        np.testing.assert_array_equal(codes, wanted)
        watched(monitor, outputs, Observing(4, bound, bound), np.zeros(16, int))


def test_a_tile_of_too_few_tokens_gives_nothing(monitor):
    monitor.reset()
    ports, _ = stream(np.ones((20, 32), np.int8), np.zeros(40, int))
    run = monitor.run({**ports, "log2_samples": 5})
    assert not (run["result"] & 1).any() and not run["fault"].any()


@pytest.mark.parametrize("log2_samples", [0, 3, 13, 15])
def test_samples_out_of_range_are_a_fault(monitor, log2_samples):
    monitor.reset()
    run = monitor.run({"valid": [0, 1, 0], "begin": [0, 1, 0], "log2_samples": log2_samples})
    assert run["fault"].tolist() == [0, 0, 1]
    monitor.reset()


def test_what_does_not_fit_is_refused():
    with pytest.raises(HardwareError, match="log2_samples must be 4 to 12, not 13"):
        Observing(13, 0, 1)
    with pytest.raises(HardwareError, match="thresholds must be 0 <= low <= high <= 65535, not 5, 4"):
        Observing(4, 5, 4)
    with pytest.raises(HardwareError, match="at least 32 tokens by channels, not int8"):
        observe(np.zeros((31, 2), np.int8), Observing(5, 0, 1))
