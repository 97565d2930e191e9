"""Tiles out of a master copy, fast: the very cycles of the reorganizer's model, which are the hardware's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding
from regrain.hw.model.memory import Memory
from regrain.hw.model.pace import IN_FLIGHT, Pace, Port
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import simulate_supply
from regrain.hw.networks.repacking import Repacking, forms, master_word_bits
from regrain.hw.networks.schedule import Source
from regrain.hw.networks.variants import keep, reorganized

SMALL = Machine(rows=4, pes=2, lanes=2, bank_words=4096, list_entries=512)
MEMORIES = st.builds(Memory, weight_bits=st.none() | st.integers(1, 200), latency=st.sampled_from([0, 0, 3, 20]))
SEEDS = st.integers(0, 2**32 - 1)


def matrix(random, machine):
    """Weights with zeros of all kinds, and scores with ties."""
    shape = int(random.integers(1, 6 * machine.outputs)), int(random.integers(1, random.choice([60, 600])))
    weights, scores = random.integers(-128, 128, shape).astype(np.int8), random.random(shape)
    weights[random.random(shape) < random.choice([0, 0.5, 0.9])] = 0
    weights[random.random(shape[0]) < random.choice([0, 0.6])] = 0
    weights[:, random.random(shape[1]) < random.choice([0, 0.6])] = 0
    scores[:, random.random(shape[1]) < 0.3] = 0
    return weights, scores


def master_port(memory, machine):
    """Words come after the latency, and as their bits do."""
    word = master_word_bits(machine)
    parts, done = min(word, memory.weight_bits or word), -word

    def answers(cycle):
        nonlocal done
        done = max(done + word, (cycle + 1 + memory.latency) * parts)
        return -(-done // parts)

    return Port(answers=answers)


@settings(max_examples=150)
@given(SEEDS, st.sampled_from([SMALL, Machine()]), st.sampled_from(list(Granularity)), MEMORIES)
def test_cycles_and_words_are_those_of_the_exact_model(seed, machine, granularity, memory):
    random = np.random.default_rng(seed)
    weights, scores = matrix(random, machine)
    density, tokens = random.random(), int(random.integers(1, 60))
    masks = {one: np.ascontiguousarray(keep(one, scores, density, 1, machine)) for one in Granularity}
    master = Master.of(
        weights,
        machine,
        fine=masks[Granularity.FINE],
        medium=np.ascontiguousarray(masks[Granularity.MEDIUM][:: machine.outputs, :: machine.block]),
        coarse=masks[Granularity.COARSE][0],
    )
    code, pace = Code.of(granularity), Pace(master=master_port(memory, machine))
    always = Deciding((0, 0), (0, 0), dynamic=False, predefined=code)
    exact = Reorganized(master, weights.shape, always, Decided(code), pace=pace)
    wanted = simulate_supply(exact, tokens, machine, memory)

    mask = masks[granularity]
    program = reorganized(granularity, (weights * mask).astype(np.int8), mask, machine)
    source = Source.of(granularity, program, machine)
    assert simulate_supply(source.supply(program, machine, memory), tokens, machine, memory) == wanted
    assert source.words == pace.master.reads
    for ours, theirs in zip(program.tiles, exact.tiles, strict=True):
        for name in ("values", "index", "blocks", "counts"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert (ours.listed, ours.gather) == (theirs.listed, theirs.gather)


def test_tiles_in_the_same_circumstances_are_looked_at_once():
    weights = np.ones((64, 96), np.int8)
    program = reorganized(Granularity.FINE, weights, weights != 0, SMALL)
    known = {}
    supply = Repacking(program, forms(Granularity.FINE, program, SMALL), SMALL, Memory(), known)
    simulate_supply(supply, 40, SMALL, Memory())
    assert len(program.tiles) == 16 and len(known) < 6
    again = Repacking(program, supply.forms, SMALL, Memory(), known)
    count = len(known)
    simulate_supply(again, 40, SMALL, Memory())
    assert len(known) == count


@pytest.mark.parametrize("latency", [0, 7, 40])
def test_a_far_memory_gives_no_more_words_than_are_in_flight(latency):
    weights = np.ones((4, 800), np.int8)
    program = reorganized(Granularity.FINE, weights, weights != 0, SMALL)
    memory = Memory(latency=latency)
    supply = Source.of(Granularity.FINE, program, SMALL).supply(program, SMALL, memory)
    timing = simulate_supply(supply, 4, SMALL, memory)
    rounds = 800 / IN_FLIGHT * max(IN_FLIGHT, latency + 3)  # asked for, answered after the latency and one, taken
    assert abs(timing.load_stalls - rounds) < 20 + latency
