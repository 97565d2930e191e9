"""The decoder at its bounds: descriptors a bit, or one, away from sound ones, with the checksum put right."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.cosim import Simulation
from regrain.hw.machine import Machine
from regrain.hw.model.descriptor import LAYOUT, WIDTHS, Descriptor, channel_rows, checksum
from regrain.hw.rtl.descriptor import DescriptorDecoder

ROWS = 1500
MACHINE = Machine()
PLACES = dict(zip(WIDTHS, np.cumsum([0, *WIDTHS.values()]).tolist(), strict=False))
FINE, MEDIUM, COARSE = Granularity

PLAIN = {"granularity": FINE, "outputs": 100, "blocks": 64, "tokens": 1000, "weights": 5, "channels": 20, "count": 8}
DYNAMIC = {"up0": 40, "down0": 30, "up1": 900, "down1": 35, "dwell": 3, "cost_fine": 7, "cost_medium": 5}
DYNAMIC |= {"cost_coarse": 4, "dynamic": True, "log2_samples": 9, "log2_channels": 7, "table": 3}
LISTED = PLAIN | {"count": 0, "listed": True}
SOUND = [
    PLAIN,
    PLAIN | {"relu": True, "tokens": 1, "outputs": 1, "blocks": 1, "count": 1, "channels": 0, "weights": 0},
    LISTED,
    LISTED | {"granularity": MEDIUM},
    LISTED | {"granularity": COARSE},
    LISTED | {"granularity": COARSE, "gather": True, "table": 1000},
    LISTED | DYNAMIC,
    LISTED | DYNAMIC | {"granularity": COARSE, "gather": True, "reverse": True, "relu": True},
]


@pytest.fixture(scope="module")
def decoder():
    return Simulation(DescriptorDecoder(MACHINE, ROWS))


def sound(fields):
    return Descriptor(**fields).to_int()


def changed(bits, **fields):
    """A descriptor with other numbers in some fields, cut to their bits, and the checksum that belongs to them."""
    for name, value in fields.items():
        mask = (1 << WIDTHS[name]) - 1
        bits = bits & ~(mask << PLACES[name]) | (int(value) & mask) << PLACES[name]
    return bits & (1 << 240) - 1 | checksum(bits) << 240


def refused(words):
    try:
        Descriptor.parse(words).check_machine(MACHINE, ROWS)
    except HardwareError:
        return True
    return False


def agree(decoder, descriptors):
    """Run them all; how many are refused. The last one stays."""
    words = np.array([np.frombuffer(each.to_bytes(32, "little"), "<u4") for each in descriptors], np.uint32)
    run = decoder.run({"load": [1] * len(words) + [0] * 5, "words": np.pad(words, ((0, 5), (0, 0)))})
    wanted = [refused(each) for each in words]
    np.testing.assert_array_equal(run["error"][2:], [*wanted, *wanted[-1:] * 3])
    np.testing.assert_array_equal(run["fields"][2:], np.concatenate([words, *[words[-1:]] * 3]))
    return sum(wanted)


@pytest.mark.parametrize("fields", SOUND)
def test_every_bit(decoder, fields):
    base = sound(fields)
    flipped = [base ^ 1 << place for place in range(240)]
    assert not agree(decoder, [base])
    assert 40 < agree(decoder, [changed(each) for each in flipped]) < 220


def test_each_bit_stays_until_the_next(decoder):
    """Sound or not: `agree` looks at the last for some cycles."""
    ones = (1 << 256) - 1
    for each in (ones, 0, ones // 3, ones // 3 * 2):
        assert agree(decoder, [each]) == 1


@pytest.mark.parametrize("fields", SOUND)
def test_every_field_at_its_ends(decoder, fields):
    base = sound(fields)
    ends = [changed(base, **{name: value}) for name, _ in LAYOUT[:-1] for value in (0, 1, -1, -2)]
    assert agree(decoder, ends) > 20


@pytest.mark.parametrize("near", [-1, 0, 1])
def test_tables_that_end_where_the_memory_does(decoder, near):
    gathered, dynamic, plain = sound(SOUND[5]), sound(SOUND[7]), sound(PLAIN)
    tables = [
        changed(base, table=ROWS - n + near, blocks=n) for base in (gathered, dynamic) for n in (1, 2, 64, 511, 1024)
    ]
    tables += [changed(base, table=ROWS - 64 + near ^ 1 << bit) for base in (gathered, dynamic) for bit in range(14)]
    agree(decoder, tables)
    for outputs in [*range(1, 50), 255, 256, 257, 1000, 2047, 2985, 2991, 2993]:
        start = ROWS - channel_rows(outputs, MACHINE) + near
        ends = [changed(plain, outputs=outputs, channels=start)]
        ends += [changed(plain, outputs=outputs, channels=start ^ 1 << bit) for bit in range(14)]
        assert agree(decoder, ends) > 0


def test_tiles_as_large_as_a_bank(decoder):
    limits = [(count, MACHINE.bank_words // count + near) for count in range(1, 16) for near in (-1, 0, 1)]
    base = sound(PLAIN)
    tiles = [changed(base, count=count, blocks=blocks) for count, blocks in limits]
    tiles += [changed(base, count=count, blocks=blocks ^ 1 << bit) for count, blocks in limits for bit in range(11)]
    assert agree(decoder, tiles) > 100


def test_powers_of_two_of_samples_and_channels(decoder):
    base = sound(LISTED | DYNAMIC)
    parts = (1, 2, 3, *(1 << power for power in range(2, 15)))
    tokens = [(k, (1 << k) * part // 2 + near) for k in range(16) for part in parts for near in (-1, 0, 1)]
    samples = [changed(base, log2_samples=k, tokens=max(count, 1)) for k, count in tokens]
    outputs = [(k, (1 << k) * part // 2 + near) for k in range(16) for part in (1, 2, 3) for near in (-1, 0, 1, 2)]
    channels = [changed(base, log2_channels=k, outputs=max(count, 1), channels=0) for k, count in outputs]
    assert agree(decoder, samples) > 20
    assert agree(decoder, channels) > 20


def test_thresholds_side_by_side(decoder):
    random, base = np.random.default_rng(8), sound(LISTED | DYNAMIC)
    descriptors = []
    for _ in range(2000):
        middle = int(random.integers(0, 2 << random.integers(16)))
        steps = random.choice([0, 0, 0, 1, -1, 1 << random.integers(16)], 4)
        values = np.clip(middle + np.cumsum(steps) * (random.random(4) < 0.7), 0, 65535)
        descriptors.append(changed(base, **dict(zip(("down0", "up0", "down1", "up1"), values, strict=True))))
    assert 500 < agree(decoder, descriptors) < 1700
