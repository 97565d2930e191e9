"""The sequencer against a walk through its rules, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from regrain.hw.cosim import Memory, Simulation
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.rtl.sequencer import Sequencer

MACHINE = Machine(rows=6, pes=1, lanes=1, bank_words=1100, list_entries=576)
WORD_BITS = 11
CAUSES = ("issued", "load_stall", "act_stall", "drain_stall")


@dataclass(frozen=True)
class Job:
    """All tiles alike: steps of (block, words), over tiles of tokens."""

    steps: tuple[tuple[int, int], ...]
    listed: bool
    gather: bool
    tiles: int
    token_tiles: int
    last_rows: int

    @property
    def words(self):
        return sum(count for _, count in self.steps)


def job_of(random):
    listed = bool(random.integers(2))
    count = int(random.integers(1, 9))
    steps = int(random.integers(1, 9))
    counts = random.integers(1, 9, steps) if listed else [count] * steps
    order = random.integers(0, 1024, steps) if listed else range(steps)
    pairs = tuple((int(block), int(number)) for block, number in zip(order, counts, strict=True))
    tiles, token_tiles, last_rows = (int(n) for n in random.integers(1, 6, 3))
    return Job(pairs, listed, bool(random.integers(2)), tiles, token_tiles, last_rows)


def tile_of(words, count, listed, gather):
    """What the bank knows of a tile."""
    return (words - 1) | (count - 1) << WORD_BITS | listed << WORD_BITS + 3 | gather << WORD_BITS + 4


def walk(job, full, ready):
    """What happens in each cycle after `start`, from the rules: a cause, and for a word all that is known of it."""
    t, over, happened = 0, None, []
    for tile in range(job.tiles):
        load = 0
        if tile == 0 or not full[t - 1]:  # the cycle of the word before could not swap
            load = int(np.argmax(full[t:])) + 1
        happened += [("load_stall", None)] * load
        t += load
        for token_tile in range(job.token_tiles):
            for number in range(job.words):
                last = number == job.words - 1
                while cause := stall(
                    number == 0 and not ready[t], last and over is not None and t < over + MACHINE.rows
                ):
                    happened.append((cause, None))
                    t += 1
                over = t if last else over
                happened.append(("issued", (tile, token_tile, number)))
                t += 1
    return happened


def stall(no_activations, draining):
    """Why nothing is issued, if so."""
    return "act_stall" if no_activations else "drain_stall" if draining else None


@pytest.fixture(scope="module")
def simulation():
    return Simulation(Sequencer(MACHINE))


@pytest.mark.parametrize("seed", range(30))
def test_every_cycle_is_a_word_or_a_stall(simulation, seed):
    random = np.random.default_rng(seed)
    full = random.random(12_000) < random.choice([0.1, 0.5, 1.0])
    ready = random.random(12_000) < random.choice([0.2, 1.0])
    check(simulation, job_of(random), full, ready, random)


@pytest.mark.parametrize(("listed", "gather"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_as_many_steps_as_there_can_be(simulation, listed, gather):
    random = np.random.default_rng(7)
    blocks = random.integers(0, 1024, MACHINE.list_entries) if listed else range(1024)
    job = Job(tuple((int(block), 1) for block in blocks), bool(listed), bool(gather), 1, 2, 3)
    check(simulation, job, np.ones(2200, np.bool_), np.ones(2200, np.bool_), random)


def check(simulation, job, full, ready, random):
    """Run a job, in as many cycles as it is known when tiles are `full` and activations `ready`; compare all."""
    simulation.reset()
    cycles = len(full)
    full[-1] = ready[-1] = True
    happened = walk(job, full[1:], ready[1:])
    starts = np.cumsum([0] + [count for _, count in job.steps])[:-1]
    tile = tile_of(job.words, job.steps[0][1], job.listed, job.gather)
    entries = [block | (count - 1) << 10 for block, count in job.steps] + [0] * (1024 - len(job.steps))
    table = random.integers(0, 1024, (1024, 8))
    run = simulation.run(
        {
            "start": np.arange(cycles) == 0,
            "tiles": job.tiles,
            "token_tiles": job.token_tiles,
            "last_rows": job.last_rows,
            "full": full,
            "shadow": tile,
            "active": tile,
            "act_ready": ready,
        },
        memories=[
            Memory("step", "entry", np.array(entries), "read_step"),
            Memory("gather_address", "gather_rows", joined([bits(table, 10).reshape(1024, -1)]), "gather_read"),
        ],
    )
    end = 1 + len(happened)
    assert run["running"].tolist() == [0] + [1] * len(happened) + [0] * (cycles - end)
    for name in CAUSES:
        assert run[name][1:end].tolist() == [int(cause == name) for cause, _ in happened]
        assert not run[name][end:].any()
    steps, rows = run["act_rows"], []
    for t, (_, word) in enumerate(happened, 1):
        if word is None:
            assert not run["act_read"][t + 1] and not run["control"][t + 2]
            continue
        _, token_tile, number = word
        assert (run["word"][t], run["pass_tile"][t]) == (number, token_tile)
        step = int(np.flatnonzero(starts == number)[0]) if number in starts else None
        control = 1 | (step is not None) << 1 | (number == 0) << 2 | (number == job.words - 1) << 3
        assert run["control"][t + 2] == control
        assert run["rows"][t + 2] == (job.last_rows if token_tile == job.token_tiles - 1 else MACHINE.rows)
        assert run["pass_done"][t] == (number == job.words - 1)
        assert run["stepped"][t] == run["act_read"][t + 1] == (step is not None)
        assert run["gather_read"][t] == (step is not None and job.gather)
        if step is not None:
            block = job.steps[step][0]
            assert run["act_tile"][t + 1] == token_tile
            rows.append((t + 1, table[block] if job.gather else np.full(8, block)))
    shown = np.unpackbits(steps.view(np.uint8), axis=1, bitorder="little", count=80).reshape(cycles, 8, 10)
    for t, expected in rows:
        np.testing.assert_array_equal(shown[t].astype(np.int64) @ (1 << np.arange(10)), expected)
    swaps = run["swap"]
    assert swaps.sum() == job.tiles
    assert not (swaps & ~full).any()
    assert run["read_step"].sum() == (job.listed and len(job.steps) * job.tiles * job.token_tiles)


@pytest.mark.parametrize(("tiles", "token_tiles"), [(65_535, 1), (1, 65_535), (1, 43_690), (21_845, 1)])
def test_passes_of_sixteen_bits(simulation, tiles, token_tiles):
    """Tiles of one word: a pass takes as long as its rows need to leave."""
    simulation.reset()
    count = tiles * token_tiles
    cycles = 5 + MACHINE.rows * count
    tile = tile_of(1, 1, listed=False, gather=False)
    given = {"tiles": tiles, "token_tiles": token_tiles, "last_rows": 2, "full": 1, "shadow": tile, "active": tile}
    run = simulation.run({**given, "act_ready": 1, "start": np.arange(cycles) == 0})
    at = 2 + MACHINE.rows * np.arange(count)
    assert np.flatnonzero(run["issued"]).tolist() == at.tolist()
    assert np.flatnonzero(run["running"]).tolist() == list(range(1, at[-1] + 1))
    assert np.flatnonzero(run["swap"]).tolist() == [1, *(at[:-1] if tiles > 1 else [])]
    number = np.arange(count) % token_tiles
    np.testing.assert_array_equal(run["pass_tile"][at], number)
    np.testing.assert_array_equal(run["act_tile"][at + 1], number)
    np.testing.assert_array_equal(run["rows"][at + 2], np.where(number == token_tiles - 1, 2, MACHINE.rows))


def test_a_halt_is_for_ever(simulation):
    simulation.reset()
    tile = tile_of(32, 1, listed=False, gather=False)
    inputs = {"tiles": 1, "token_tiles": 2, "last_rows": 1, "full": 1, "act_ready": 1, "shadow": tile, "active": tile}
    halt = np.arange(200) >= 20
    run = simulation.run({**inputs, "start": np.arange(200) == 0, "halt": halt})
    assert run["issued"][2:20].all()
    assert not any(run[name][20:].any() for name in CAUSES)
    assert not run["control"][22:].any()
