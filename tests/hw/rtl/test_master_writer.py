"""The master copy's writer: every write is the model's, whatever the memory does; and what doesn't fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.hw.cosim import Simulation, Source
from regrain.hw.machine import Machine
from regrain.hw.model.repack import Master
from regrain.hw.model.written import Written
from regrain.hw.rtl.master_writer import MasterWriter, Misfit

MACHINE = Machine(rows=2, pes=3, lanes=2)
OUTPUTS, BLOCK = MACHINE.outputs, MACHINE.block
PATIENCE = 6


@pytest.fixture(scope="module")
def compiled():
    return Simulation(MasterWriter(MACHINE, patience=PATIENCE))


@pytest.fixture
def writer(compiled):
    compiled.reset()
    return compiled


def matrix(random, rows, columns):
    weights = random.integers(-128, 128, (rows, columns)).astype(np.int8)
    weights[random.random(weights.shape) < 0.4] = 0
    return weights


def begin(writer, rows, columns, base=0, **others):
    """`start`, and the shape that holds from then on."""
    shape = {"outputs": rows, "blocks": -(-columns // BLOCK), "base": base} | others
    writer.run(shape | {"start": 1}, 1)
    return shape


def items(weights):
    row, column = np.indices(weights.shape).reshape(2, -1)
    return {"weight": weights.reshape(-1), "weight_row": row, "weight_column": column}


def offer(writer, shape, given, cycles, ready=1, offered=None):
    source = Source("weight_valid", "weight_ready", given, offered)
    return writer.run(shape | {"write__ready": ready}, cycles, sources=[source])


def close(writer, shape, cycles, ready=1):
    return writer.run(shape | {"write__ready": ready, "end": np.arange(cycles) == 0}, cycles, until="done")


def writes(*runs):
    """What was written: address, lanes, values and tags, a row each."""
    found = []
    for run in runs:
        at = (run["write__valid"] & run["write__ready"]) == 1
        data = run["write__data"][at].astype(np.uint64)
        values = (data[:, None] >> np.arange(0, 8 * OUTPUTS, 8, dtype=np.uint64) & np.uint64(255)).astype(np.uint8)
        bits = np.arange(OUTPUTS, dtype=np.uint64)
        tags = (data[:, None] >> (bits + np.uint64(8 * OUTPUTS)) & np.uint64(1)).astype(np.bool_)
        lanes = (run["write__lanes"][at][:, None] >> np.arange(OUTPUTS) & 1).astype(np.bool_)
        found.append((run["write__address"][at], lanes, values.view(np.int8), tags))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def equal(found, model):
    address, lanes, values, tags = found
    np.testing.assert_array_equal(address, model.address)
    np.testing.assert_array_equal(lanes, model.lanes)
    np.testing.assert_array_equal(values[lanes], model.values[lanes])
    np.testing.assert_array_equal(tags[lanes], model.values[lanes] != 0)


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 3 * OUTPUTS + 2),
    columns=st.integers(1, 40),
    speed=st.sampled_from([0.2, 0.7, 1.0]),
    arrival=st.sampled_from([0.3, 0.8, 1.0]),
)
@settings(max_examples=80)
def test_every_write_is_the_models(compiled, seed, rows, columns, speed, arrival):
    """And from garbage they make the master copy that software makes."""
    compiled.reset()
    random = np.random.default_rng(seed)
    weights, base = matrix(random, rows, columns), int(random.integers(0, 1 << 20))
    model = Written.of(weights, MACHINE, base=base)
    shape = begin(compiled, rows, columns, base)
    cycles = int(4 * (len(model.address) + 30) / speed / arrival)
    run = offer(compiled, shape, items(weights), cycles, random.random(cycles) < speed, random.random(cycles) < arrival)
    assert run.taken == (weights.size,)
    assert run["busy"].all()
    last = close(compiled, shape, 200, random.random(200) < speed)
    assert last["done"].tolist() == [0] * (last.cycles - 1) + [1]
    equal(writes(run, last), model)
    after = compiled.run(shape | {"write__ready": 1}, 2)
    assert not (after["busy"] | after["done"] | after["fault"] | after["write__valid"]).any()

    words = random.integers(0, 256, (len(np.unique(model.address)), OUTPUTS + 1)).astype(np.uint8)
    words[:, OUTPUTS] &= (1 << OUTPUTS) - 1
    Written.of(weights, MACHINE).apply(words)
    kept, blocks = weights != 0, -(-columns // BLOCK)
    tiles = np.ones((-(-rows // OUTPUTS), blocks), np.bool_)
    whole = Master.of(weights, MACHINE, fine=kept, medium=tiles, coarse=np.ones(columns, np.bool_))
    np.testing.assert_array_equal(words, whole.words())


@pytest.mark.parametrize(("rows", "columns"), [(OUTPUTS, BLOCK), (1, 1), (2 * OUTPUTS + 1, 2 * BLOCK + 3)])
def test_a_write_a_cycle(writer, rows, columns):
    """Weights that come at once are written at once; zeros behind a tile's first row take their cycles, and no more."""
    weights = matrix(np.random.default_rng(rows), rows, columns)
    model = Written.of(weights, MACHINE)
    before = int(np.flatnonzero(model.taken)[-1]) + 1
    shape = begin(writer, rows, columns)
    run = offer(writer, shape, items(weights), before)
    assert run["write__valid"].all()
    np.testing.assert_array_equal(run["weight_ready"], model.taken[:before])
    assert close(writer, shape, 50).cycles == len(model.address) - before + 2  # `end` is seen a cycle later


