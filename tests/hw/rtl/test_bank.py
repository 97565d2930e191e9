"""The double bank: what is read is the active tile, whatever happens to the shadow; bad words are never taken."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation, Source
from regrain.hw.cosim.words import bits, joined, pack
from regrain.hw.machine import Machine
from regrain.hw.model.program import blocks, dense, fine
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.layouts import Fault

MACHINE = Machine(rows=2, pes=2, lanes=2, bank_words=1100, list_entries=5)
LIMIT = 5


@pytest.fixture(scope="module")
def compiled():
    return Simulation(Bank(MACHINE))


@pytest.fixture
def bank(compiled):
    compiled.reset()
    return compiled


def tile_of(random):
    """A tile at random, that fits."""
    weights = random.integers(-128, 128, (4, int(random.integers(1, 41)))).astype(np.int8)
    weights[random.random(weights.shape) < random.random()] = 0
    make = (dense, fine, blocks)[int(random.integers(3))]
    return make(weights, MACHINE).tiles[0]


def firsts(tile):
    """Where its steps begin."""
    return np.cumsum([0, *tile.counts[:-1]])


def known(tile):
    """What the bank knows of it."""
    return (tile.words - 1) | int(tile.counts[0] - 1) << 11 | tile.listed << 14 | tile.gather << 15


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
    # Words that are read must be those of a tile, and addresses without a read are of no meaning.
    word = np.where(reads_word, word, random.integers(0, MACHINE.bank_words, cycles))
    given = {"swap": swaps, "read_word": reads_word, "word": word, "read_step": reads_step, "step": step}
    run = bank.run({**given, "blocks": LIMIT, "gathered": 0}, sources=[source])
    assert not run["fault"].any()
    np.testing.assert_array_equal(np.flatnonzero(run["written"]), taken)
    assert run.taken == (len(taken),)
    begins = np.concatenate([tile.listed & np.isin(np.arange(tile.words), firsts(tile)) for tile in tiles])
    np.testing.assert_array_equal(np.flatnonzero(run["listing"]), taken[begins[: len(taken)]])

    weights = run["weights"]
    for t in np.flatnonzero(reads_word[:-2]):
        tile = tiles[active[t]]
        lanes = np.stack([tile.values[word[t]].view(np.uint8), tile.index[word[t]]], 1).astype(np.int64)
        assert weights[t + 2] == int((lanes[:, 0] | lanes[:, 1] << 8) @ (1 << 11 * np.arange(4)))
    read = None
    for t in range(cycles - 1):
        if reads_step[t]:
            tile = tiles[active[t] + swaps[t]]
            read = tile.blocks[step[t]] | int(tile.counts[step[t]] - 1) << 10
        assert read is None or run["entry"][t + 1] == read
    for t in np.flatnonzero(active >= 0):
        assert run["active"][t] == known(tiles[active[t]])
    for t in np.flatnonzero(run["full"]):
        assert run["shadow"][t] == known(tiles[active[t] + 1])


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
    words = MACHINE.bank_words
    long = [(int(at % 8 == 0), at // 8, 7, 0, 0, 0) for at in range(words + 1)]
    source = Source("stream__valid", "stream__ready", {"stream__payload": stream(*long)})
    run = bank.run({"blocks": 1024}, words + 10, sources=[source])
    assert run.taken == (words,)
    assert (run["fault"][words:] == Fault.WORDS).all()


@pytest.mark.parametrize(("steps", "listed"), [(5, 1), (MACHINE.bank_words // 4, 0)])
def test_a_tile_may_fill_list_and_bank(bank, steps, listed):
    count = 8 if listed else 4
    words = steps * count
    long = [(int(at % count == 0), at // count, count - 1, int(at == words - 1), listed, 0) for at in range(words)]
    source = Source("stream__valid", "stream__ready", {"stream__payload": stream(*long)})
    run = bank.run({"blocks": steps}, words + 5, sources=[source])
    assert run["full"].tolist() == [0] * words + [1] * 5
    assert (run["shadow"][words:] == (words - 1 | count - 1 << 11 | listed << 14)).all()
    assert not run["stream__ready"][words:].any()
