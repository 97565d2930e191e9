"""The monitor with numbers of all their bits: every number of samples, many channels, thresholds beside variances."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim.simulation import Simulation
from regrain.hw.model.codes import Code
from regrain.hw.model.observe import Observing, observe
from regrain.hw.rtl.monitor import SPREAD_BITS, Monitor

LANES = 16


@pytest.fixture(scope="module")
def monitor():
    return Simulation(Monitor())


def watch(monitor, outputs, observing):
    """Run a layer of whole tiles without pauses; compare every result, the metric and the counts."""
    tokens, channels = outputs.shape
    tiles = channels // LANES
    values = outputs.reshape(tokens, tiles, LANES).transpose(1, 0, 2).reshape(-1, LANES).view(np.uint8)
    cycles = len(values) + 40
    there = np.arange(cycles) < len(values)
    run = monitor.run(
        {
            "valid": there,
            "begin": there & (np.arange(cycles) % tokens == 0),
            "present": 0xFFFF,
            "values": np.concatenate([values, np.zeros((40, LANES), np.uint8)]),
            "conclude": np.arange(cycles) == len(values),
            **{name: getattr(observing, name) for name in ("log2_samples", "low", "high", "log2_channels")},
        }
    )
    expected, result = observe(outputs, observing), run["result"]
    given = result[result & 1 == 1]
    np.testing.assert_array_equal(given >> 5 & (1 << SPREAD_BITS) - 1, expected.spread)
    np.testing.assert_array_equal(given >> 5 + SPREAD_BITS, expected.codes)
    held = slice(int(np.flatnonzero(run["updated"])[0]), None)
    assert (run["metric"][held] == expected.metric).all()
    assert (run["counts"][held] == int(expected.counts @ (1 << 14 * np.arange(3)))).all()
    assert not run["fault"].any()


def layer(random, tokens, channels):
    """Outputs whose spread and mean differ from channel to channel; some channels are constant, some are 0 or 1."""
    width, mean = random.choice([0.5, 3, 30, 200], channels), random.choice([-128, -60, 0, 60, 127], channels)
    outputs = np.clip(random.normal(mean, width, (tokens, channels)), -128, 127).astype(np.int8)
    outputs[:, random.random(channels) < 0.1] = random.integers(-128, 128)
    return outputs


@pytest.mark.parametrize("log2_samples", range(4, 13))
def test_thresholds_beside_the_variance_of_a_channel(monitor, log2_samples):
    random = np.random.default_rng(log2_samples)
    for log2_channels in (*[0] * 8, *range(1, 16)):
        outputs = layer(random, (1 << log2_samples) + int(random.integers(0, 3)), 2 * LANES)
        quarters = observe(outputs, Observing(log2_samples, 0, 0)).spread >> 2 * log2_samples - 2
        low, high = np.sort(np.clip(random.choice(quarters, 2) + random.integers(-1, 3, 2), 0, 65535))
        watch(monitor, outputs, Observing(log2_samples, int(low), int(high), log2_channels))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (200, 200), (10, 30_000), (65535, 65535)])
def test_as_many_channels_as_are_counted(monitor, low, high):
    """1023 tiles: counts of fourteen bits, and a metric that is a sum of so many."""
    outputs = layer(np.random.default_rng(3), 16, 1023 * LANES)
    for log2_channels in (0, 12, 15):
        watch(monitor, outputs, Observing(4, low, high, log2_channels))


def test_the_largest_sums(monitor):
    """Half of the samples -128 and half 127: the largest variance there is, over the most samples."""
    outputs = np.where(np.arange(4096)[:, None] % 2, 127, -128).astype(np.int8) * np.ones((1, 4 * LANES), np.int8)
    for bound in (65024, 65025, 65026):
        watch(monitor, outputs, Observing(12, bound, bound, 6))


@pytest.mark.parametrize("bit", range(16, 30))
def test_a_metric_of_more_bits_than_it_has(monitor, bit):
    """By so little more than 2^bit that no other bit beyond its sixteen is 1."""
    channels = -(-(1 << bit) // 65025)
    outputs = np.zeros((16, -(-channels // LANES) * LANES), np.int8)
    outputs[::2, :channels], outputs[1::2, :channels] = -128, 127
    assert int(observe(outputs, Observing(4, 0, 0)).spread.sum()) >> 6 + 16 == 1 << bit - 16
    watch(monitor, outputs, Observing(4, 0, 0))


def test_the_largest_sum_over_channels(monitor):
    """More than half of the channels that are counted, with the largest variance over the most samples: 2^51."""
    tiles, quarters, first = 520, 65025, np.arange(4096) == 0
    settings = {"log2_samples": 12, "log2_channels": 15, "low": quarters, "high": quarters}
    samples = np.resize(np.array([-128, 127], np.int8), 4096).view(np.uint8)[:, None].repeat(LANES, 1)
    for _ in range(tiles):
        monitor.run({**settings, "valid": 1, "begin": first, "present": 0xFFFF, "values": samples})
    run = monitor.run({**settings, "conclude": first})
    channels = tiles * LANES
    assert (channels * quarters << 22).bit_length() == 52
    assert run["metric"][-1] == channels * quarters >> 15
    assert run["counts"][-1] == channels << 14 * Code.MEDIUM