def test_matrices_follow_one_another(writer):
    """`start` is ignored while a matrix is written; then the next one begins, and what was seen of `end` is over."""
    random = np.random.default_rng(1)
    for base in (5, 900):
        weights = matrix(random, OUTPUTS + 2, BLOCK + 1)
        shape = begin(writer, *weights.shape, base)
        writer.run(shape | {"base": 77, "start": 1}, 1)
        run = offer(writer, shape, items(weights), 200)
        last = close(writer, shape, 50)
        equal(writes(run, last), Written.of(weights, MACHINE, base=base))


@pytest.mark.parametrize(("rows", "columns"), [(9500, 2), (300, 3), (7, 2900), (1, 5400), (8, 1000)])
def test_large_matrices(writer, rows, columns):
    random = np.random.default_rng(rows)
    weights, base = matrix(random, rows, columns), int(random.integers(0, 1 << 20))
    model = Written.of(weights, MACHINE, base=base)
    shape = begin(writer, rows, columns, base)
    run = offer(writer, shape, items(weights), len(model.address))
    equal(writes(run, close(writer, shape, 20)), model)


@pytest.mark.parametrize(("rows", "blocks"), [(1, 1024), (3 * OUTPUTS, 5)])
def test_the_largest_addresses(writer, rows, blocks):
    """Up to the last word that there can be."""
    columns, base = blocks * BLOCK, (1 << 24) - -(-rows // OUTPUTS) * blocks * BLOCK
    weights = matrix(np.random.default_rng(2), rows, columns)
    shape = begin(writer, rows, columns, base)
    run = offer(writer, shape, items(weights), weights.size)
    equal(writes(run), Written.of(weights, MACHINE, base=base))
    assert close(writer, shape, 3)["done"][-1]


def refused(writer, shape, fault):
    """It stays refused, nothing is written, and no `start` helps."""
    inputs = {"write__ready": 1, "weight_valid": 1, "start": 1, "end": 1}
    after = writer.run(shape | inputs, 30)
    assert (after["fault"] == fault).all()
    assert not (after["busy"] | after["done"] | after["write__valid"] | after["weight_ready"]).any()


@pytest.mark.parametrize(
    ("rows", "blocks", "found", "fault"),
    [
        (7, 2, (8, 16), Misfit.OUTPUTS),
        (7, 2, (6, 16), Misfit.OUTPUTS),
        (1, 2, (2, 9), Misfit.OUTPUTS),
        (13, 1, (12, 8), Misfit.OUTPUTS),
        (7, 2, (7, 17), Misfit.BLOCKS),
        (7, 2, (7, 8), Misfit.BLOCKS),
        (1, 2, (1, 8), Misfit.BLOCKS),
        (1, 1, (1, 9), Misfit.BLOCKS),
        (7, 3, (7, 3), Misfit.BLOCKS),
    ],
)
def test_other_shapes_than_the_descriptors(writer, rows, blocks, found, fault):
    weights = matrix(np.random.default_rng(3), *found)
    shape = begin(writer, rows, blocks * BLOCK)
    run = offer(writer, shape, items(weights), weights.size + 2 * BLOCK)
    last = close(writer, shape, 30)
    assert not last["done"].any()
    address, *_ = writes(run, last)
    assert (address < -(-rows // OUTPUTS) * blocks * BLOCK).all()  # nothing is written beyond the copy
    refused(writer, shape, fault)


def test_no_weights_at_all(writer):
    shape = begin(writer, 7, 9)
    close(writer, shape, 5)
    refused(writer, shape, Misfit.BLOCKS)


@pytest.mark.parametrize("place", [0, 1, 8, 9, 40])
@pytest.mark.parametrize("change", [(0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (2, 0), (256, 0), (0, 4096)])
def test_weights_out_of_order(compiled, place, change):
    compiled.reset()
    weights = matrix(np.random.default_rng(4), 7, 9)
    given = items(weights)
    row, column = given["weight_row"].copy(), given["weight_column"].copy()
    row[place], column[place] = (row[place] + change[0]) % (1 << 16), (column[place] + change[1]) % (1 << 16)
    shape = begin(compiled, 7, 9)
    run = offer(compiled, shape, given | {"weight_row": row, "weight_column": column}, 90)
    assert run.taken == (place,)
    refused(compiled, shape, Misfit.BLOCKS if (row[place], column[place]) == (1, 0) else Misfit.ORDER)


def test_a_memory_that_never_takes(writer):
    shape = begin(writer, 7, 9)
    weights = matrix(np.random.default_rng(5), 7, 9)
    patient = np.ones(200, np.bool_)
    patient[20 : 20 + (1 << PATIENCE) - 2] = False  # a cycle before it is too long
    assert offer(writer, shape, items(weights), 200, patient).taken == (weights.size,)
    assert close(writer, shape, 30)["done"][-1]
    shape = begin(writer, 7, 9)
    run = offer(writer, shape, items(weights), 200, np.arange(200) < 20)
    assert np.flatnonzero(run["fault"])[0] == 20 + (1 << PATIENCE)
    refused(writer, shape, Misfit.WATCHDOG)


def test_weights_that_never_come_are_waited_for(writer):
    shape = begin(writer, 7, 9)
    run = writer.run(shape | {"write__ready": 1}, 4 << PATIENCE)
    assert run["busy"].all()
    assert not (run["fault"] | run["write__valid"]).any()
