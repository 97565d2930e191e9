"""The engine against plain integers and the cycle model, word for word and cycle for cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.cosim.engine import EngineSimulation
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.native import counters_of
from regrain.hw.cosim.simulation import Source
from regrain.hw.cosim.words import pack, register
from regrain.hw.machine import Machine
from regrain.hw.model.golden import Requantizer, product
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import blocks, channels, dense, fine
from regrain.hw.model.timing import simulate, tail
from regrain.hw.rtl.engine import job_layout
from regrain.hw.rtl.layouts import Fault

SMALL = Machine(rows=4, pes=2, lanes=2, bank_words=64, list_entries=8)
PATIENCE = 9
TILES = 8
FORMS = {
    "dense": dense,
    "fine": fine,
    "fine N:M": lambda weights, machine: fine(weights, machine, count=machine.block),
    "blocks": blocks,
    "blocks, fine inside": lambda weights, machine: blocks(weights, machine, inside=True),
    "channels": channels,
}


@pytest.fixture(scope="module")
def engine():
    return EngineSimulation(SMALL, tiles=TILES, patience=PATIENCE)


def matrix(random, outputs, inputs, density):
    """Weights of which whole channels, blocks and single ones are zero."""
    weights = random.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    weights[random.random(weights.shape) > density] = 0
    weights[:, random.random(inputs) > density**0.5] = 0
    weights[random.random(outputs) > density**0.3] = 0
    return weights


def requantizer(random, channels_made, relu):
    """Channels at random; of every other one, most values come out between the bounds: sums have about 15 bits."""
    factor = random.integers(0, 1 << random.integers(1, 17, channels_made))
    fits = np.array([int(each).bit_length() for each in factor]) + random.integers(6, 12, channels_made)
    calm = np.arange(channels_made) % 2 == 1
    return Requantizer(
        random.integers(-(1 << 20), 1 << 20, channels_made) >> np.where(calm, 7, 0),
        factor,
        np.where(calm, fits, random.integers(1, 41, channels_made)),
        relu,
    )


def expected(program, weights, activations):
    """Accumulators of the tiles that are run, one after the other: (tokens, tiles * outputs)."""
    whole = np.zeros((len(activations), TILES, SMALL.outputs), np.int64)
    whole.reshape(len(activations), -1)[:, : len(weights)] = product(weights, activations)
    return whole[:, list(program.tile_numbers)].reshape(len(activations), -1)


def stalls(random, words):
    """A feed that holds words and activations back at random."""
    return Feed(
        delay=random.integers(0, 3, words) * random.integers(0, 2),
        offered=random.random(400) < random.uniform(0.2, 1),
        transfer=int(random.integers(0, 40)),
        latency=int(random.integers(0, 9)),
        room=int(random.integers(1, 4)),
        fetches=int(random.integers(0, 12)),
        ready=random.random(400) < random.uniform(0.2, 1),
    )


def fields(counters):
    """Stalls, words and the engine's tail make up all cycles."""
    return counters["words"] + counters["load_stalls"] + counters["act_stalls"] + counters["drain_stalls"]


