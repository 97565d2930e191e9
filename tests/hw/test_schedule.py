"""Runs: cut so that least is fetched."""

from __future__ import annotations

import numpy as np

from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import dense
from regrain.hw.model.timing import simulate
from regrain.hw.networks.schedule import Source, added, cut, flat, scheduled, stalls
from regrain.hw.networks.variants import keep, reorganized

MACHINE = Machine()
WEIGHTS = np.random.default_rng(0).integers(-20, 21, (48, 96)).astype(np.int8)
PROGRAM = dense(WEIGHTS, MACHINE)


def test_tokens_that_fit_are_one_run():
    timing, runs = scheduled(PROGRAM, 100, MACHINE, Memory())
    assert runs == 1 and timing == simulate(PROGRAM, 100, MACHINE, Memory())


def test_tokens_that_do_not_fit_fetch_least():
    memory = Memory(buffer_bits=64 * 96 * 8)  # four passes
    timing, runs = scheduled(PROGRAM, 1000, MACHINE, memory)
    whole = simulate(PROGRAM, 1000, MACHINE, memory)
    assert runs == -(-1000 // 64)
    fetched = [one.events.weight_bits_fetched + one.events.activation_bits_fetched for one in (timing, whole)]
    assert fetched[0] < fetched[1]
    assert timing.events.macs == whole.events.macs and timing.events.words == whole.events.words
    parts = [(simulate(PROGRAM, 64, MACHINE, memory), 15), (simulate(PROGRAM, 1000 - 15 * 64, MACHINE, memory), 1)]
    assert timing == added(parts)
    tiny = Memory(buffer_bits=1)
    assert scheduled(PROGRAM, 64, MACHINE, tiny)[0].events.macs == np.count_nonzero(WEIGHTS) * 64
    assert cut(PROGRAM, 1000, MACHINE, memory) == [(64, 15), (40, 1)] and cut(PROGRAM, 64, MACHINE, memory) == [(64, 1)]
    assert cut(PROGRAM, 1000, MACHINE, Memory()) == [(1000, 1)]


def test_sums():
    one = simulate(PROGRAM, 5, MACHINE, Memory(latency=9))
    twice = added([(one, 2)])
    assert {name: 2 * value for name, value in flat(one).items()} == flat(twice)
    assert flat(added([])) == dict.fromkeys(flat(one), 0)
    assert set(stalls(one)) == {"load", "activation", "drain"} and stalls(twice)["load"] == 2 * one.load_stalls > 0


def test_a_master_copy_is_fetched_instead_of_packed_tiles():
    mask = keep(Granularity.FINE, np.random.default_rng(0).random(WEIGHTS.shape), 0.5, 1, MACHINE)
    program = reorganized(Granularity.FINE, (WEIGHTS * mask).astype(np.int8), mask, MACHINE)
    source = Source.of(Granularity.FINE, program, MACHINE)
    assert source.words == 3 * 96
    made, _ = scheduled(program, 100, MACHINE, Memory(), source)
    packed, _ = scheduled(program, 100, MACHINE, Memory())
    assert made.events.weight_bits_fetched == source.words * 16 * 9 != packed.events.weight_bits_fetched
    assert made.cycles > packed.cycles and made.events.macs == packed.events.macs
    slow = scheduled(program, 100, MACHINE, Memory(weight_bits=16), source)[0]
    assert 3 * 96 * 9 < slow.cycles < 1.3 * 3 * 96 * 9  # 144 bits a word at 16 a cycle, far slower than the array
