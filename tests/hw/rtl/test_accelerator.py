"""Payload in, outputs out: reconstructed and run at each granularity, both at once, and whatever is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.artifact import reader
from regrain.codecs.quantized import Quantized, encode_quantized, grid_shape
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.cosim import Memory as Beside
from regrain.hw.cosim import Simulation
from regrain.hw.cosim.accelerator import AcceleratorSimulation, Reconstructing, Running
from regrain.hw.machine import Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding
from regrain.hw.model.descriptor import Descriptor
from regrain.hw.model.golden import Requantizer, run
from regrain.hw.model.image import Image
from regrain.hw.model.memory import Memory
from regrain.hw.model.reorganized import Reorganized
from regrain.hw.model.repack import Master
from regrain.hw.model.timing import simulate_supply
from regrain.hw.reconstruction.assembler import assemble
from regrain.hw.reconstruction.instructions import Fault, Op
from regrain.hw.reconstruction.interpreter import execute
from regrain.hw.rtl.master_writer import Misfit
from regrain.hw.rtl.reconstruct import Reconstruct
from regrain.hw.rtl.top import Part

MACHINE = Machine(rows=4, pes=2, lanes=2, bank_words=512, list_entries=64)
ROWS, WORDS, SEED = 1024, 1 << 15, 7
SIZES = (1 << 18, 1 << 14, 1 << 12)
OFFSET = -60
LEAST = (0, 0, 65535, 65535)
"""Thresholds that no metric crosses."""


@pytest.fixture(scope="module")
def chip():
    return AcceleratorSimulation(MACHINE, words=WORDS, rows=ROWS, tiles=128, patience=12, sizes=SIZES)


def numbers(random, *shape):
    return random.integers(-128, 128, shape).astype(np.int8)


UNITS = {"weights": (1, 1), "16 by 1": (16, 1), "4 by 8": (4, 8), "columns": (64, 1), "rows": (1, 256)}
KINDS = ("quantized", "in cells", "noise", "one number", *UNITS)


def payload_of(random, kind, rows, columns):
    """Indices as the payload that an artifact has of such a tensor."""
    spread = {"noise": 60, "one number": 0}.get(kind, random.choice([1.5, 9]))
    indices = np.clip(np.rint(random.normal(0, spread, (rows, columns))), -128, 127).astype(np.int8)
    cell = (min(2, rows), min(20, columns)) if kind == "in cells" else (1, columns)
    codes = random.integers(-60, -40, grid_shape(rows, columns, cell)).astype(np.int16)
    if kind not in UNITS:
        return bytes(encode_quantized(Quantized(indices, codes, cell), "BF16", seed=SEED))
    unit = tuple(min(pair) for pair in zip(UNITS[kind], (rows, columns), strict=True))
    mask = random.random(grid_shape(rows, columns, unit)) < 0.5
    indices *= mask.repeat(unit[0], 0)[:rows].repeat(unit[1], 1)[:, :columns]
    return bytes(encode_sparse(Sparse.quantized(Quantized(indices, codes, cell), mask, unit), "F32", seed=SEED))


class Matrix:
    """A matrix of an artifact, in a memory of payloads behind others, and its place among the master copies."""

    def __init__(self, random, payload, *, seed=SEED, base=0, scaled=True):
        before = random.bytes(random.integers(0, 99))
        self.made = assemble(payload, seed=seed, at=len(before), offset=OFFSET if scaled else None)
        self.payload, self.base, self.scaled = before + payload, base, scaled
        self.weights = self.made.weights
        self.shape = rows, columns = self.weights.shape
        self.tiles, self.blocks = -(-rows // MACHINE.outputs), -(-columns // MACHINE.block)
        coarse = random.random(columns) < 0.6
        coarse[0] = True
        self.master = Master.of(
            self.weights,
            MACHINE,
            fine=self.weights != 0,
            medium=random.random((self.tiles, self.blocks)) < 0.7,
            coarse=coarse,
        )
        self.loaded = Requantizer(
            random.integers(-2000, 2000, rows), random.integers(1 << 8, 1 << 16, rows), random.integers(16, 26, rows)
        )

    @classmethod
    def of(cls, random, kind, rows, columns, **others):
        return cls(random, payload_of(random, kind, rows, columns), **others)

    def add(self, image, granularity, tokens, channels=None, **others):
        """Into the metadata, its program behind its descriptor; where that is."""
        shape = {"outputs": self.shape[0], "blocks": self.blocks, "tokens": tokens, "weights": self.base}
        own = {"granularity": granularity, "dynamic": True, "listed": True, "channels": 0, "up0": 65535, "up1": 65535}
        costs = {f"cost_{one}": 1 for one in Granularity}
        return image.add(
            Descriptor(**own | shape | costs | others),
            channels or self.loaded,
            master=self.master,
            program=self.made.words(),
        )

    def table(self):
        """Biases as they were loaded; factors and shifts of the payload, if the program gives them."""
        if not self.scaled:
            return self.loaded
        program = [each.to_int() for each in self.made.program]
        found = np.array(execute(program, self.payload).channels, np.int64)
        return Requantizer(self.loaded.bias, found[:, 0], found[:, 1])

    def model(self, granularity, tokens):
        """Sums and cycles, by the models alone; no metric ever crosses the thresholds."""
        code = Code.of(granularity)
        deciding = Deciding((65535, 65535), (0, 0), predefined=code, dynamic=True)
        supply = Reorganized(self.master, self.shape, deciding, Decided(code))
        timing = simulate_supply(supply, len(tokens), MACHINE, Memory())
        return run(supply.program(), tokens, MACHINE), timing.cycles

    def check(self, found, granularity, tokens, *, exactly=True):
        """What a run gave."""
        sums, cycles = self.model(granularity, tokens)
        assert found.fault == Part.NONE
        np.testing.assert_array_equal(found.sums[:, : self.shape[0]], sums)
        np.testing.assert_array_equal(found.values[:, : self.shape[0]], self.table()(sums))
        assert found.granularity is granularity
        if exactly:
            assert found.counters["cycles"] == cycles
        else:
            assert found.counters["cycles"] >= cycles

    def running(self, at, tokens, **others):
        return Running(at, tokens, self.tiles, **others)


def garbage(random, count):
    """In bits that there are."""
    words = random.integers(0, 256, (count, MACHINE.outputs + 1)).astype(np.uint8)
    words[:, MACHINE.outputs] &= (1 << MACHINE.outputs) - 1
    return words


def power_up(chip, *matrices, granularity=Granularity.FINE, tokens=16, rows=None, **others):
    """Metadata of some matrices; where their descriptors are."""
    image = Image(MACHINE, ROWS)
    at = [one.add(image, granularity, tokens, **others) for one in matrices]
    chip.reset()
    chip.load(image)
    return at if len(at) > 1 else at[0]


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    granularity=st.sampled_from(list(Granularity)),
    rows=st.integers(1, 40),
    columns=st.integers(1, 150),
    scaled=st.booleans(),
)
@settings(max_examples=40)
def test_a_matrix_of_an_artifact(chip, seed, kind, granularity, rows, columns, scaled):
    """Payload to outputs; and all is as of a master copy and of channels that software has written."""
    random = np.random.default_rng(seed)
    one = Matrix.of(random, kind, rows, columns, base=int(random.integers(0, 1000)), scaled=scaled)
    tokens, before = numbers(random, 16, columns), garbage(random, WORDS)
    at = power_up(chip, one, granularity=granularity)
    chip.fill(before)
    ready = random.random(20_000) < random.choice([0.5, 1.0])
    made = chip.reconstruct(Reconstructing(at, one.payload, ready))
    assert (made.fault, made.rounded) == (Part.NONE, one.made.rounded > 0)
    words = one.master.words()
    end = one.base + len(words)
    np.testing.assert_array_equal(chip.copy(one.base, len(words)), words)
    np.testing.assert_array_equal(chip.copy(0, one.base), before[: one.base])
    np.testing.assert_array_equal(chip.copy(end, WORDS - end), before[end:])
    found = chip.execute(one.running(at, tokens))
    one.check(found, granularity, tokens)

    at = power_up(chip, one, granularity=granularity, channels=one.table())
    chip.fill(words, one.base)
    written = chip.execute(one.running(at, tokens))
    assert (written.cycles, written.counters) == (found.cycles, found.counters)
    np.testing.assert_array_equal(written.sums, found.sums)
    np.testing.assert_array_equal(written.values[:, :rows], found.values[:, :rows])


@pytest.mark.parametrize(
    ("file", "granularity"),
    [
        ("packed/packed.regrain.safetensors", Granularity.MEDIUM),
        ("pruned/pruned.regrain.safetensors", Granularity.FINE),
    ],
)
def test_tensors_of_the_golden_artifacts(chip, root, file, granularity):
    random, artifact, found = np.random.default_rng(2), reader.open(root / "tests" / "golden" / file), 0
    for name in artifact.tensors:
        part = artifact.part(name)
        payload = artifact.container.data[part.start : part.stop].tobytes()
        if payload[:4] not in (b"rgQ1", b"rgS1") or payload[5] != 1:  # bytes of an index
            continue
        one = Matrix(random, payload, seed=part.seed)
        at, tokens = power_up(chip, one, granularity=granularity), numbers(random, 16, one.shape[1])
        assert chip.reconstruct(Reconstructing(at, one.payload)).fault == Part.NONE
        words = one.master.words()
        np.testing.assert_array_equal(chip.copy(0, len(words)), words)
        one.check(chip.execute(one.running(at, tokens)), granularity, tokens)
        found += 1
    assert found >= 2


@pytest.fixture(scope="module")
def unit():
    return Simulation(Reconstruct(*SIZES))


def alone(unit, one):
    """Cycles from `start` to `done` of the reconstruction unit by itself, whose weights are always taken."""
    names = ("stream", "plane", "escape")
    payload = np.frombuffer(one.payload, np.uint8)
    memories = [Beside(f"{name}_address", f"{name}_data", payload, f"{name}_read") for name in names]
    memories.append(Beside("address", "instruction", one.made.words(), "asked"))
    given = {"limit": len(payload), "granted": 1, "weight_ready": 1, "channel_ready": 1}
    unit.reset()
    found = unit.run(given | {"start": np.arange(20_000) == 0}, memories=memories, until="stopped")
    assert found["done"][-1]
    return found.cycles - 1


@pytest.mark.parametrize(("kind", "rows", "columns"), [(kind, 16, 80) for kind in KINDS] + [("weights", 37, 51)])
def test_cycles_are_those_of_the_unit(chip, unit, kind, rows, columns):
    """6 before it starts and 1 after its end; behind each tile's first row one for each channel that isn't there."""
    one = Matrix.of(np.random.default_rng(1), kind, rows, columns)
    at = power_up(chip, one)
    beside = chip.reconstruct(Reconstructing(at, one.payload)).cycles - alone(unit, one)
    assert 7 <= beside <= 7 + one.tiles * (one.blocks * MACHINE.block - columns)


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("seed", range(6))
def test_the_next_matrix_while_one_runs(chip, seed, granularity):
    """Whatever begins first: both are as they are alone; the run may wait for its rows of the metadata memory."""
    random = np.random.default_rng(seed)
    kinds = random.choice(KINDS, 2)
    one = Matrix.of(random, kinds[0], 30, 70, base=64)
    other = Matrix.of(random, kinds[1], *random.integers(20, 60, 2).tolist(), base=64 + len(one.master.words()))
    tokens, more = numbers(random, 24, 70), numbers(random, 24, other.shape[1])
    at, then = power_up(chip, one, other, granularity=granularity, tokens=24)
    assert chip.reconstruct(Reconstructing(at, one.payload)).fault == Part.NONE
    begins = random.integers(0, 400, 2).tolist()
    next_one = Reconstructing(then, other.payload, random.random(9000) < 0.8, begins[0])
    made, found = chip.go(next_one, one.running(at, tokens, begins=begins[1]))
    assert made.fault == Part.NONE
    one.check(found, granularity, tokens, exactly=False)
    other.check(chip.execute(other.running(then, more, matrix=1)), granularity, more)
    one.check(chip.execute(one.running(at, tokens)), granularity, tokens)  # its factors are its own


def test_loading_goes_before_channels(chip):
    """Rows that are loaded while factors are written: both are there afterwards."""
    random = np.random.default_rng(6)
    one, tokens = Matrix.of(random, "rows", 24, 16), numbers(random, 16, 16)
    image = Image(MACHINE, ROWS)
    at = one.add(image, Granularity.FINE, 16)
    rows = image.array()
    chip.reset()
    chip.load(image)
    data = np.frombuffer(one.payload, np.uint8)
    names = ("stream", "plane", "escape")
    memories = [Beside(f"{name}_address", f"{name}_data", data, f"{name}_read") for name in names]
    cycles = 8000
    again = np.arange(cycles) % len(rows)  # all rows but the channels' own, which would undo them
    channels = np.arange(at - -(-24 // 2), at)
    begin = {"reconstruct": np.arange(cycles) == 0, "source": at, "limit": len(data), "copy__ready": 1}
    load = {"write": ~np.isin(again, channels), "write_address": again, "write_data": rows[again]}
    found = chip.simulation.run(begin | load, memories=memories, until="reconstructed")
    assert found["reconstructed"][-1]
    chip.fill(one.master.words())
    one.check(chip.execute(one.running(at, tokens)), Granularity.FINE, tokens)


def nothing_begins(chip, at, one, fault):
    """After a fault: neither command does anything, and the fault stays."""
    before = chip.memory.copy()
    made, found = chip.go(Reconstructing(at, one.payload), Running(at, numbers(np.random.default_rng(0), 16, 8), 0))
    assert (made.cycles, made.fault, found.cycles, found.fault) == (1, fault, 1, fault)
    np.testing.assert_array_equal(chip.memory, before)


def damaged(random, data):
    place = int(random.integers(len(data)))
    return data[:place] + bytes([data[place] ^ 1 << random.integers(0, 8)]) + data[place + 1 :]


def test_payloads_that_are_damaged(chip):
    """A fault of what reconstructs, or by the checksum the right weights; and a run beside it ends as it should."""
    random = np.random.default_rng(7)
    refused = 0
    for case in range(24):
        one, tokens = Matrix.of(random, "columns", 12, 40), numbers(random, 16, 40)
        other = Matrix.of(random, KINDS[case % len(KINDS)], 20, 30, base=500)
        at, then = power_up(chip, one, other)
        chip.fill(one.master.words())
        beside = one.running(at, tokens, begins=int(random.integers(0, 300))) if case % 2 else None
        made, found = chip.go(Reconstructing(then, damaged(random, other.payload)), beside, limit=20_000)
        if made.fault != Part.NONE:
            assert made.fault == Part.RECONSTRUCT
            assert Fault(made.code) not in (Fault.NONE, Fault.HANG)
            refused += 1
        else:
            np.testing.assert_array_equal(chip.copy(500, len(other.master.words())), other.master.words())
        if found is not None and (made.fault == Part.NONE or made.cycles > beside.begins + 1):
            assert found.counters["tokens"] == 16 * one.tiles
        if made.fault != Part.NONE:
            nothing_begins(chip, at, one, Part.RECONSTRUCT)
    assert refused > 10


def test_what_a_descriptor_may_not_be(chip):
    random = np.random.default_rng(8)
    one = Matrix.of(random, "quantized", 9, 20)
    image = Image(MACHINE, ROWS)
    at = one.add(image, Granularity.FINE, 16)
    whole = list(image.rows)
    for _ in range(20):
        image.rows[:] = [row.copy() for row in whole]
        image.rows[at + random.integers(0, 2)][random.integers(0, 15)] ^= 1 << random.integers(0, 8)
        chip.reset()
        chip.load(image)
        made = chip.reconstruct(Reconstructing(at, one.payload), limit=100)
        assert made.fault == Part.DESCRIPTOR
        nothing_begins(chip, at, one, Part.DESCRIPTOR)
    still = Image(MACHINE, ROWS)  # one that runs packed tiles
    shape = {"outputs": 9, "blocks": 3, "tokens": 16, "weights": 0, "channels": 0, "listed": True}
    at = still.add(Descriptor(granularity=Granularity.FINE, **shape), one.loaded)
    chip.reset()
    chip.load(still)
    assert chip.reconstruct(Reconstructing(at, one.payload), limit=100).fault == Part.DESCRIPTOR
    with pytest.raises(HardwareError, match="only a dynamic matrix can be reconstructed"):
        still.add(Descriptor(granularity=Granularity.FINE, **shape), one.loaded, program=one.made.words())


@pytest.mark.parametrize("where", ["beyond what is loaded", "a program cut off", "beyond the memory"])
def test_rows_that_are_not_there(chip, where):
    """Faults of the memory that both parts need, which end both."""
    one = Matrix.of(np.random.default_rng(9), "quantized", 40, 32)
    image = Image(MACHINE, ROWS)
    at = one.add(image, Granularity.MEDIUM, 16)
    rows, program = image.rows, image.rows[at:]
    if where == "a program cut off":
        del rows[-1]
    elif where == "beyond the memory":
        at = ROWS - 4
        rows[len(rows) :] = [*[rows[0]] * (at - len(rows)), *program[:4]]
    chip.reset()
    chip.load(image)
    source = len(rows) + 3 if where == "beyond what is loaded" else at
    made = chip.reconstruct(Reconstructing(source, one.payload), limit=5000)
    assert made.fault == Part.METADATA
    nothing_begins(chip, at, one, Part.METADATA)


@pytest.mark.parametrize(
    ("other", "scaled", "fault"),
    [
        ({"outputs": 8}, True, Misfit.OUTPUTS),
        ({"outputs": 8}, False, Misfit.OUTPUTS),
        ({"outputs": 10}, True, Misfit.OUTPUTS),
        ({"blocks": 2}, True, Misfit.BLOCKS),
        ({"blocks": 4}, True, Misfit.BLOCKS),
    ],
)
def test_a_program_for_another_matrix(chip, other, scaled, fault):
    random = np.random.default_rng(10)
    one = Matrix.of(random, "quantized", 9, 20, scaled=scaled)
    image = Image(MACHINE, ROWS)
    bias = Requantizer(*(np.full(other.get("outputs", 9), n) for n in (0, 1 << 10, 20)))
    at = one.add(image, Granularity.FINE, 16, channels=bias, **other)
    chip.reset()
    chip.load(image)
    made = chip.reconstruct(Reconstructing(at, one.payload), limit=5000)
    assert (made.fault, made.code) == (Part.MASTER, fault)
    nothing_begins(chip, at, one, Part.MASTER)


def test_what_never_comes_ends(chip):
    """A memory that takes no words, beside a run that ends; and a run that is refused beside a matrix that is made."""
    random = np.random.default_rng(11)
    one, other = Matrix.of(random, "quantized", 12, 40), Matrix.of(random, "16 by 1", 20, 30, base=500)
    tokens = numbers(random, 16, 40)
    at, then = power_up(chip, one, other)
    chip.fill(one.master.words())
    never = np.zeros(30_000, np.bool_)
    made, found = chip.go(Reconstructing(then, other.payload, never), one.running(at, tokens), limit=30_000)
    assert (made.fault, made.code) == (Part.MASTER, Misfit.WATCHDOG)
    assert found.cycles < 4096 < made.cycles < 9000
    sums, _ = one.model(Granularity.FINE, tokens)
    np.testing.assert_array_equal(found.sums[:, :12], sums)

    image = Image(MACHINE, ROWS)
    at, then = (each.add(image, Granularity.MEDIUM, 16) for each in (one, other))
    image.rows[one.blocks] = image.rows[one.blocks] | 1 << 5  # tags of blocks that there aren't
    chip.reset()
    chip.load(image)
    made, found = chip.go(Reconstructing(then, other.payload), one.running(at, tokens), limit=30_000)
    assert found.fault == Part.REORGANIZER
    np.testing.assert_array_equal(chip.copy(500, len(other.master.words())), other.master.words())


@pytest.mark.parametrize("begins", range(12))
def test_a_fault_while_a_descriptor_is_read(chip, begins):
    """Of the other part, in each cycle on the way: it is read or not, and nothing hangs."""
    one = Matrix.of(np.random.default_rng(13), "quantized", 9, 20)
    image = Image(MACHINE, ROWS)
    at = one.add(image, Granularity.FINE, 16)
    image.rows += [image.rows[0], image.rows[0]]  # no descriptor
    chip.reset()
    chip.load(image)
    wrong = one.running(len(image.rows) - 2, numbers(np.random.default_rng(0), 16, 20))
    made, found = chip.go(Reconstructing(at, one.payload, begins=begins), wrong, limit=5000)
    assert made.fault == found.fault == Part.DESCRIPTOR
    whole = np.array_equal(chip.copy(0, len(one.master.words())), one.master.words())
    assert made.cycles > 100 if whole else made.cycles < 10
    chip.fill(garbage(np.random.default_rng(1), 1000))


def test_a_program_without_its_weights(chip):
    one = Matrix.of(np.random.default_rng(12), "quantized", 9, 20)
    image = Image(MACHINE, ROWS)
    at = one.add(image, Granularity.FINE, 16)
    last = next(i for i, each in enumerate(one.made.program) if each.op is Op.VALUES)
    image.rows[at + 2 + last + 1 : at + 2 + len(one.made.program) - 1] = []
    chip.reset()
    chip.load(image)
    made = chip.reconstruct(Reconstructing(at, one.payload), limit=5000)
    assert (made.fault, made.code) == (Part.RECONSTRUCT, Fault.COUNT)
