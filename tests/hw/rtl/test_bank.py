"""The double bank: what is read is the active tile, whatever happens to the shadow; bad words are never taken."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation, Source
from regrain.hw.cosim.words import bits, joined, pack
from regrain.hw.machine import Machine
from regrain.hw.model.program import Tile, blocks, dense, fine
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.layouts import Fault

MACHINE = Machine(rows=2, pes=2, lanes=2, bank_words=40, list_entries=5)
LIMIT = 5


@pytest.fixture
def bank():
    return Simulation(Bank(MACHINE))


def tile_of(random):
    """A tile at random, that fits."""
    weights = random.integers(-128, 128, (4, int(random.integers(1, 41)))).astype(np.int8)
    weights[random.random(weights.shape) < random.random()] = 0
    make = (dense, fine, blocks)[int(random.integers(3))]
    return make(weights, MACHINE).tiles[0]


def timeline(tiles, random, cycles):
    """Offers and swaps at random, and by the rules when words are taken; a swap comes only when the shadow is full."""
    offered, swaps, taken = random.random(cycles) < 0.7, np.zeros(cycles, np.bool_), []
    ends = np.cumsum([tile.words for tile in tiles])
    full = swapped = held = False
    for t in range(cycles):
        swaps[t] = full and random.random() < 0.2
        held = len(taken) < ends[-1] and (held or offered[t])
        takes = held and not full and not swapped
        if takes:
            taken.append(t)
            held = False
        swapped = swaps[t]
        full = (full and not swapped) or (takes and len(taken) in ends)
    return offered, swaps, np.array(taken)


@pytest.mark.parametrize("seed", range(8))
def test_reads_see_the_active_tile(bank, seed):
    random = np.random.default_rng(seed)
    tiles, cycles = [tile_of(random) for _ in range(12)], 1200
    words, _ = pack(tiles, MACHINE)
    offered, swaps, taken = timeline(tiles, random, cycles)
    active = np.concatenate([[-1], np.cumsum(swaps)[:-1] - 1])  # in each cycle
    reads_word = (random.random(cycles) < 0.6) & (active >= 0)
    reads_step = (random.random(cycles) < 0.6) & (active + swaps >= 0)
    word, step = np.zeros((2, cycles), np.int64)
    for t in range(cycles):
        now, then = tiles[active[t]], tiles[active[t] + swaps[t]]
        word[t] = random.integers(now.words)
        step[t] = random.integers(then.steps) if then.listed else 0
        reads_step[t] &= then.listed
    source = Source("stream__valid", "stream__ready", {"stream__payload": words}, offered)
    given = {"swap": swaps, "read_word": reads_word, "word": word, "read_step": reads_step, "step": step}
    run = bank.run({**given, "blocks": LIMIT, "gathered": 0}, sources=[source])
    assert not run["fault"].any()
    np.testing.assert_array_equal(np.flatnonzero(run["written"]), taken)
    assert run.taken == (len(taken),)

    weights = run["weights"]
    for t in np.flatnonzero(reads_word[:-2]):
        tile = tiles[active[t]]
        lanes = np.stack([tile.values[word[t]].view(np.uint8), tile.index[word[t]]], 1).astype(np.int64)
        assert weights[t + 2] == int((lanes[:, 0] | lanes[:, 1] << 8) @ (1 << 11 * np.arange(4)))
    for t in np.flatnonzero(reads_step[:-1]):
        tile = tiles[active[t] + swaps[t]]
        assert run["entry"][t + 1] == tile.blocks[step[t]] | int(tile.counts[step[t]] - 1) << 10
    for t in np.flatnonzero(active >= 0):
        tile = tiles[active[t]]
        expected = (tile.words - 1) | int(tile.counts[0] - 1) << 6 | tile.listed << 9 | tile.gather << 10
        assert run["active"][t] == expected


def stream(*words):
    """Words of (first, block, count, last, listed, gather), with weights of zero."""
    columns = np.array(words, np.int64).T
    widths = (1, 10, 3, 1, 1, 1)
    lanes = np.zeros((len(words), MACHINE.word_bits), np.uint8)
    return joined([lanes, *(bits(column, width) for column, width in zip(columns, widths, strict=True))])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([(0, 0, 0, 1, 1, 0)], Fault.FRAMING),
        ([(1, 0, 1, 0, 1, 0), (1, 1, 0, 1, 1, 0)], Fault.FRAMING),
        ([(1, 0, 0, 0, 1, 0), (0, 0, 0, 1, 1, 0)], Fault.FRAMING),
        ([(1, 0, 1, 1, 1, 0)], Fault.FRAMING),
        ([(1, 0, 2, 0, 1, 0), (0, 0, 0, 1, 1, 0)], Fault.FRAMING),
        ([(1, LIMIT, 0, 1, 1, 0)], Fault.BLOCK),
        ([(1, LIMIT - 1, 0, 0, 1, 1)], Fault.BLOCK),
        ([(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, 0)], Fault.MIXED),
        ([(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 1, 1)], Fault.MIXED),
        ([(1, 1, 0, 0, 0, 0)], Fault.ORDER),
        ([(1, 0, 0, 0, 0, 0), (1, 2, 0, 0, 0, 0)], Fault.ORDER),
        ([(1, 0, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0)], Fault.ORDER),
        ([(1, 0, 0, 0, 1, 0)] * 6, Fault.LIST),
    ],
)
def test_a_bad_word_is_not_taken(bank, words, fault):
    source = Source("stream__valid", "stream__ready", {"stream__payload": stream(*words)})
    run = bank.run({"blocks": LIMIT, "gathered": 3}, 12, sources=[source])
    assert run.taken == (len(words) - 1,)
    assert run["fault"][: len(words) - 1].max(initial=0) == Fault.NONE
    assert (run["fault"][len(words) - 1 :] == fault).all()
    assert not run["full"].any()


def test_more_words_than_a_bank_has(bank):
    long = [(int(at % 8 == 0), at // 8 % LIMIT, 7, 0, 1, 0) for at in range(41)]
    source = Source("stream__valid", "stream__ready", {"stream__payload": stream(*long)})
    run = bank.run({"blocks": LIMIT}, 50, sources=[source])
    assert run.taken == (40,)
    assert (run["fault"][40:] == Fault.WORDS).all()


def test_a_tile_may_fill_bank_and_list(bank):
    values, index = np.zeros((40, 4), np.int8), np.zeros((40, 4), np.uint8)
    tile = Tile(values, index, np.arange(5, dtype=np.uint16), np.full(5, 8, np.uint8))
    source = Source("stream__valid", "stream__ready", {"stream__payload": pack([tile], MACHINE)[0]})
    run = bank.run({"blocks": LIMIT}, 45, sources=[source])
    assert run["full"].tolist() == [0] * 40 + [1] * 5
    assert not run["stream__ready"][40:].any()
