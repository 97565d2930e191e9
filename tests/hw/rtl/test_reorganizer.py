"""Tiles out of the master copy: the same words as a packer makes offline, in the cycles the model says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.cosim.simulation import Memory, Simulation
from regrain.hw.model import program
from regrain.hw.model.codes import Code
from regrain.hw.model.repack import Master, repacked
from regrain.hw.rtl.master import Refusal, entry_layout

from .reorganizing import MACHINE, PORTS, Bench, check, decoded, make_master, source_of, words_of


@pytest.fixture(scope="module")
def benches():
    return {slow: Simulation(Bench(slow=slow)) for slow in (False, True)}


EVERY = [(0, Code.FINE, False), (0, Code.MEDIUM, False), (1, Code.MEDIUM, True), (1, Code.COARSE, False)]


@pytest.mark.parametrize("slow", [False, True])
def test_all_granularities(benches, slow):
    random = np.random.default_rng(1)
    _, master, _ = make_master(random, 32, 200)
    check(benches[slow], slow, master, [*EVERY, *reversed(EVERY)], 3000, base=(40, 5, 3))


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.booleans())
def test_random_stalls_and_switches(benches, seed, slow):
    random = np.random.default_rng(seed)
    inputs = int(random.choice([1, 8, 16, 24, 100, 260, 264]))
    _, master, _ = make_master(random, int(random.integers(1, 49)), inputs, random.choice([0.0, 0.05, 0.5, 1.0], 3))
    tiles = [
        (int(random.integers(len(master.weights))), Code(int(random.integers(3))), bool(random.integers(2)))
        for _ in range(6)
    ]
    cycles, patterns = 12000, {}
    rates = {name: random.choice([0.3, 0.8, 1.0]) for name in ("command", "output", *PORTS)}

    def pattern(name):
        if name not in patterns:
            patterns[name] = random.random(cycles) < rates[name.split("_")[0]]
        return patterns[name]

    check(benches[slow], slow, master, tiles, cycles, pattern)


def test_as_many_inputs_as_there_can_be(benches):
    """1024 blocks, 32 words of tags; channels of the last block in the table; a master copy that isn't the first."""
    _, master, _ = make_master(np.random.default_rng(4), 32, 8192, (0.1, 0.5, 0.9))
    tiles = [(number, code, inside) for number, (_, code, inside) in zip((1, 0, 1, 0), EVERY, strict=True)]
    check(benches[False], False, master, tiles, 40_000, base=(3, 7, 5))


@pytest.mark.parametrize("slow", [False, True])
def test_stalls_among_as_many_blocks_as_there_can_be(benches, slow):
    """A queue that is full keeps what it holds."""
    random, cycles = np.random.default_rng(5), 40_000
    _, master, _ = make_master(random, 16, 8192, (0.5, 0.1, 0.1))
    patterns = {f"{name}_{part}": random.random(cycles) < 0.4 for name in PORTS for part in ("accept", "go")}
    tiles = [(0, code, False) for code in (Code.MEDIUM, *[Code.COARSE] * 6)]
    check(benches[slow], slow, master, tiles, cycles, lambda name: patterns.get(name, np.ones(cycles, np.bool_)))


def test_reads_are_counted_far(benches):
    """Of tags, 2^15; of the table and of the master copy, 2^16 and more."""
    bench, blocks = benches[False], 1024
    entry = {"rows": range(8), "present": 1}
    common = {"tile": 5, "inside": 0, "blocks": blocks, "entries": blocks, "master": 0, "tags": 0, "table": 0}
    codes = [Code.MEDIUM] * 1024 + [Code.COARSE] * 64 + [Code.FINE] * 8
    bench.reset()
    run = bench.run(
        {f"{name}_accept": 1 for name in PORTS}
        | {"output__ready": 1, "table_data": entry_layout(MACHINE).const(entry).as_value().value},
        cycles=1024 * 100 + 64 * 3 * blocks + 8 * 8 * blocks + 4 * len(codes),
        sources=[source_of([{**common, "granularity": code} for code in codes])],
    )
    counts = [run[name][-1] for name in ("master_reads", "tag_reads", "table_reads")]
    assert counts == [64 * blocks + 8 * 8 * blocks, 1024 * 32, 64 * blocks]
    assert np.count_nonzero(decoded(run)[2][:, 3]) == len(codes)


