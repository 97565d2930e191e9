"""The whole accelerator against the models: values, granularities, cycles, and what it refuses."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.top import TopSimulation
from regrain.hw.machine import Machine
from regrain.hw.model import program
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding, tick
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer, run
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.observe import Observing, observe
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import simulate, simulate_supply
from regrain.hw.rtl.layouts import Fault
from regrain.hw.rtl.top import Part

MACHINE = Machine(rows=4, pes=2, lanes=2, bank_words=512, list_entries=64)
ROWS = 1024
PACKERS = {
    Granularity.FINE: program.fine,
    Granularity.MEDIUM: program.blocks,
    Granularity.COARSE: program.channels,
}


@pytest.fixture(scope="module")
def top():
    return TopSimulation(MACHINE, rows=ROWS, tiles=16, patience=12)


def numbers(random, *shape):
    return random.integers(-128, 128, shape).astype(np.int8)


def requantizer(random, outputs, relu=False):
    return Requantizer(
        random.integers(-(1 << 12), 1 << 12, outputs),
        random.integers(1 << 8, 1 << 16, outputs),
        random.integers(16, 26, outputs),
        relu,
    )


def master_of(random, outputs, inputs):
    tiles, blocks = -(-outputs // MACHINE.outputs), -(-inputs // MACHINE.block)
    coarse = random.random(inputs) < random.random()
    coarse[0] = True
    return Master.of(
        numbers(random, outputs, inputs),
        MACHINE,
        fine=random.random((outputs, inputs)) < random.random(),
        medium=random.random((tiles, blocks)) < random.random(),
        coarse=coarse,
    )


def descriptor_of(outputs, inputs, tokens, **others):
    return Descriptor(
        **{
            "granularity": Granularity.FINE,
            "outputs": outputs,
            "blocks": -(-inputs // MACHINE.block),
            "tokens": tokens,
            "weights": 0,
            "channels": 0,
            "listed": True,
        }
        | others
    )


def deciding_of(descriptor):
    """What `Top` makes of a descriptor."""
    tiles = -(-descriptor.outputs // MACHINE.outputs)
    return Deciding(
        (descriptor.up0, descriptor.up1),
        (descriptor.down0, descriptor.down1),
        dynamic=descriptor.dynamic,
        predefined=Code.of(descriptor.granularity),
        reverse=descriptor.reverse,
        priced=True,
        dwell=descriptor.dwell,
        cost=(descriptor.cost_fine, descriptor.cost_medium, descriptor.cost_coarse),
        uses=min(255, -(-descriptor.tokens // MACHINE.rows)),
        reorganization=tiles * descriptor.blocks * MACHINE.block >> 4,
    )


def equal(found, sums, table):
    outputs = sums.shape[1]
    assert found.fault == Part.NONE
    np.testing.assert_array_equal(found.sums[:, :outputs], sums)
    np.testing.assert_array_equal(found.values[:, :outputs], table(sums))


@given(
    seed=st.integers(0, 2**32 - 1),
    granularity=st.sampled_from(list(Granularity)),
    outputs=st.integers(1, 40),
    inputs=st.integers(1, 90),
    tokens=st.integers(16, 40),
)
@settings(max_examples=60)
def test_a_static_matrix(top, seed, granularity, outputs, inputs, tokens):
    random = np.random.default_rng(seed)
    weights = numbers(random, outputs, inputs)
    weights[random.random(weights.shape) < 0.6] = 0
    weights[:, 0] = 1  # so that no tile is left out
    packed = PACKERS[granularity](weights, MACHINE)
    activations, table = numbers(random, tokens, inputs), requantizer(random, outputs, relu=True)
    image = Image(MACHINE, ROWS)
    gathers = granularity is Granularity.COARSE
    watching = {"log2_samples": 4, "log2_channels": (outputs - 1).bit_length()}
    whole = descriptor_of(outputs, inputs, tokens, granularity=granularity, gather=gathers, **watching)
    at = image.add(whole, table, gather=packed.gather if gathers else None)
    top.reset()
    top.load(image)
    memory = Memory(weight_bits=int(random.integers(8, 80)), latency=int(random.integers(0, 9)))
    found = top.run(at, activations, packed, feed=Feed.of(packed, tokens, MACHINE, memory))

    sums = run(packed, activations, MACHINE)
    equal(found, sums, table)
    assert found.counters["cycles"] == simulate(packed, tokens, MACHINE, memory).cycles
    assert found.metric == observe(table(sums), Observing(4, 0, 0, watching["log2_channels"])).metric
    assert not found.switches


@given(
    seed=st.integers(0, 2**32 - 1),
    first=st.sampled_from(list(Granularity)),
    outputs=st.integers(1, 60),
    inputs=st.integers(1, 200),
    tokens=st.integers(16, 40),
    reverse=st.booleans(),
)
@settings(max_examples=150)
def test_a_dynamic_matrix_that_switches_in_the_middle(top, seed, first, outputs, inputs, tokens, reverse):
    random = np.random.default_rng(seed)
    master, activations = master_of(random, outputs, inputs), numbers(random, tokens, inputs)
    table = requantizer(random, outputs)
    whole = descriptor_of(
        outputs,
        inputs,
        tokens,
        granularity=first,
        dynamic=True,
        reverse=reverse,
        dwell=int(random.integers(0, 2)),
        **dict(zip(("down0", "up0", "down1", "up1"), (100, 200, 300, 400), strict=True)),
        **{f"cost_{one}": int(random.integers(1, 9)) for one in Granularity},
    )
    image = Image(MACHINE, ROWS)
    at = image.add(whole, table, master=master)
    top.reset()
    top.load(image)
    setup = top.run(at, activations, master).cycles - top.run(at, activations, master).counters["cycles"]

    when = np.sort(random.choice(np.arange(1, 600), 6, replace=False))
    seen = [(int(cycle), int(metric)) for cycle, metric in zip(when, random.integers(0, 500, 6), strict=True)]
    top.reset()
    top.load(image)
    found = top.run(at, activations, master, observations=[(setup + cycle, metric) for cycle, metric in seen])

    supply = Reorganized(master, (outputs, inputs), deciding_of(whole), Decided(Code.of(first)), seen)
    model = simulate_supply(supply, tokens, MACHINE, Memory())
    seen[:] = [one for one in seen if one[0] <= model.cycles]
    equal(found, run(supply.program(), activations, MACHINE), table)
    assert found.counters["cycles"] == model.cycles
    assert found.counters["load_stalls"] == model.load_stalls
    states = [supply.at(cycle).granularity for cycle in range(model.cycles + 2)]
    changes = [
        (cycle, new.granularity) for cycle, (old, new) in enumerate(itertools.pairwise(states)) if new is not old
    ]
    assert [(cycle - setup, granularity) for cycle, granularity in found.switches] == changes
    assert found.granularity is states[-1].granularity


def test_a_watched_matrix_tells_the_next(top):
    """Control hears the variance of what the matrix before made, and dwells; between runs its state is kept."""
    random = np.random.default_rng(3)
    outputs, inputs, tokens = 12, 20, 16
    producer = numbers(random, inputs, 8)
    packed, table = program.dense(producer, MACHINE), Requantizer(*(np.full(inputs, n) for n in (0, 1 << 10, 20)))
    channels = (inputs - 1).bit_length()
    consumer = descriptor_of(
        *(outputs, inputs, tokens),
        granularity=Granularity.MEDIUM,
        dynamic=True,
        dwell=1,
        down0=4,
        up0=6,
        down1=90,
        up1=100,
        cost_fine=9,
        cost_medium=1,
        cost_coarse=1,
    )
    image, master = Image(MACHINE, ROWS), master_of(random, outputs, inputs)
    watched = descriptor_of(inputs, 8, tokens, listed=False, count=8, log2_samples=4, log2_channels=channels)
    first = image.add(watched, table)
    second = image.add(consumer, requantizer(random, outputs), master=master)
    top.reset()
    top.load(image)

    deciding, state, seen = deciding_of(consumer), Decided(Code.MEDIUM), []
    for size in (127, 127, 127, 10, 10, 10, 127):
        made = top.run(first, random.integers(-size, size + 1, (tokens, 8)).astype(np.int8), packed, matrix=7)
        metric = observe(made.values[:, :inputs], Observing(4, 0, 0, channels)).metric
        assert made.metric == metric
        state = tick(deciding, state, metric)
        found = top.run(second, numbers(random, tokens, inputs), master, matrix=8)
        assert found.fault == Part.NONE
        if state.request:
            state = Decided(state.target, state.target)
        assert found.granularity is state.granularity.granularity
        seen.append(found.granularity)
    assert set(seen) == {Granularity.MEDIUM, Granularity.FINE}


def damaged(random, rows, at):
    rows = [row.copy() for row in rows]
    rows[at + random.integers(0, 2)][random.integers(0, 15)] ^= 1 << random.integers(0, 8)
    return rows


def test_whatever_is_wrong_ends_with_a_fault(top):
    random = np.random.default_rng(4)
    weights, activations = numbers(random, 8, 40), numbers(random, 16, 40)
    packed, table = program.fine(weights, MACHINE), requantizer(random, 8)
    image = Image(MACHINE, ROWS)
    at = image.add(descriptor_of(8, 40, 16), table)
    whole = list(image.rows)

    for _ in range(20):  # a descriptor with a bit that is wrong
        image.rows[:] = damaged(random, whole, at)
        top.reset()
        top.load(image)
        assert top.run(at, activations, packed, limit=10_000).fault == Part.DESCRIPTOR
    image.rows[:] = whole
    top.reset()  # rows that aren't loaded
    assert top.run(at, activations, packed, limit=10_000).fault == Part.METADATA
    top.reset()
    top.load(image)  # tiles that don't come: the watchdog
    starved = Feed(offered=np.zeros(9000, np.bool_))
    assert top.run(at, activations, packed, feed=starved, limit=20_000).fault == Part.ENGINE
    top.reset()
    top.load(image)  # tiles for another matrix: blocks that there aren't
    other = program.fine(numbers(random, 8, 80), MACHINE)
    found = top.run(at, activations, other, limit=20_000)
    assert (found.fault, Fault(found.code)) == (Part.ENGINE, Fault.BLOCK)
    again = top.run(at, activations, packed, limit=100)  # the fault stays
    assert again.fault == Part.ENGINE


def test_tags_beyond_the_memory_are_refused(top):
    """Not read from its beginning instead."""
    random = np.random.default_rng(6)
    master, activations = master_of(random, 8, 40), numbers(random, 16, 40)
    image, costs = Image(MACHINE, ROWS), {f"cost_{one}": 1 for one in Granularity}
    whole = descriptor_of(8, 40, 16, granularity=Granularity.MEDIUM, dynamic=True, **costs)
    at = image.add(whole, requantizer(random, 8), master=master)
    rows = image.rows
    table = rows[: whole.blocks]
    last = replace(whole, table=ROWS - len(table), channels=at - 4)  # two tiles of four, two channels a row
    rows[at : at + 2] = np.frombuffer(last.to_int().to_bytes(32, "little"), np.uint8).reshape(2, 16)
    rows += [rows[0]] * (ROWS - len(rows) - len(table)) + table
    top.reset()
    top.load(image)
    assert top.run(at, activations, master, limit=10_000).fault == Part.METADATA


def test_an_image_refuses_what_disagrees():
    random = np.random.default_rng(5)
    image, master = Image(MACHINE, 64), master_of(random, 8, 40)
    with pytest.raises(HardwareError, match="a dynamic matrix must have a master copy"):
        image.add(descriptor_of(8, 40, 16), requantizer(random, 8), master=master)
    with pytest.raises(HardwareError, match="channels must be 8, one an output, not 4"):
        image.add(descriptor_of(8, 40, 16), requantizer(random, 4))
    with pytest.raises(HardwareError, match="metadata must have at most 64 rows"):
        for _ in range(20):
            image.add(descriptor_of(8, 40, 16), requantizer(random, 8))
