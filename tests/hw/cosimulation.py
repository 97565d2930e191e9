"""Random matrices through all three models: the hardware, the cycle model and plain integers. `make rtl` runs many.

python tests/hw/cosimulation.py [CASES [SEED]] fails if a value, a cycle or an event differs anywhere, or if something
that must be seen (a bin) was not.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from regrain.core.granularity import Granularity
from regrain.hw.cosim.engine import EngineSimulation
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.top import TopSimulation
from regrain.hw.cosim.words import pack
from regrain.hw.machine import Machine
from regrain.hw.model import program
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer, run
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import Arrivals, Packed, simulate, simulate_supply
from regrain.hw.rtl.layouts import Fault
from regrain.hw.rtl.top import Part

SMALL = Machine(rows=4, pes=2, lanes=2, bank_words=512, list_entries=64)
ROWS, TILES, PATIENCE = 1024, 16, 12
FORMS = {
    "dense": program.dense,
    "fine, unstructured": program.fine,
    "fine, N:8": lambda weights, machine: program.fine(weights, machine, count=_most(weights, machine)),
    "medium": program.blocks,
    "medium, fine inside": lambda weights, machine: program.blocks(weights, machine, inside=True),
    "coarse": program.channels,
}
STEPS = [("fine", "medium"), ("medium", "fine"), ("medium", "coarse"), ("coarse", "medium")]
ENGINE_FAULTS = [fault for fault in Fault if fault not in (Fault.NONE, Fault.JOB)]


def _most(weights, machine):
    whole = program.padded(weights, machine) != 0
    return max(1, int(whole.reshape(len(whole), -1, machine.block).sum(2).max()))


class Campaign:
    """Cases one after the other, and what they have shown."""

    def __init__(self, *, default_machine: bool) -> None:
        self.bins = Counter(dict.fromkeys(wanted(default_machine), 0))
        machines = {"small": SMALL} | ({"default": Machine()} if default_machine else {})
        self.engines = {
            name: (machine, EngineSimulation(machine, tiles=TILES, patience=PATIENCE))
            for name, machine in machines.items()
        }
        self.top = TopSimulation(SMALL, rows=ROWS, tiles=TILES, patience=PATIENCE)

    def case(self, seed):
        """One case: a packed matrix, a dynamic one, or one that is wrong."""
        random = np.random.default_rng(seed)
        kind = seed % 8
        if kind < 5:
            self.packed(random, seed)
        elif kind < 7:
            self.dynamic(random)
        else:
            self.wrong(random, seed // 8)

    def packed(self, random, seed):
        name = "default" if "default" in self.engines and seed % 5 == 0 else "small"
        machine, engine = self.engines[name]
        form = list(FORMS)[random.integers(len(FORMS))]
        scale = machine.outputs // 4
        outputs, inputs = int(random.integers(1, 24 * scale)), int(random.integers(1, 100))
        tokens = int(random.integers(1, 5 * machine.rows))
        packed = FORMS[form](matrix(random, outputs, inputs), machine)
        if not packed.tiles:
            return
        activations, table = numbers(random, tokens, inputs), channels(random, len(packed.tiles) * machine.outputs)
        memory = Memory(
            weight_bits=None if random.random() < 0.3 else int(random.integers(1, 3 * machine.word_bits)),
            activation_bits=None if random.random() < 0.3 else int(random.integers(64, 128 * machine.rows)),
            latency=int(random.integers(0, 30)),
            buffer_bits=int(random.integers(1, 60_000)),
        )
        found = engine.run(packed, activations, table, Feed.of(packed, tokens, machine, memory), limit=1 << 20)
        model = simulate(packed, tokens, machine, memory)
        sums = whole_sums(packed, activations, machine)
        agree(found, model, sums, table, machine)
        self.seen("machine", name)
        self.seen("granularity", form)
        self.seen("tokens", shape_of(tokens, machine.rows))
        self.seen("outputs", shape_of(outputs, machine.outputs))
        self.seen("inputs", shape_of(inputs, machine.block))
        begun = Packed(packed, machine, memory).take(0, 1)[1] + 1  # cycles until the first tile is there
        stalls = {
            "load": model.load_stalls - begun,
            "activation": model.activation_stalls,
            "drain": model.drain_stalls,
        }
        for cause, count in stalls.items():
            if count:
                self.seen("stall", cause)
        if not any(stalls.values()):
            self.seen("stall", "none but the first load")
        for count in np.unique(np.concatenate([tile.counts for tile in packed.tiles])):
            self.seen("words of a step", str(count))
        if any(tile.words == 1 and not tile.values.any() for tile in packed.tiles):
            self.seen("tile", "nothing kept")
        if len(packed.tiles) < -(-outputs // machine.outputs):
            self.seen("tile", "left out")
        self.seen("tile", "one" if len(packed.tiles) == 1 else "several")
        self.seen("activations", "fetched again" if refetched(packed, tokens, machine, memory) else "fetched once")

    def dynamic(self, random):
        outputs, inputs = int(random.integers(1, 60)), int(random.integers(1, 200))
        tokens, first = int(random.integers(16, 60)), list(Granularity)[random.integers(3)]
        tiles, blocks = -(-outputs // SMALL.outputs), -(-inputs // SMALL.block)
        coarse = random.random(inputs) < random.random()
        coarse[random.integers(inputs)] = True
        master = Master.of(
            numbers(random, outputs, inputs),
            SMALL,
            fine=random.random((outputs, inputs)) < random.random(),
            medium=random.random((tiles, blocks)) < random.random(),
            coarse=coarse,
        )
        table = channels(random, outputs)
        bounds = np.sort(random.integers(0, 500, 4))
        descriptor = Descriptor(
            granularity=first,
            outputs=outputs,
            blocks=blocks,
            tokens=tokens,
            weights=0,
            channels=0,
            listed=True,
            dynamic=True,
            reverse=bool(random.integers(2)),
            dwell=int(random.integers(0, 3)),
            down0=int(bounds[0]),
            up0=int(bounds[1]),
            down1=int(bounds[2]),
            up1=int(bounds[3]),
            cost_fine=int(random.integers(1, 30)),
            cost_medium=int(random.integers(1, 30)),
            cost_coarse=int(random.integers(1, 30)),
        )
        image = Image(SMALL, ROWS)
        at, activations = image.add(descriptor, table, master=master), numbers(random, tokens, inputs)
        when = np.sort(random.choice(np.arange(1, 3000), 12, replace=False))
        metrics = random.integers(0, 600, 12)
        self.top.reset()
        self.top.load(image)
        setup = self.setup(descriptor, len(master.gather.rows))
        told = [(setup + int(cycle), int(metric)) for cycle, metric in zip(when, metrics, strict=True)]
        found = self.top.run(at, activations, master, observations=told, limit=1 << 20)
        seen = [(int(cycle), int(metric)) for cycle, metric in zip(when, metrics, strict=True)]
        deciding = Deciding(
            (descriptor.up0, descriptor.up1),
            (descriptor.down0, descriptor.down1),
            predefined=Code.of(first),
            reverse=descriptor.reverse,
            priced=True,
            dwell=descriptor.dwell,
            cost=(descriptor.cost_fine, descriptor.cost_medium, descriptor.cost_coarse),
            uses=min(255, -(-tokens // SMALL.rows)),
            reorganization=tiles * blocks * SMALL.block >> 4,
        )
        supply = Reorganized(master, (outputs, inputs), deciding, Decided(Code.of(first)), seen)
        model = simulate_supply(supply, tokens, SMALL, Memory())
        sums = run(supply.program(), activations, SMALL)
        assert found.fault == Part.NONE, Part(found.fault)
        assert found.cycles == setup + model.cycles, (found.cycles, setup, model.cycles)
        agree(found, model, sums, table, SMALL)
        self.seen("re-organized", str(first))
        for old, new in zip(supply.codes, supply.codes[1:], strict=False):
            if old != new:
                self.seen("switch in mid-layer", f"{old.granularity} to {new.granularity}")
        if len(found.switches) > 1:
            self.seen("switch in mid-layer", "twice")

    def setup(self, descriptor, entries):
        """Cycles from `start` to the engine's: the descriptor's two rows and its decoding, control, both tables."""
        rows = -(-descriptor.outputs // SMALL.outputs) * SMALL.outputs // 2
        table = 2 * entries + (0 if entries == descriptor.blocks else 1) + 1
        return 4 + 3 + 1 + table + 4 * rows + 1

    def wrong(self, random, number):
        """A stream that no packer makes: the engine must stop, and what it gave before must be right."""
        machine, engine = self.engines["small"]
        fault = ENGINE_FAULTS[number % len(ENGINE_FAULTS)]
        inputs, tokens = 8 * (machine.list_entries + 1 if fault in (Fault.WORDS, Fault.LIST) else 6), 10
        weights, roomy = numbers(random, 12, inputs) | np.int8(1), replace(machine, bank_words=4096, list_entries=512)
        if fault is Fault.LIST:
            weights[:, np.arange(inputs) % 8 > 0] = 0
        packed = (program.dense if fault in (Fault.ORDER, Fault.WORDS) else program.fine)(weights, roomy)
        words, ends = pack(packed.tiles, machine)
        feed, begun = Feed(), int(packed.tiles[0].words * (fault not in (Fault.WORDS, Fault.LIST)))
        if fault is Fault.WATCHDOG:
            feed = Feed(offered=np.arange(20_000) < begun)
        elif place := SPOILED.get(fault):
            word, field = place
            flip(words[begun + word], field, machine)
        activations = numbers(random, tokens, inputs)
        found = engine.run_words(words, ends, activations, feed=feed, limit=1 << 16)
        assert found.fault == fault, (fault, found.fault)
        sums, left = whole_sums(packed, activations, machine), np.repeat(found.left, machine.outputs, 1)
        np.testing.assert_array_equal(found.sums[left], sums[left])
        self.seen("fault", fault.name)

    def seen(self, group, name):
        self.bins[group, name] += 1


SPOILED = {
    Fault.FRAMING: (1, "first"),
    Fault.BLOCK: (0, "block"),
    Fault.MIXED: (1, "listed"),
    Fault.ORDER: (8, "order"),
}
"""A word of the second tile, and what is wrong with it."""


def flip(word, field, machine):
    """Turn one bit of a word of the stream around: of a block's number the highest, or (`order`) the lowest."""
    at = machine.word_bits
    places = {"first": at, "order": at + 1, "block": at + 10, "listed": at + 12 + machine.index_bits}
    word[places[field] // 32] ^= np.uint32(1) << np.uint32(places[field] % 32)


def numbers(random, *shape):
    return random.integers(-128, 128, shape).astype(np.int8)


def matrix(random, outputs, inputs):
    """Weights of which single ones, columns, rows and blocks are zero."""
    weights = numbers(random, outputs, inputs)
    weights[random.random(weights.shape) < random.choice([0, 0.5, 0.9])] = 0
    weights[:, random.random(inputs) < random.choice([0, 0.5])] = 0
    weights[random.random(outputs) < random.choice([0, 0.7])] = 0
    return weights


def channels(random, count):
    return Requantizer(
        random.integers(-(1 << 23), 1 << 23, count),
        random.integers(0, 1 << 16, count),
        random.integers(1, 41, count),
        bool(random.integers(2)),
    )


def whole_sums(packed, activations, machine):
    """Sums of the tiles that are run, (tokens, tiles * outputs)."""
    every = run(packed, activations, machine)
    every = np.pad(every, ((0, 0), (0, -every.shape[1] % machine.outputs)))
    return np.concatenate([every[:, n * machine.outputs :][:, : machine.outputs] for n in packed.tile_numbers], 1)


def agree(found, model, sums, table, machine):
    """Values, cycles, stalls and events; a dynamic matrix has fewer channels than its tiles have lanes."""
    made = sums.shape[1]
    np.testing.assert_array_equal(found.sums[:, :made], sums)
    np.testing.assert_array_equal(found.values[:, :made], table(sums))
    events, counters = model.events, found.counters
    pairs = {
        "cycles": model.cycles,
        "load_stalls": model.load_stalls,
        "act_stalls": model.activation_stalls,
        "drain_stalls": model.drain_stalls,
        "tokens": events.outputs // machine.outputs,
    } | {name: getattr(events, name) for name in EVENTS}
    assert counters == pairs, (counters, pairs)


EVENTS = "words macs steps list_reads gather_reads bank_writes list_writes".split()


def shape_of(count, unit):
    """How a number of things relates to what is done at once."""
    if count <= unit:
        return "one unit, full" if count == unit else "one unit, ragged"
    return "several, ragged" if count % unit else "several, full"


def refetched(packed, tokens, machine, memory):
    supply = Packed(packed, machine, memory)
    passes = -(-tokens // machine.rows)
    return memory.activation_bits is not None and Arrivals(supply, passes, machine, memory).fetches > passes


def wanted(default_machine):
    """All that must be seen."""
    shapes = ["one unit, full", "one unit, ragged", "several, full", "several, ragged"]
    levels = [str(one) for one in Granularity]
    groups = {
        "machine": ["small", "default"] if default_machine else ["small"],
        "granularity": list(FORMS),
        **dict.fromkeys(("tokens", "outputs", "inputs"), shapes),
        "stall": ["load", "activation", "drain", "none but the first load"],
        "words of a step": [str(count) for count in range(1, 9)],
        "tile": ["one", "several", "nothing kept", "left out"],
        "activations": ["fetched once", "fetched again"],
        "re-organized": levels,
        "switch in mid-layer": [
            *(f"{old} to {new}" for old, new in STEPS),
            "twice",
        ],
        "fault": [fault.name for fault in ENGINE_FAULTS],
    }
    return [(group, name) for group, names in groups.items() for name in names]


def main(cases=10_000, first=0):
    began, campaign = time.perf_counter(), Campaign(default_machine=True)
    for seed in range(first, first + cases):
        try:
            campaign.case(seed)
        except Exception as error:
            error.add_note(f"case {seed}")
            raise
    for (group, name), count in sorted(campaign.bins.items()):
        print(f"{group:20} {name:28} {count:8}")
    missing = [name for name, count in campaign.bins.items() if not count]
    print(
        f"{cases} cases, no difference, {time.perf_counter() - began:.0f} s; bins that are empty: {missing or 'none'}"
    )
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
