"""The metadata memory, written in part: of a row that is loaded, the bytes that are not to be kept."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.rtl.metadata import MetadataMemory

ROWS, READERS = 100, 3


@pytest.fixture(scope="module")
def compiled():
    return Simulation(MetadataMemory(ROWS, READERS))


@pytest.fixture
def memory(compiled):
    compiled.reset()
    return compiled


def random_rows(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def load(memory, rows):
    memory.run({"write": 1, "write_address": np.arange(len(rows)), "write_data": rows})


def contents(memory, count):
    run = memory.run({"asked": 1, "address": np.minimum(np.arange(count + 1), count - 1)})
    assert not run["error"].any()
    return run["data"][1:].astype("<u4").view(np.uint8)


def test_bytes_that_are_kept_and_others(memory):
    random, rows = np.random.default_rng(1), random_rows(2, ROWS)
    load(memory, rows)
    count = 3000
    keep, data, where = random.random((count, 16)) < 0.5, random_rows(3, count), random.integers(0, ROWS, count)
    given = {"write_address": where, "write_data": data, "write_keep": keep @ (1 << np.arange(16))}
    run = memory.run(given | {"write": random.random(count) < 0.8})
    assert not run["error"].any()
    assert (run["loaded"] == ROWS).all()
    for place, kept, row in zip(
        where[run["write"] == 1], keep[run["write"] == 1], data[run["write"] == 1], strict=True
    ):
        rows[place] = np.where(kept, rows[place], row)
    np.testing.assert_array_equal(contents(memory, ROWS), rows)


@pytest.mark.parametrize("keep", [1, 1 << 15, 0xFFFF])
@pytest.mark.parametrize("place", [0, 10, 11, 127])
def test_a_row_that_is_not_loaded(memory, keep, place):
    rows = random_rows(4, 10)
    load(memory, rows[:10])
    if not place:
        memory.run({"clear": 1}, 1)
    write = {"write": [1, 0, 0], "write_address": place, "write_data": random_rows(5, 3), "write_keep": keep}
    run = memory.run(write)
    assert run["error"].tolist() == [0, 1, 1]
    assert run["loaded"].tolist() == [10 * (place > 0)] * 3
