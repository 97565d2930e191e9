"""Tiles out of the master copy: the same words as a packer makes offline, in the cycles the model says."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.cosim.simulation import Memory, Simulation, Source
from regrain.hw.machine import Machine
from regrain.hw.model import program
from regrain.hw.model.codes import Code
from regrain.hw.model.pace import Pace, Port
from regrain.hw.model.repack import Master, repacked
from regrain.hw.rtl.fifo import Fifo
from regrain.hw.rtl.master import ADDRESS_BITS, COMMAND, Refusal, entry_layout, master_layout
from regrain.hw.rtl.reorganizer import Reorganizer

MACHINE = Machine()
PORTS = {"master": master_layout(MACHINE).size, "tags": 32, "table": entry_layout(MACHINE).size}


class Bench(Component):
    """A reorganizer beside memories that take an address when `<name>_accept`; slow ones look at it when `<name>_go`.
    The word comes in the cycle after.
    """

    def __init__(self, *, slow: bool) -> None:
        self.slow, self.block = slow, Reorganizer(MACHINE)
        ports = {"command": self.block.signature.members["command"], "output": self.block.signature.members["output"]}
        for name, width in PORTS.items():
            ports |= {f"{name}_accept": In(1), f"{name}_go": In(1), f"{name}_data": In(width)}
            ports |= {f"{name}_address": Out(ADDRESS_BITS), f"{name}_read": Out(1)}
        counters = ("master_reads", "tag_reads", "table_reads")
        super().__init__({**ports, "stray": In(1), "fault": Out(3), **{name: Out(32) for name in counters}})
        self.counters = counters

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self.block
        connect(m, flipped(self.command), block.command)
        connect(m, block.output, flipped(self.output))
        m.d.comb += [getattr(self, name).eq(getattr(block, name)) for name in ("fault", *self.counters)]
        for name in PORTS:
            self._memory(m, name, getattr(block, name))
        return m

    def _memory(self, m, name, reading):
        accept, go, word, address, read = (
            getattr(self, f"{name}_{part}") for part in ("accept", "go", "data", "address", "read")
        )
        there = Signal(name=f"{name}_there")
        m.d.sync += there.eq(read)
        stray = self.stray if name == "master" else 0
        m.d.comb += [reading.ready.eq(accept), reading.data.eq(word), reading.valid.eq(there | stray)]
        if self.slow:
            m.submodules[name] = queue = Fifo(ADDRESS_BITS, 16)
            m.d.comb += [
                queue.input.payload.eq(reading.address),
                queue.input.valid.eq(reading.read & accept),
                queue.output.ready.eq(go),
                address.eq(queue.output.payload),
                read.eq(queue.output.valid & go),
            ]
        else:
            m.d.comb += [address.eq(reading.address), read.eq(reading.read & accept)]


@pytest.fixture(scope="module")
def benches():
    return {slow: Simulation(Bench(slow=slow)) for slow in (False, True)}


def make_master(random, outputs, inputs, densities=(0.4, 0.5, 0.5)):
    weights = random.integers(-128, 128, (outputs, inputs), np.int8)
    shape = (-(-outputs // 16), -(-inputs // 8))
    fine, medium, coarse = (
        random.random(shape) < density for shape, density in zip((weights.shape, shape, inputs), densities, strict=True)
    )
    weights[random.random(weights.shape) < 0.2] = 0
    return weights, Master.of(weights, MACHINE, fine=fine, medium=medium, coarse=coarse), (fine, medium, coarse)


def words_of(tile):
    """The stream of a tile, one row a word: (weights, index, first, block, count, last, listed, gather)."""
    step = np.repeat(np.arange(tile.steps), tile.counts)
    first = np.diff(step, prepend=-1) != 0
    last = np.arange(tile.words) == tile.words - 1
    listed, gather = np.full(tile.words, tile.listed), np.full(tile.words, tile.gather)
    sides = np.stack([first, tile.blocks[step], tile.counts[step] - 1, last, listed, gather], axis=1)
    return tile.values, tile.index, sides.astype(np.int64)


def decoded(run):
    """The same of what a simulation sent, and in which cycles."""
    at = np.flatnonzero(run["output__valid"] & run["output__ready"])
    payload = run["output__payload"][at]
    bits = np.unpackbits(np.ascontiguousarray(payload).view(np.uint8), axis=1, bitorder="little")
    weights = np.packbits(bits[:, :176].reshape(-1, 16, 11)[:, :, :8], axis=2, bitorder="little")[:, :, 0]
    index = np.packbits(bits[:, :176].reshape(-1, 16, 11)[:, :, 8:], axis=2, bitorder="little")[:, :, 0]
    fields, offset = [], 176
    for width in (1, 10, 3, 1, 1, 1):
        fields.append(bits[:, offset : offset + width] @ (1 << np.arange(width)))
        offset += width
    return weights.view(np.int8), index, np.stack(fields, axis=1), at


def commands_of(master, tiles, base=(0, 0, 0)):
    layout = data.StructLayout(dict(COMMAND.members))
    common = {"blocks": master.weights.shape[1], "entries": len(master.gather.rows)}
    common |= dict(zip(("master", "tags", "table"), base, strict=True))
    return [
        layout.const({"tile": n, "granularity": int(code), "inside": int(inside), **common}).as_value().value
        for n, code, inside in tiles
    ]


def clock(pattern):
    """The first cycle, from one on, in which the pattern is true."""
    following = np.append(np.where(pattern, np.arange(len(pattern)), len(pattern)), len(pattern))
    following = np.minimum.accumulate(following[::-1])[::-1]
    return lambda cycle: int(following[min(cycle, len(pattern))])


def driven(bench, master, tiles, cycles, pattern=None, base=(0, 0, 0)):
    """Run `tiles`; `pattern(name)` says in which cycles something is ready."""
    pattern = pattern or (lambda name: np.ones(cycles, np.bool_))
    raw = np.array(commands_of(master, tiles, base), dtype=object)
    words = np.array([[value >> 32 * at & 0xFFFFFFFF for at in range(4)] for value in raw], np.uint32)
    contents = {"master": master.words(), "tags": master.tag_words(), "table": master.table_words()}
    if not len(contents["table"]):
        contents["table"] = np.zeros((1, 11), np.uint8)
    contents = {
        name: np.concatenate([np.zeros((at, *words.shape[1:]), words.dtype), words])
        for (name, words), at in zip(contents.items(), base, strict=True)
    }
    inputs = {f"{name}_{part}": pattern(f"{name}_{part}") for name in PORTS for part in ("accept", "go")}
    source = Source("command__valid", "command__ready", {"command__payload": words}, pattern("command"))
    memories = [Memory(f"{n}_address", f"{n}_data", contents[n], enable=f"{n}_read") for n in PORTS]
    return bench.run({**inputs, "output__ready": pattern("output")}, cycles=cycles, sources=[source], memories=memories)


def port(pattern, name, slow):
    accepts, go = clock(pattern(f"{name}_accept")), clock(pattern(f"{name}_go"))
    looked = -1

    def answers(cycle):
        nonlocal looked
        looked = go(max(cycle, looked) + 1)
        return looked + 1

    return Port(accepts, answers) if slow else Port(accepts)


def check(bench, slow, master, tiles, cycles, pattern=None, base=(0, 0, 0)):
    """Every word and every cycle of the hardware is that of the models."""
    pattern = pattern or (lambda name: np.ones(cycles, np.bool_))
    bench.reset()
    run = driven(bench, master, tiles, cycles, pattern, base)
    pace = Pace(*(port(pattern, name, slow) for name in PORTS))
    offered, ready, asked, cycles_sent = clock(pattern("command")), clock(pattern("output")), 0, []
    expected = []
    for number, code, inside in tiles:
        sent = pace.tile(master, number, code, inside=inside, asked=offered(asked), ready=ready)
        asked = sent.command + 1
        cycles_sent += sent.words
        expected.append(words_of(repacked(master, number, code, inside=inside)))
    values, index, sides, at = decoded(run)
    assert at.tolist() == cycles_sent
    for found, parts in zip((values, index, sides), zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(parts))
    reads = [int(run[f"{name}_reads"][-1]) for name in ("master", "tag", "table")]
    assert reads == [pace.master.reads, pace.tags.reads, pace.table.reads]
    assert not run["fault"].any()
    return at


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
    inputs = int(random.choice([1, 8, 24, 100, 264]))
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
    words = [COMMAND.const(each).as_value().value for each in (good, good | change, good)]
    rows = np.array([[word >> 32 * at & 0xFFFFFFFF for at in range(4)] for word in words], np.uint32)
    table = np.concatenate(
        [master.table_words()[::-1], np.zeros((1, 11), np.uint8)]
    )  # from the last row on; then nothing
    run = bench.run(
        {f"{name}_accept": 1 for name in PORTS} | {"output__ready": 1},
        cycles=2000,
        sources=[Source("command__valid", "command__ready", {"command__payload": rows})],
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
