"""The bank with numbers of all their bits: every limit of blocks, and tiles of many steps."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation, Source
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.rtl.bank import Bank
from regrain.hw.rtl.layouts import Fault

MACHINE = Machine(rows=2, pes=2, lanes=2, bank_words=1100, list_entries=5)
LIMITS = sorted({max((1 << power) + near, 1) for power in range(11) for near in (-1, 0, 1)} - {1025})


@pytest.fixture(scope="module")
def bank():
    return Simulation(Bank(MACHINE))


def offer(bank, *words, **limits):
    """Words of (first, block, count, last, listed, gather), with weights of zero, one a cycle."""
    columns = np.array(words, np.int64).T
    widths = (1, 10, 3, 1, 1, 1)
    lanes = np.zeros((len(words), MACHINE.word_bits), np.uint8)
    stream = joined([lanes, *(bits(column, width) for column, width in zip(columns, widths, strict=True))])
    source = Source("stream__valid", "stream__ready", {"stream__payload": stream})
    return bank.run(limits, len(words) + 1, sources=[source])


@pytest.mark.parametrize("gather", [0, 1])
def test_every_limit_of_blocks(bank, gather):
    """The other limit is 0, of which nothing is below: it must be of no meaning."""
    for limit in LIMITS:
        limits = {"gathered" if gather else "blocks": limit}
        for block in {limit - 1, limit, limit ^ 1, *(limit ^ 1 << bit for bit in range(10))} & set(range(1024)):
            bank.reset()
            run = offer(bank, (1, block, 0, 1, 1, gather), **limits)
            assert run["fault"][-1] == (Fault.BLOCK if block >= limit else Fault.NONE), (block, limit)
            assert run["full"][-1] == (block < limit)


def test_lists_of_ten_bits(bank):
    random = np.random.default_rng(4)
    bank.reset()
    for _ in range(100):
        blocks = random.integers(0, 1024, 5)
        last = np.arange(5) == 4
        run = offer(bank, *[(1, block, 0, end, 1, 0) for block, end in zip(blocks, last, strict=True)], blocks=1024)
        assert run["full"][-1] and not run["fault"].any()
        bank.run({"swap": 1}, 1)
        read = bank.run({"read_step": 1, "step": [*range(5), 0]})
        np.testing.assert_array_equal(read["entry"][1:], blocks)


def test_steps_that_are_counted(bank):
    """Unlisted, blocks must be 0, 1, 2 ...: any other number, in any bit and at any step, is a fault."""
    words = [(1, at, 0, int(at == 1023), 0, 0) for at in range(1024)]
    bank.reset()
    assert not offer(bank, *words, blocks=1024)["fault"].any()
    for at in [*range(20), 64, 255, 256, 511, 512, 1000, 1023]:
        for bit in range(10):
            bank.reset()
            wrong = [*words[:at], (1, at ^ 1 << bit, 0, 0, 0, 0)]
            run = offer(bank, *wrong, blocks=1024)
            assert run.taken == (at,) and run["fault"][-1] == Fault.ORDER


def test_more_steps_than_blocks(bank):
    """The step after the last block that there can be has no number."""
    words = [(1, at % 1024, 0, 0, 0, 0) for at in range(1025)]
    bank.reset()
    run = offer(bank, *words, blocks=1024)
    assert run.taken == (1024,) and run["fault"][-1] == Fault.ORDER


def test_words_of_all_addresses(bank):
    """A tile that fills the bank, read back at every place."""
    random, count = np.random.default_rng(5), MACHINE.bank_words
    lanes = random.integers(0, 1 << MACHINE.word_bits, count)
    place = np.arange(count)
    columns = [place % 4 == 0, place // 4, 3 * np.ones(count, np.int64), place == count - 1, 0 * place, 0 * place]
    fields = [bits(lanes, MACHINE.word_bits), *map(bits, columns, (1, 10, 3, 1, 1, 1))]
    source = Source("stream__valid", "stream__ready", {"stream__payload": joined(fields)})
    bank.reset()
    assert bank.run({"blocks": 1024}, count + 1, sources=[source])["full"][-1]
    bank.run({"swap": 1}, 1)
    order = random.permutation(count)
    run = bank.run({"read_word": 1, "word": np.concatenate([order, order[:2]])})
    np.testing.assert_array_equal(run["weights"][2:], lanes[order])


@pytest.mark.parametrize(("change", "fault"), [((0, 0, 1, 0, 0, 0), Fault.ORDER), ((0, 0, 0, 0, 0, 1), Fault.MIXED)])
def test_a_tile_stays_as_it_began(bank, change, fault):
    """Another count, or gathered at once: at every word but the first."""
    for at in range(1, 40):
        words = np.array([(1, step, 0, 0, 0, 0) for step in range(at + 1)])
        words[at] += change
        bank.reset()
        run = offer(bank, *words, blocks=1024, gathered=1024)
        assert run.taken == (at,) and run["fault"][-1] == fault
