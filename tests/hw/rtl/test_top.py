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
from regrain.hw.cosim import Source
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.top import TopSimulation
from regrain.hw.cosim.words import pack
from regrain.hw.machine import Machine
from regrain.hw.model import program
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding, tick
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer, run
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.observe import Observing, observe
from regrain.hw.model.program import Gather
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
    watched = observe(table(sums), Observing(4, 0, 0, watching["log2_channels"]))
    assert (found.metric, found.counts) == (watched.metric, tuple(watched.counts))
    assert not found.switches


def costs_of(random, outputs, inputs, tokens):
    """Of each granularity, so that a step may just pay."""
    tiles, blocks = -(-outputs // MACHINE.outputs), -(-inputs // MACHINE.block)
    just = (tiles * blocks * MACHINE.block >> 4) // min(255, -(-tokens // MACHINE.rows))
    steps = random.choice([0, just, just + 1], 3)
    return {f"cost_{one}": 1 + int(cost) for one, cost in zip(Granularity, steps.cumsum(), strict=True)}


def switches_as_the_model(top, master, whole, activations, table, seen):
    """Runs a dynamic matrix that is watched; `seen`: metrics, and their cycles from the engine's start on."""
    outputs, inputs = whole.outputs, activations.shape[1]
    image = Image(MACHINE, ROWS)
    at = image.add(whole, table, master=master)
    top.reset()
    top.load(image)
    alone = top.run(at, activations, master)
    setup = alone.cycles - alone.counters["cycles"]
    top.reset()
    top.load(image)
    told = [(setup + cycle, metric) for cycle, metric in seen]
    found = top.run(at, activations, master, observations=told)

    supply = Reorganized(master, (outputs, inputs), deciding_of(whole), Decided(Code.of(whole.granularity)), list(seen))
    model = simulate_supply(supply, len(activations), MACHINE, Memory())
    supply.observations = [one for one in seen if one[0] <= model.cycles]
    sums = run(supply.program(), activations, MACHINE)
    equal(found, sums, table)
    assert found.counters["cycles"] == model.cycles
    assert found.counters["load_stalls"] == model.load_stalls
    states = [supply.at(cycle).granularity for cycle in range(model.cycles + 2)]
    changes = [
        (cycle, new.granularity) for cycle, (old, new) in enumerate(itertools.pairwise(states)) if new is not old
    ]
    assert [(cycle - setup, granularity) for cycle, granularity in found.switches] == changes
    assert found.granularity is states[-1].granularity
    watched = observe(table(sums), Observing(whole.log2_samples, whole.down0, whole.up1, whole.log2_channels))
    assert (found.metric, found.counts) == (watched.metric, tuple(watched.counts))
    return found


@pytest.mark.parametrize(("outputs", "blocks", "tokens"), [(64, 505, 1030), (61, 341, 1021), (20, 505, 80)])
@pytest.mark.parametrize("more", [0, 1])
def test_a_switch_that_just_pays(top, outputs, blocks, tokens, more):
    """Of large matrices, few of whose weights are kept; not of larger ones: the watchdog is set to 4,096 cycles."""
    random = np.random.default_rng(blocks)
    tiles, inputs = -(-outputs // MACHINE.outputs), blocks * MACHINE.block
    fine, coarse = np.zeros((outputs, inputs), np.bool_), np.zeros(inputs, np.bool_)
    medium = np.zeros((tiles, blocks), np.bool_)
    for channel in random.choice(inputs, 12, replace=False):
        fine[random.integers(outputs), channel] = coarse[channel] = True
        medium[random.integers(tiles), channel // MACHINE.block] = True
    master = Master.of(numbers(random, outputs, inputs), MACHINE, fine=fine, medium=medium, coarse=coarse)
    uses = min(255, -(-tokens // MACHINE.rows))
    gap = (tiles * blocks >> 1) // uses + more
    whole = descriptor_of(
        outputs,
        inputs,
        tokens,
        granularity=Granularity.FINE,
        dynamic=True,
        log2_samples=4,
        log2_channels=(outputs - 1).bit_length(),
        **dict(zip(("down0", "up0", "down1", "up1"), (1, 2, 500, 500), strict=True)),
        cost_fine=1 + gap,
        cost_medium=1,
        cost_coarse=9,
    )
    activations, table = numbers(random, tokens, inputs), requantizer(random, outputs)
    found = switches_as_the_model(top, master, whole, activations, table, [(10, 100)])
    assert bool(found.switches) == bool(more)


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


def damaged(rows, at, bit):
    rows = [row.copy() for row in rows]
    rows[at + bit // 128][bit % 128 // 8] ^= 1 << bit % 8
    return rows


def test_whatever_is_wrong_ends_with_a_fault(top):
    random = np.random.default_rng(4)
    weights, activations = numbers(random, 8, 40), numbers(random, 16, 40)
    packed, table = program.fine(weights, MACHINE), requantizer(random, 8)
    image = Image(MACHINE, ROWS)
    at = image.add(descriptor_of(8, 40, 16), table)
    whole = list(image.rows)

    for bit in range(256):  # a descriptor with a bit that is wrong
        image.rows[:] = damaged(whole, at, bit)
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


def static(random, outputs, inputs, tokens, **others):
    """A matrix that is packed with its zeros, and what it is run with."""
    packed = program.dense(numbers(random, outputs, inputs), MACHINE)
    whole = descriptor_of(outputs, inputs, tokens, listed=False, count=8, **others)
    return whole, packed, numbers(random, tokens, inputs), requantizer(random, outputs)


def run_static(top, whole, packed, activations, table, **others):
    """In a metadata memory all of whose rows are loaded; outputs are as they should be if there is no fault."""
    image = Image(MACHINE, ROWS)
    at = image.add(whole, table)
    image.rows += image.rows[:1] * (ROWS - len(image.rows))
    top.reset()
    top.load(image)
    found = top.run(at, activations, packed, limit=1_000_000, **others)
    if found.fault == Part.NONE:
        equal(found, run(packed, activations, MACHINE), table)
    return found


@pytest.mark.parametrize("outputs", [61, 64, 65, 2040])
def test_as_many_outputs_as_the_channel_table_has(top, outputs):
    """And more of them are refused."""
    random = np.random.default_rng(outputs)
    found = run_static(top, *static(random, outputs, 8, 16))
    assert found.fault == (Part.ENGINE if outputs > 64 else Part.NONE)
    assert found.code == (Fault.JOB if outputs > 64 else Fault.NONE)


@pytest.mark.parametrize(("outputs", "channels"), [(1020, 2), (2040, 2), (2048, 0)])
def test_a_channel_table_for_a_larger_machine(top, outputs, channels):
    """The engine refuses what it is for, but not before it is read; and no row behind it is."""
    random = np.random.default_rng(11)
    whole, packed, activations, _ = static(random, outputs, 8, 16)
    rows = random.integers(0, 256, (channels + outputs // 2, 16)).astype(np.uint8)
    whole = replace(whole, channels=channels)
    rows[:2] = np.frombuffer(whole.to_int().to_bytes(32, "little"), np.uint8).reshape(2, 16)
    top.reset()
    top.load(Image(MACHINE, ROWS, list(rows)))
    found = top.run(0, activations, packed, limit=10_000)
    assert (found.fault, Fault(found.code)) == (Part.ENGINE, Fault.JOB)
    assert found.cycles > 2 * outputs


@pytest.mark.parametrize("tokens", [3, 1 << 10, 87_380, 174_765])
def test_many_tokens(top, tokens):
    """The monitor takes the first of them."""
    random = np.random.default_rng(tokens)
    watching = {"log2_samples": 10, "log2_channels": 3} if tokens >= 1 << 10 else {}
    whole, packed, activations, table = static(random, 7, 1, tokens, **watching)
    found = run_static(top, whole, packed, activations, table)
    assert found.fault == Part.NONE
    assert found.counters["tokens"] == 2 * tokens
    if watching:
        assert found.metric == observe(found.values[:, :7], Observing(10, 0, 0, 3)).metric


def test_gather_tables_for_a_larger_machine(top):
    """They are read to their end, in two cycles a row, and refused."""
    random, setup = np.random.default_rng(7), []
    for blocks in (85, 682, 1019):
        inputs = blocks * MACHINE.block
        whole = descriptor_of(4, inputs, 16, granularity=Granularity.COARSE, gather=True)
        image, gather = Image(MACHINE, ROWS), Gather.of(np.ones(inputs, np.bool_), MACHINE.block)
        at = image.add(whole, requantizer(random, 4), gather=gather)
        top.reset()
        top.load(image)
        found = top.run(at, numbers(random, 16, inputs), program.dense(numbers(random, 4, 8), MACHINE), limit=10_000)
        assert (found.fault, Fault(found.code)) == (Part.ENGINE, Fault.JOB)
        setup.append(found.cycles - 2 * blocks)
    assert len(set(setup)) == 1


def test_channels_from_far_away(top):
    """Gathered from all over a thousand blocks."""
    random = np.random.default_rng(9)
    weights = np.zeros((10, 8 * 990), np.int8)
    weights[:, random.choice(weights.shape[1], 200, replace=False)] = 1 + random.integers(0, 99, (10, 200))
    packed, table = program.channels(weights, MACHINE), requantizer(random, 10)
    image, activations = Image(MACHINE, ROWS), numbers(random, 16, weights.shape[1])
    whole = descriptor_of(*weights.shape, 16, granularity=Granularity.COARSE, gather=True)
    at = image.add(whole, table, gather=packed.gather)
    top.reset()
    top.load(image)
    equal(top.run(at, activations, packed), run(packed, activations, MACHINE), table)


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_dynamic_matrix_as_wide_as_the_lists(top, granularity):
    random = np.random.default_rng(10)
    outputs, inputs, tokens = 12, MACHINE.list_entries * MACHINE.block, 16
    whole = descriptor_of(
        *(outputs, inputs, tokens),
        granularity=granularity,
        dynamic=True,
        log2_samples=4,
        log2_channels=4,
        **{f"cost_{one}": 1 for one in Granularity},
    )
    master = Master.of(
        numbers(random, outputs, inputs),
        MACHINE,
        fine=random.random((outputs, inputs)) < 0.2,
        medium=random.random((outputs // MACHINE.outputs, MACHINE.list_entries)) < 0.5,
        coarse=random.random(inputs) < 0.5,
    )
    activations, table = numbers(random, tokens, inputs), requantizer(random, outputs)
    switches_as_the_model(top, master, whole, activations, table, [])


@pytest.mark.parametrize("begins", range(4, 88, 3))
def test_as_many_tiles_on_their_way_as_there_can_be(top, begins):
    """None has words; the granularity that is wanted changes when the queue of what was asked for is almost full."""
    random = np.random.default_rng(begins)
    outputs, inputs, tokens = 64, (8, 264, 512)[begins // 3 % 3], 160
    whole = descriptor_of(
        *(outputs, inputs, tokens),
        granularity=Granularity.MEDIUM,
        dynamic=True,
        log2_samples=4,
        log2_channels=6,
        **dict(zip(("down0", "up0", "down1", "up1"), (100, 200, 300, 400), strict=True)),
        **{f"cost_{one}": 1 for one in Granularity},
    )
    coarse = np.arange(inputs) == 0
    master = Master.of(
        numbers(random, outputs, inputs),
        MACHINE,
        fine=random.random((outputs, inputs)) < 0.1,
        medium=np.zeros((outputs // MACHINE.outputs, inputs // MACHINE.block), np.bool_),
        coarse=coarse,
    )
    told = [(begins, (450, 50)[begins % 2]), (begins + 200, 250), (begins + 450, 450), (begins + 900, 50)]
    activations, table = numbers(random, tokens, inputs), requantizer(random, outputs)
    switches_as_the_model(top, master, whole, activations, table, told)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_between_runs(top, seed):
    """Of three matrices in turn: granularity, request, and how many metrics agreed."""
    random = np.random.default_rng(seed)
    inputs, tokens = 20, 100
    thresholds = dict(zip(("down0", "up0", "down1", "up1"), (100, 200, 300, 400), strict=True))
    image, matrices = Image(MACHINE, ROWS), []
    first = int(random.integers(0, 64))
    for number, granularity in zip((first, first ^ 1 << seed, first ^ 63), Granularity, strict=True):
        outputs = int(random.integers(5, 20))
        whole = descriptor_of(
            *(outputs, inputs, tokens),
            granularity=granularity,
            dynamic=True,
            dwell=int(random.integers(0, 64)),
            **thresholds,
            **costs_of(random, outputs, inputs, tokens),
        )
        master, table = master_of(random, outputs, inputs), requantizer(random, outputs)
        matrices.append((number, image.add(whole, table, master=master), whole, master, table))
    top.reset()
    top.load(image)
    states = [Decided(Code.of(whole.granularity)) for _, _, whole, _, _ in matrices]
    for turn in [0, 1, 2, *random.integers(0, 3, 10)]:
        number, at, whole, master, table = matrices[turn]
        activations = numbers(random, tokens, inputs)
        again = top.run(at, activations, master, matrix=number)
        model = Reorganized(master, (whole.outputs, inputs), deciding_of(whole), states[turn])
        timing = simulate_supply(model, tokens, MACHINE, Memory())
        states[turn] = model.at(timing.cycles)
        equal(again, run(model.program(), activations, MACHINE), table)
        setup = again.cycles - timing.cycles

        metrics = random.integers(0, 500, 5).repeat(random.integers(1, 40, 5))[:90].tolist()
        told = [(cycle, metric) for cycle, metric in enumerate(metrics, 1)]
        model = Reorganized(master, (whole.outputs, inputs), deciding_of(whole), states[turn], told)
        early = [(cycle, metrics[0]) for cycle in range(setup + 1)]  # nothing runs yet
        observations = early + [(setup + cycle, metric) for cycle, metric in told]
        found = top.run(at, activations, master, matrix=number, observations=observations)
        timing = simulate_supply(model, tokens, MACHINE, Memory())
        states[turn] = model.at(timing.cycles)
        equal(found, run(model.program(), activations, MACHINE), table)
        assert found.counters["cycles"] == timing.cycles > 100
        assert found.granularity is states[turn].granularity.granularity


def test_rows_for_others(top):
    """One after the other, if nothing runs; one that there can't be is refused."""
    random = np.random.default_rng(8)
    image = Image(MACHINE, ROWS, list(random.integers(0, 256, (ROWS, 16)).astype(np.uint8)))
    rows, addresses = image.array(), random.permutation(ROWS)
    top.reset()
    top.load(image)
    found = top.simulation.run({"reader__read": 1, "reader__address": addresses})
    assert found["reader__ready"].all()
    assert found["reader__valid"][1:].all()
    np.testing.assert_array_equal(found["reader__data"][1:].view(np.uint8), rows[addresses[:-1]])
    assert not found["fault"].any()
    for beyond in range(10, 24):
        top.reset()
        top.load(image)
        found = top.simulation.run({"reader__read": [1, 0], "reader__address": 1 << beyond})
        assert not found["reader__ready"].any()
        assert found["fault"].tolist() == [Part.NONE, Part.METADATA]


@pytest.mark.parametrize("seed", range(16))
def test_rows_for_others_while_a_matrix_is_set_up(top, seed):
    """They take turns; what the matrix makes stays, of activations that are the same in each block."""
    random = np.random.default_rng(seed)
    outputs, inputs, tokens = random.integers(1, 17), random.integers(1, 60), 8
    coarse = bool(seed % 2)
    packed = (program.channels if coarse else program.fine)(1 + numbers(random, outputs, inputs) // 2, MACHINE)
    granularity = Granularity.COARSE if coarse else Granularity.FINE
    whole = descriptor_of(int(outputs), int(inputs), tokens, granularity=granularity, gather=coarse)
    table, image = requantizer(random, outputs), Image(MACHINE, ROWS)
    at = image.add(whole, table, gather=packed.gather if coarse else None)
    rows, cycles, share = image.array(), 2000, random.random()
    addresses = random.integers(0, len(rows), cycles)
    words, _ = pack(packed.tiles, MACHINE)
    stream = Source("stream__valid", "stream__ready", {"stream__payload": words})
    others = Source(
        "reader__read", "reader__ready", {"reader__address": addresses}, offered=random.random(cycles) < share
    )
    block = numbers(random, MACHINE.rows, MACHINE.block)
    top.reset()
    top.load(image)
    found = top.simulation.run(
        {
            "start": np.arange(cycles) == 0,
            "descriptor": at,
            "act_ready": 1,
            "activations": np.tile(block.view(np.uint8).reshape(1, -1), (cycles, 1)),
        },
        sources=[stream, others],
        until="done",
    )
    assert found["done"][-1]
    taken = (found["reader__read"] & found["reader__ready"])[:-1] == 1
    np.testing.assert_array_equal(found["reader__valid"][1:], taken)
    data = found["reader__data"][1:][taken].view(np.uint8)
    np.testing.assert_array_equal(data, rows[addresses[: len(data)]])
    left = found["out_valid"] == 1
    place = found["out_tile"] * tokens + found["out_token_tile"] * MACHINE.rows + found["out_row"]
    values = np.zeros((len(packed.tiles) * tokens, MACHINE.outputs), np.int8)
    values[place[left]] = found["out_values"][left].astype("<u4").view(np.int8).reshape(-1, MACHINE.outputs)
    activations = block[np.arange(tokens) % MACHINE.rows][:, np.arange(inputs) % MACHINE.block]
    expected = table(run(packed, activations, MACHINE))
    outcome = values.reshape(-1, tokens, MACHINE.outputs).transpose(1, 0, 2).reshape(tokens, -1)
    np.testing.assert_array_equal(outcome[:, :outputs], expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    first=st.sampled_from(list(Granularity)),
    outputs=st.integers(1, 60),
    inputs=st.integers(1, 200),
    tokens=st.integers(16, 40),
    reverse=st.booleans(),
    scale=st.integers(1, 160),
)
@settings(max_examples=120)
def test_a_dynamic_matrix_that_switches_in_the_middle(top, seed, first, outputs, inputs, tokens, reverse, scale):
    random = np.random.default_rng(seed)
    master, activations = master_of(random, outputs, inputs), numbers(random, tokens, inputs)
    whole = descriptor_of(
        outputs,
        inputs,
        tokens,
        granularity=first,
        dynamic=True,
        reverse=reverse,
        dwell=int(random.integers(0, 2)),
        log2_samples=4,
        log2_channels=(outputs - 1).bit_length(),
        **{name: scale * at for name, at in (("down0", 100), ("up0", 200), ("down1", 300), ("up1", 400))},
        **costs_of(random, outputs, inputs, tokens),
    )
    when = np.sort(random.choice(np.arange(1, 600), 6, replace=False))
    metrics = np.minimum(random.integers(0, 500 * scale, 6), 65535)
    seen = [(int(cycle), int(metric)) for cycle, metric in zip(when, metrics, strict=True)]
    switches_as_the_model(top, master, whole, activations, requantizer(random, outputs), seen)


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
