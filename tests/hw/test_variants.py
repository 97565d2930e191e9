"""Granularities of a matrix: what is kept, and that every encoding computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.golden import product, run
from regrain.hw.networks.variants import ENCODINGS, cheapest, encode, keep

MACHINE = Machine()
SEEDS = st.integers(0, 2**32 - 1)


def sparse(seed: int) -> np.ndarray:
    """A matrix with zeros of some kind."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 50)), int(rng.integers(1, 60))
    weights = rng.integers(-127, 128, (rows, columns))
    kind = rng.integers(0, 4)
    if kind == 1:
        weights *= rng.random((rows, columns)) < 0.3
    elif kind == 2:
        weights *= rng.random(columns) < 0.4
    elif kind == 3:
        weights *= np.repeat(np.repeat(rng.random((4, 8)) < 0.4, 16, 0), 8, 1)[:rows, :columns]
    return weights.astype(np.int8)


@settings(max_examples=60)
@given(SEEDS)
def test_every_encoding_computes_the_same(seed):
    weights = sparse(seed)
    inputs = np.random.default_rng(seed).integers(-128, 128, (3, weights.shape[1])).astype(np.int8)
    wanted = product(weights, inputs)
    for name in ENCODINGS:
        assert np.array_equal(run(encode(name, weights, MACHINE), inputs, MACHINE), wanted), name


@settings(max_examples=60)
@given(SEEDS)
def test_cheapest_is_the_least_of_all(seed):
    weights = sparse(seed)
    words = {name: encode(name, weights, MACHINE).words for name in ENCODINGS}
    name, program = cheapest(weights, MACHINE)
    assert program.words == words[name] == min(words.values())
    assert all(words[before] > words[name] for before in ENCODINGS[: ENCODINGS.index(name)])
    fine, program = cheapest(weights, MACHINE, Granularity.FINE)
    assert fine in ("N:M", "fine") and program.words == min(words["N:M"], words["fine"])


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(list(Granularity)), st.floats(0.05, 1.0), st.sampled_from([1, 3, 9]))
def test_what_is_kept(seed, granularity, density, span):
    rng = np.random.default_rng(seed)
    channels, rows = int(rng.integers(1, 30)), int(rng.integers(1, 40))
    scores = rng.random((rows, channels * span))
    mask = keep(granularity, scores, density, span, MACHINE)
    assert mask.shape == scores.shape
    if granularity is Granularity.COARSE:
        kept = mask.reshape(rows, channels, span).all((0, 2))
        assert np.array_equal(kept, mask.reshape(rows, channels, span).any((0, 2)))
        assert kept.sum() == max(1, round(density * channels))
        sums = scores.reshape(rows, channels, span).sum((0, 2))
        assert kept.all() or sums[kept].min() >= sums[~kept].max()
        return
    whole = np.pad(mask, ((0, -rows % 16), (0, -mask.shape[1] % 8)))
    if granularity is Granularity.FINE:
        count = max(1, round(density * 8))
        assert whole.reshape(len(whole), -1, 8).sum(2).max() <= count
        full = scores.shape[1] // 8 * 8
        assert (mask[:, :full].reshape(rows, -1, 8).sum(2) == count).all()
        return
    units = np.pad(scores, ((0, -rows % 16), (0, -scores.shape[1] % 8))).reshape(-1, 16, whole.shape[1] // 8, 8)
    blocks = whole.reshape(units.shape).any((1, 3))
    assert blocks.sum() == round(density * blocks.size)
    sums = units.sum((1, 3))
    assert blocks.all() or not blocks.any() or sums[blocks].min() >= sums[~blocks].max()


def test_fixed_numbers_of_weights_take_as_many_words():
    """Half of each block: half of the dense words, whatever the granularity, where shapes are whole."""
    scores = np.random.default_rng(0).random((32, 64))
    weights = np.full((32, 64), 5, np.int8)
    for granularity in Granularity:
        kept = (weights * keep(granularity, scores, 0.5, 1, MACHINE)).astype(np.int8)
        assert cheapest(kept, MACHINE, granularity)[1].words == encode("dense", weights, MACHINE).words // 2


def test_what_does_not_fit():
    small = Machine(bank_words=8, list_entries=2)
    with pytest.raises(HardwareError, match="a tile must have at most 8 words"):
        cheapest(np.ones((16, 64), np.int8), small)
    sparse = np.zeros((16, 64), np.int8)
    sparse[:, 0] = 1
    assert cheapest(sparse, small)[1].words == 1
