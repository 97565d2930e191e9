"""Runs: cut so that least is fetched; the reorganizer's speed is that of its own cycle model."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.memory import Memory
from regrain.hw.model.pace import Pace
from regrain.hw.model.program import dense
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import simulate
from regrain.hw.networks.schedule import Source, added, flat, scheduled, stalls
from regrain.hw.networks.variants import REORGANIZED, encode, keep

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


def test_sums():
    one = simulate(PROGRAM, 5, MACHINE, Memory(latency=9))
    twice = added([(one, 2)])
    assert {name: 2 * value for name, value in flat(one).items()} == flat(twice)
    assert flat(added([])) == dict.fromkeys(flat(one), 0)
    assert set(stalls(one)) == {"load", "activation", "drain"} and stalls(twice)["load"] == 2 * one.load_stalls > 0


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(32, 288), (48, 64), (16, 576)])
def test_the_reorganizer_is_never_faster_than_its_cycle_model(granularity, density, shape):
    rng = np.random.default_rng(1)
    weights, scores = rng.integers(1, 9, shape).astype(np.int8), rng.random(shape)
    masks = {one: keep(one, scores, density, 1, MACHINE) for one in Granularity}
    master = Master.of(
        weights,
        MACHINE,
        fine=masks[Granularity.FINE],
        medium=np.ascontiguousarray(masks[Granularity.MEDIUM][::16, ::8]),
        coarse=np.ascontiguousarray(masks[Granularity.COARSE][0]),
    )
    code = dict(zip(Granularity, (Code.FINE, Code.MEDIUM, Code.COARSE), strict=True))[granularity]
    program = encode(REORGANIZED[granularity], (weights * masks[granularity]).astype(np.int8), MACHINE)
    source = Source.of(granularity, program, MACHINE)
    pace, exact = Pace(), 0
    for number, tile in enumerate(program.tiles):
        sent = pace.tile(master, number, code, asked=exact)
        assert len(sent.words) == tile.words
        exact = sent.words[-1] + 1
    # One pass of a tile's words is shorter than its load: cycles of the loads alone.
    memory = source.memory(program, MACHINE, Memory())
    bits = sum(tile.words * MACHINE.word_bits for tile in program.tiles)
    ours = len(program.tiles) * memory.latency + bits / (memory.weight_bits or 1)
    assert exact <= ours + len(program.tiles) <= 1.1 * exact + 26 * len(program.tiles)
    assert pace.master.reads == source.words


def test_a_master_copy_is_fetched_instead_of_packed_tiles():
    mask = keep(Granularity.FINE, np.random.default_rng(0).random(WEIGHTS.shape), 0.5, 1, MACHINE)
    program = encode("fine", (WEIGHTS * mask).astype(np.int8), MACHINE)
    source = Source.of(Granularity.FINE, program, MACHINE)
    assert source.words == 3 * 96
    made, _ = scheduled(program, 100, MACHINE, Memory(), source)
    packed, _ = scheduled(program, 100, MACHINE, Memory())
    assert made.events.weight_bits_fetched == source.words * 16 * 9 != packed.events.weight_bits_fetched
    assert made.cycles > packed.cycles and made.events.macs == packed.events.macs
    slow = scheduled(program, 100, MACHINE, Memory(weight_bits=16), source)[0]
    assert 3 * 96 * 9 < slow.cycles < 1.3 * 3 * 96 * 9  # 144 bits a word at 16 a cycle, far slower than the array
