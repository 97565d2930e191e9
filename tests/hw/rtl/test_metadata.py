"""The metadata memory: what was loaded is read by whoever asks, in turn; all else is an error."""

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


def load(memory, rows):
    """Load (n, 4) words from address 0 on."""
    memory.run({"write": 1, "write_address": np.arange(len(rows)), "write_data": rows})


def addresses(asked):
    """(cycles, readers) as the bits of the port: 7 each."""
    return (asked.astype(np.int64) << np.arange(asked.shape[1]) * 7).sum(axis=1)


def random_rows(seed, count=ROWS):
    return np.random.default_rng(seed).integers(0, 1 << 32, (count, 4), dtype=np.uint32)


def test_readers_get_the_rows_they_asked_for_in_turn(memory):
    rows, rng = random_rows(1), np.random.default_rng(2)
    load(memory, rows)
    cycles = 2000
    asked, where = rng.random((cycles, READERS)) < 0.6, rng.integers(0, ROWS, (cycles, READERS))
    run = memory.run({"asked": (asked << np.arange(READERS)).sum(axis=1), "address": addresses(where)})
    assert not run["error"].any()
    granted, turn = run["granted"], 0
    for cycle in range(cycles):
        waiting = [reader % READERS for reader in range(turn, turn + READERS) if asked[cycle, reader % READERS]]
        assert granted[cycle] == (1 << waiting[0] if waiting else 0)
        if waiting and cycle + 1 < cycles:
            turn = (waiting[0] + 1) % READERS
            assert run["answered"][cycle + 1] == granted[cycle]
            np.testing.assert_array_equal(run["data"][cycle + 1], rows[where[cycle, waiting[0]]])
        elif cycle + 1 < cycles:
            assert run["answered"][cycle + 1] == 0


def test_all_readers_at_once_share_every_cycle(memory):
    load(memory, random_rows(1))
    run = memory.run({"asked": [7] * 9, "address": 0})
    assert run["granted"].tolist() == [1, 2, 4] * 3


def test_a_row_can_be_loaded_again_and_is_old_while_it_is_written(memory):
    rows = random_rows(3, 12)
    load(memory, rows[:10])
    again = {"write": [1, 0, 0], "write_address": 4, "write_data": np.repeat(rows[10:11], 3, axis=0)}
    run = memory.run(again | {"asked": [1, 1, 0], "address": 4})
    np.testing.assert_array_equal(run["data"][1:], [rows[4], rows[10]])
    assert run["loaded"].tolist() == [10] * 3


def test_clearing_leaves_nothing_to_read(memory):
    load(memory, random_rows(4, 10))
    run = memory.run({"clear": [1, 0, 0], "asked": [0, 1, 0], "address": 0})
    assert run["loaded"].tolist() == [10, 0, 0]
    assert run["granted"].tolist() == [0, 0, 0]
    assert run["error"].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "bad",
    [
        {"asked": [2, 0, 0], "address": 10 << 7},
        {"asked": [4, 0, 0], "address": 127 << 14},
        {"write": [1, 0, 0], "write_address": 11},
        {"write": [1, 0, 0], "write_address": 127},
    ],
)
def test_what_is_out_of_bounds_stops_it(memory, bad):
    load(memory, random_rows(5, 10))
    run = memory.run(bad)
    assert run["error"].tolist() == [0, 1, 1]
    assert not run["granted"].any()
    assert not run["answered"].any()
    assert run["loaded"].tolist() == [10] * 3
    later = memory.run({"asked": [1] * 5, "address": 0, "write": 1, "write_address": 10})
    assert not later["granted"].any()
    assert later["loaded"].tolist() == [10] * 5


def test_the_last_row_is_loaded_and_no_further(memory):
    load(memory, random_rows(6))
    run = memory.run({"asked": [1, 0], "address": ROWS - 1})
    np.testing.assert_array_equal(run["data"][1], random_rows(6)[-1])
    run = memory.run({"write": [1, 0], "write_address": ROWS})
    assert run["loaded"].tolist() == [ROWS, ROWS]
    assert run["error"].tolist() == [0, 1]


def contents(memory, count):
    run = memory.run({"asked": 1, "address": np.minimum(np.arange(count + 1), count - 1)})
    assert not run["error"].any()
    return run["data"][1:].astype("<u4").view(np.uint8)


def test_bytes_that_are_kept_and_others(memory):
    random, rows = np.random.default_rng(1), random_rows(2).view(np.uint8)
    load(memory, rows)
    count = 3000
    keep, where = random.random((count, 16)) < 0.5, random.integers(0, ROWS, count)
    data = random_rows(3, count).view(np.uint8)
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