@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(sorted(FORMS)),
    outputs=st.integers(1, 24),
    inputs=st.integers(1, 60),
    tokens=st.integers(1, 14),
    density=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    relu=st.booleans(),
    stalled=st.booleans(),
)
@settings(max_examples=400)
def test_values_and_events(engine, seed, form, outputs, inputs, tokens, density, relu, stalled):
    random = np.random.default_rng(seed)
    weights = matrix(random, outputs, inputs, density)
    program = FORMS[form](weights, SMALL)
    activations = random.integers(-128, 128, (tokens, inputs)).astype(np.int8)
    if not program.tiles:
        return
    table = requantizer(random, len(program.tiles) * SMALL.outputs, relu)
    feed = stalls(random, program.words) if stalled else None
    outcome = engine.run(program, activations, table, feed, limit=20_000)
    sums = expected(program, weights, activations)
    assert not outcome.fault
    np.testing.assert_array_equal(outcome.sums, sums)
    np.testing.assert_array_equal(outcome.values, table(sums))

    passes = -(-tokens // SMALL.rows)
    counters = outcome.counters
    assert counters["words"] == program.words * passes
    assert counters["bank_writes"] == program.words
    assert counters["macs"] == tokens * sum(np.count_nonzero(tile.values) for tile in program.tiles)
    assert counters["steps"] == passes * sum(tile.steps for tile in program.tiles)
    listed = [tile for tile in program.tiles if tile.listed]
    assert counters["list_reads"] == passes * sum(tile.steps for tile in listed)
    assert counters["list_writes"] == sum(tile.steps for tile in listed)
    assert counters["gather_reads"] == (counters["steps"] if form == "channels" else 0)
    assert counters["tokens"] == tokens * len(program.tiles)
    assert counters["cycles"] == outcome.cycles == fields(counters) + 2 * SMALL.rows + SMALL.pes + 6


def predicted(program, tokens, machine):
    """Cycles and stalls without limits of memory, pass by pass, from what the docstrings say."""
    passes = -(-tokens // machine.rows)
    last, free = 0, 1  # cycles of the last issue, and from which the bank takes words
    load = drain = 0
    for tile in program.tiles:
        full = free + tile.words  # the cycle after the last word's
        swap = max(last, full, 1)
        load += swap - last
        free = swap + 2
        for number in range(passes):
            begin = (swap if number == 0 else last) + 1
            end = begin + tile.words - 1
            wait = max(0, last + machine.rows - end) if last else 0
            drain, last = drain + wait, end + wait
    return last + 2 * machine.rows + machine.pes + 6, load, drain


@given(seed=st.integers(0, 2**32 - 1), form=st.sampled_from(sorted(FORMS)), tokens=st.integers(1, 14))
@settings(max_examples=200)
def test_cycles_are_those_of_the_rules(engine, seed, form, tokens):
    random = np.random.default_rng(seed)
    program = FORMS[form](matrix(random, 24, random.integers(1, 60), 0.4), SMALL)
    if not program.tiles:
        return
    outcome = engine.run(program, np.ones((tokens, program.shape[1]), np.int8))
    counters = outcome.counters
    assert (outcome.cycles, counters["load_stalls"], counters["drain_stalls"]) == predicted(program, tokens, SMALL)


@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(sorted(FORMS)),
    tokens=st.integers(1, 20),
    weight_bits=st.sampled_from([None, 7, 40, 100]),
    activation_bits=st.sampled_from([None, 16, 300]),
    latency=st.integers(0, 30),
    buffer_bits=st.sampled_from([1, 4000, 1 << 20]),
)
@settings(max_examples=300)
def test_every_stall_is_predicted(engine, seed, form, tokens, weight_bits, activation_bits, latency, buffer_bits):
    random = np.random.default_rng(seed)
    program = FORMS[form](matrix(random, 24, random.integers(1, 60), 0.4), SMALL)
    if not program.tiles:
        return
    memory = Memory(weight_bits, activation_bits, latency, buffer_bits)
    timing = simulate(program, tokens, SMALL, memory)
    feed = Feed.of(program, tokens, SMALL, memory)
    outcome = engine.run(program, np.ones((tokens, program.shape[1]), np.int8), feed=feed)
    counters = outcome.counters
    assert outcome.cycles == timing.cycles
    assert counters["load_stalls"] == timing.load_stalls
    assert counters["act_stalls"] == timing.activation_stalls
    assert counters["drain_stalls"] == timing.drain_stalls


@pytest.mark.parametrize("form", ["blocks", "blocks, fine inside", "channels"])
def test_blocks_of_ten_bits(engine, form):
    """Eight tiles, and of as many inputs as there can be a few: numbers of blocks with all their bits."""
    random, inputs = np.random.default_rng(3), 8192
    for _ in range(4):
        weights = np.zeros((TILES * SMALL.outputs, inputs), np.int8)
        kept = random.choice(inputs // 8, SMALL.list_entries, replace=False)
        whole = weights.reshape(TILES, SMALL.outputs, inputs // 8, 8)
        whole[:, :, kept] = random.integers(1, 128, (TILES, SMALL.outputs, SMALL.list_entries, 8))
        activations = random.integers(-128, 128, (3, inputs)).astype(np.int8)
        program = FORMS[form](weights, SMALL)
        table = requantizer(random, len(weights), relu=False)
        outcome = engine.run(program, activations, table)
        np.testing.assert_array_equal(outcome.sums, product(weights, activations))
        np.testing.assert_array_equal(outcome.values, table(outcome.sums))


def test_as_many_tiles_of_tokens_as_there_can_be(engine):
    """Events of a long job, which takes a million cycles; afterwards they stand still."""
    random, passes = np.random.default_rng(6), 65_535
    weights = random.integers(1, 128, (4, 16)).astype(np.int8)
    activations = random.integers(-128, 128, (passes * SMALL.rows - 1, 16)).astype(np.int8)
    program = channels(weights, SMALL)
    ready = random.random(1 << 21) < 0.5
    outcome = engine.run(program, activations, feed=Feed(ready=ready))
    np.testing.assert_array_equal(outcome.sums, product(weights, activations))
    counters, steps = outcome.counters, program.tiles[0].steps
    assert counters["words"] == 16 * passes
    assert counters["macs"] == 64 * len(activations)
    assert counters["steps"] == counters["list_reads"] == counters["gather_reads"] == steps * passes
    assert counters["tokens"] == len(activations)
    assert counters["cycles"] == outcome.cycles == fields(counters) + tail(SMALL)
    assert passes // 2 < counters["act_stalls"] < 2 * passes
    run = engine.simulation.run(cycles=3)
    assert (run["counters"] == run["counters"][0]).all() and counters_of(run["counters"][0]) == counters


def test_the_default_machine():
    machine = Machine()
    random = np.random.default_rng(5)
    weights = matrix(random, 40, 100, 0.5)
    activations = random.integers(-128, 128, (37, 100)).astype(np.int8)
    outcome = EngineSimulation(machine).run(fine(weights, machine), activations)
    np.testing.assert_array_equal(outcome.sums[:, :40], product(weights, activations))
    assert not outcome.sums[:, 40:].any()


def words_of(program):
    return pack(program.tiles, SMALL)


def field(words, name, value):
    """Words with one field behind the weights replaced in the second."""
    at = SMALL.word_bits + {"first": 0, "block": 1, "count": 11, "last": 14, "listed": 15, "gather": 16}[name]
    width = {"block": 10, "count": 3}.get(name, 1)
    changed = words.copy()
    for bit in range(at, at + width):
        changed[1, bit // 32] &= ~np.uint32(1 << bit % 32)
        changed[1, bit // 32] |= np.uint32((value >> bit - at & 1) << bit % 32)
    return changed


def one_word_steps(listed):
    """A tile of three steps of one word each."""
    tile = fine(np.eye(4, 24, dtype=np.int8)[:, [0, 1, 2, 3] + [4] * 20], SMALL).tiles[0]
    tile = replace(tile, values=np.ones((3, 4), np.int8), index=np.zeros((3, 4), np.uint8), listed=listed)
    return replace(tile, blocks=np.arange(3, dtype=np.uint16), counts=np.ones(3, np.uint8))


@pytest.mark.parametrize(
    ("name", "value", "listed", "fault"),
    [
        ("first", 0, True, Fault.FRAMING),
        ("count", 1, True, Fault.FRAMING),
        ("block", 3, True, Fault.BLOCK),
        ("block", 1023, True, Fault.BLOCK),
        ("listed", 0, True, Fault.MIXED),
        ("gather", 1, False, Fault.BLOCK),
        ("block", 2, False, Fault.ORDER),
    ],
)
def test_a_bad_stream_stops_the_engine(engine, name, value, listed, fault):
    words, ends = pack([one_word_steps(listed), one_word_steps(listed)], SMALL)
    activations = np.ones((5, 24), np.int8)
    outcome = engine.run_words(field(words, name, value), ends, activations)
    assert outcome.fault is fault
    assert not outcome.left.any()
    assert outcome.cycles == (4 if name == "count" else 3)  # the second word is offered in cycle 2
    later = np.concatenate([words[:3], field(words[3:], name, value)])
    outcome = engine.run_words(later, ends, activations, feed=Feed(delay=np.array([0, 0, 0, 30, 30, 30])))
    assert outcome.fault is fault
    assert outcome.left[:, 0].all() and not outcome.left[:, 1].any()
    assert (outcome.sums[:, :4] == 3).all()
    good = engine.run_words(words, ends, activations)
    assert not good.fault and (good.sums == 3).all()


def test_tiles_too_large_for_a_bank(engine):
    tile = one_word_steps(listed=True)
    long = replace(tile, values=np.ones((9, 4), np.int8), index=np.zeros((9, 4), np.uint8))
    long = replace(long, blocks=np.zeros(9, np.uint16), counts=np.ones(9, np.uint8))
    outcome = engine.run_words(*pack([long], SMALL), np.ones((1, 8), np.int8))
    assert outcome.fault is Fault.LIST
    wide = replace(tile, values=np.ones((72, 4), np.int8), index=np.zeros((72, 4), np.uint8), listed=False)
    wide = replace(wide, blocks=np.arange(9, dtype=np.uint16), counts=np.full(9, 8, np.uint8))
    outcome = engine.run_words(*pack([wide], SMALL), np.ones((1, 72), np.int8))
    assert outcome.fault is Fault.WORDS
    assert outcome.cycles == 1 + SMALL.bank_words + 1


def test_a_tile_that_fills_the_bank(engine):
    weights = np.ones((4, 64), np.int8)
    outcome = engine.run(dense(weights, SMALL), np.ones((4, 64), np.int8))
    assert (outcome.sums == 64).all()


@pytest.mark.parametrize(
    "job",
    [
        {"tiles": 0},
        {"tiles": TILES + 1},
        {"token_tiles": 0},
        {"last_rows": 0},
        {"last_rows": 5},
        {"blocks": 1025},
        {"gathered": 9},
        *({"tiles": TILES | 1 << bit} for bit in range(4, 16)),
        *({"last_rows": rows} for rows in (6, 7)),
        *({"blocks": 1024 | 1 << bit} for bit in range(10)),
        *({"gathered": 8 | 1 << bit} for bit in (0, 1, 2, *range(4, 11))),
    ],
)
def test_an_impossible_job_is_refused(engine, job):
    words, ends = words_of(dense(np.ones((4, 8), np.int8), SMALL))
    outcome = engine.run_words(words, ends, np.ones((1, 8), np.int8), job=job)
    assert outcome.fault is Fault.JOB
    assert outcome.cycles == 1
    assert not outcome.left.any()


@pytest.mark.parametrize("missing", ["weights", "activations"])
def test_the_watchdog_ends_a_hang(engine, missing):
    words, ends = words_of(dense(np.ones((4, 16), np.int8), SMALL))
    feed = Feed(offered=np.arange(3000) < 5) if missing == "weights" else Feed(ready=np.zeros(3000))
    outcome = engine.run_words(words, ends, np.ones((1, 16), np.int8), feed=feed)
    assert outcome.fault is Fault.WATCHDOG
    taken = 5 if missing == "weights" else 17
    assert outcome.cycles == taken + (1 << PATIENCE)
    assert not outcome.left.any()


def test_no_more_words_are_taken_than_the_job_has(engine):
    tile = one_word_steps(listed=True)
    words, _ = pack([tile, tile], SMALL)
    fields = {"tiles": 1, "token_tiles": 1, "last_rows": 1, "blocks": 3, "gathered": 0, "relu": 0}
    given = {"start": np.arange(60) == 0, "job": register(job_layout(SMALL), fields), "act_ready": 1}
    run = engine.simulation.run(given, sources=[Source("stream__valid", "stream__ready", {"stream__payload": words})])
    assert run["done"].sum() == 1 and not run["fault"].any()
    assert run.taken == (tile.words,)


def test_what_does_not_fit_is_refused(engine):
    program, tokens = dense(np.ones((4, 16), np.int8), SMALL), np.ones((1, 16), np.int8)
    with pytest.raises(HardwareError, match="channels must be those of all tiles, 4, not 3"):
        engine.run(program, tokens, requantizer(np.random.default_rng(0), 3, relu=False))
    with pytest.raises(HardwareError, match=r"delay must be \(16,\), a number for each word, not \(2,\)"):
        engine.run(program, tokens, feed=Feed(delay=np.zeros(2, np.int64)))
    with pytest.raises(HardwareError, match="a program must have a tile to be run"):
        engine.run(channels(np.zeros((4, 16), np.int8), SMALL), tokens)


def test_a_job_that_takes_too_long_is_an_error(engine):
    program = dense(np.ones((4, 16), np.int8), SMALL)
    with pytest.raises(HardwareError, match="the engine must finish within 20 cycles"):
        engine.run(program, np.ones((1, 16), np.int8), limit=20)
    assert (engine.run(program, np.ones((1, 16), np.int8)).sums == 16).all()
