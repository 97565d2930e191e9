"""What tests of the reorganizer share: it beside memories, and a run that is compared with the models."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from regrain.hw.cosim.simulation import Memory, Source
from regrain.hw.machine import Machine
from regrain.hw.model.pace import Pace, Port
from regrain.hw.model.repack import Master, repacked
from regrain.hw.rtl.fifo import Fifo
from regrain.hw.rtl.master import ADDRESS_BITS, COMMAND, entry_layout, master_layout
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
    common = {"blocks": master.weights.shape[1], "entries": len(master.gather.rows)}
    common |= dict(zip(("master", "tags", "table"), base, strict=True))
    return [{"tile": n, "granularity": code, "inside": inside, **common} for n, code, inside in tiles]


def source_of(commands, offered=None):
    """Commands, as dictionaries, one after the other."""
    words = [COMMAND.const(each).as_value().value for each in commands]
    rows = np.array([[word >> 32 * at & 0xFFFFFFFF for at in range(4)] for word in words], np.uint32)
    return Source("command__valid", "command__ready", {"command__payload": rows}, offered)


def clock(pattern):
    """The first cycle, from one on, in which the pattern is true."""
    following = np.append(np.where(pattern, np.arange(len(pattern)), len(pattern)), len(pattern))
    following = np.minimum.accumulate(following[::-1])[::-1]
    return lambda cycle: int(following[min(cycle, len(pattern))])


def driven(bench, master, tiles, cycles, pattern=None, base=(0, 0, 0)):
    """Run `tiles`; `pattern(name)` says in which cycles something is ready."""
    pattern = pattern or (lambda name: np.ones(cycles, np.bool_))
    contents = {"master": master.words(), "tags": master.tag_words(), "table": master.table_words()}
    if not len(contents["table"]):
        contents["table"] = np.zeros((1, 11), np.uint8)
    contents = {
        name: np.concatenate([np.zeros((at, *words.shape[1:]), words.dtype), words])
        for (name, words), at in zip(contents.items(), base, strict=True)
    }
    inputs = {f"{name}_{part}": pattern(f"{name}_{part}") for name in PORTS for part in ("accept", "go")}
    source = source_of(commands_of(master, tiles, base), pattern("command"))
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