@pytest.mark.parametrize("slot", range(MACHINE.block))
def test_channels_beyond_the_last_block_are_refused(benches, slot):
    """In every slot, by every bit."""
    bench = benches[False]
    given = {f"{name}_accept": 1 for name in PORTS} | {"output__ready": 1}
    for bit in range(10):
        entry = {"rows": [(1 << bit) * (each == slot) for each in range(MACHINE.block)], "present": 1 << slot}
        command = {"granularity": Code.COARSE, "blocks": 1 << bit, "entries": 1}
        data = {"table_data": entry_layout(MACHINE).const(entry).as_value().value}
        bench.reset()
        assert bench.run(given | data, 20, sources=[source_of([command])])["fault"][-1] == Refusal.TABLE


@pytest.mark.parametrize("blocks", [1 << bit for bit in range(11)])
def test_addresses_of_all_their_bits(benches, blocks):
    """Of every kind of tile, wherever its matrix lies; with as many entries in the table as blocks, a channel each."""
    random, bench = np.random.default_rng(blocks), benches[False]
    entry = {"rows": [blocks - 1] * MACHINE.block, "present": 1 << 5}
    data = {
        "master_data": 1 << 128,  # a weight that is tagged, and 0
        "tags_data": (1 << min(blocks, 32)) - 1,
        "table_data": entry_layout(MACHINE).const(entry).as_value().value,
    }
    counters, reads = ("master_reads", "tag_reads", "table_reads"), np.zeros(3, np.int64)
    bench.reset()
    for code in Code:
        tile, base = int(random.integers(1024)), dict(zip(PORTS, random.integers(0, 1 << 24, 3).tolist(), strict=True))
        command = {"tile": tile, "granularity": code, "inside": 0, "blocks": blocks, "entries": blocks, **base}
        run = bench.run(
            {f"{name}_accept": 1 for name in PORTS} | {"output__ready": 1} | data,
            cycles=8 * blocks + blocks // 16 + 60,
            sources=[source_of([command])],
        )
        weights, tags = base["master"] + 8 * blocks * tile, -(-blocks // 32)
        wanted = {
            Code.FINE: (weights + np.arange(8 * blocks), [], []),
            Code.MEDIUM: (weights + np.arange(8 * blocks), base["tags"] + tags * tile + np.arange(tags), []),
            Code.COARSE: ([weights + 8 * (blocks - 1) + 5] * blocks, [], base["table"] + np.arange(blocks)),
        }[code]
        for name, addresses in zip(PORTS, wanted, strict=True):
            found = run[f"{name}_address"][run[f"{name}_read"] == 1]
            np.testing.assert_array_equal(found, np.array(addresses, np.int64) & 0xFFFFFF)
        reads += [len(each) for each in wanted]
        assert [run[name][-1] for name in counters] == reads.tolist()
        lasts = decoded(run)[2][:, 3]
        assert np.flatnonzero(lasts).tolist() == [len(lasts) - 1]


@pytest.mark.parametrize("latency", [1, 2])
def test_documented_times(benches, latency):
    weights = np.ones((48, 200), np.int8)
    shape = (3, 25)
    tags = {"fine": weights != 0, "medium": np.ones(shape, np.bool_), "coarse": np.ones(200, np.bool_)}
    master = Master.of(weights, MACHINE, **tags)
    for code, more in ((Code.FINE, 0), (Code.MEDIUM, 1 + latency), (Code.COARSE, 1 + latency)):
        at = check(benches[latency == 2], latency == 2, master, [(n, code, False) for n in range(3)], 1000)
        assert at[0] == 12 + latency + more
        assert (np.diff(at[::200]) == 8 * 25 + 1).all()


def test_same_words_as_the_packer():
    random = np.random.default_rng(3)
    weights, master, (fine, medium, coarse) = make_master(random, 40, 90)
    fine_only, coarse_only = np.where(fine, weights, 0).astype(np.int8), np.where(coarse, weights, 0).astype(np.int8)
    for code, inside, packed in (
        (Code.FINE, False, program.fine(fine_only, MACHINE)),
        (Code.MEDIUM, False, program.blocks(weights, MACHINE, keep=medium)),
        (Code.MEDIUM, True, program.blocks(fine_only, MACHINE, keep=medium, inside=True)),
        (Code.COARSE, False, program.channels(coarse_only, MACHINE, keep=coarse)),
    ):
        assert packed.tile_numbers == (0, 1, 2)
        for number, tile in enumerate(packed.tiles):
            for found, wanted in zip(
                words_of(repacked(master, number, code, inside=inside)), words_of(tile), strict=True
            ):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("refusal", "change"),
    [
        (Refusal.GRANULARITY, {"granularity": 3}),
        (Refusal.BLOCKS, {"blocks": 0}),
        (Refusal.BLOCKS, {"blocks": 1025}),
        (Refusal.ENTRIES, {"granularity": Code.COARSE, "entries": 26}),
        (Refusal.TAG, {"granularity": Code.MEDIUM, "blocks": 3}),
        (Refusal.TABLE, {"granularity": Code.COARSE, "entries": 1, "blocks": 3}),
        (Refusal.TABLE, {"granularity": Code.COARSE, "entries": 2, "table": 24}),
    ],
)
def test_what_cannot_be_is_refused(benches, refusal, change):
    bench = benches[False]
    bench.reset()
    weights = np.ones((16, 200), np.int8)
    everything = {"fine": weights != 0, "medium": np.ones((1, 25), np.bool_), "coarse": np.ones(200, np.bool_)}
    master = Master.of(weights, MACHINE, **everything)
    good = {"granularity": 0, "tile": 0, "inside": 0, "blocks": 25, "entries": 25, "master": 0, "tags": 0, "table": 0}
    table = np.concatenate([master.table_words()[::-1], np.zeros((1, 11), np.uint8)])  # the last row first; nothing
    run = bench.run(
        {f"{name}_accept": 1 for name in PORTS} | {"output__ready": 1},
        cycles=2000,
        sources=[source_of([good, good | change, good])],
        memories=[
            Memory("master_address", "master_data", master.words(), enable="master_read"),
            Memory("tags_address", "tags_data", master.tag_words(), enable="tags_read"),
            Memory("table_address", "table_data", table, enable="table_read"),
        ],
    )
    assert run["fault"][-1] == refusal
    assert run.taken == (2,)
    sides = decoded(run)[2]
    assert sides[199, 3] == 1  # the tile before came out whole, and the one refused doesn't end
    assert not sides[200:, 3].any()


def test_a_word_that_nobody_asked_for_is_refused(benches):
    bench = benches[False]
    bench.reset()
    run = bench.run({"stray": [0, 0, 1, 0, 0], "output__ready": 1})
    assert run["fault"].tolist() == [0, 0, 0, Refusal.WORD, Refusal.WORD]
    assert not run["output__valid"].any()


def test_tags_of_another_shape_are_refused():
    weights = np.ones((16, 16), np.int8)
    with pytest.raises(HardwareError, match=r"medium must be bool \(1, 2\), not bool \(2, 1\)"):
        Master.of(weights, MACHINE, fine=weights != 0, medium=np.ones((2, 1), np.bool_), coarse=np.ones(16, np.bool_))
