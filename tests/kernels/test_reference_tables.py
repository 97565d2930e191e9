"""The claims of docs/rans.md: tables, divisions, bytes a symbol, and code lengths beside an independent coder."""

import decimal
import math
import random

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.kernels import reference
from regrain.kernels.reference import BlockPlan, Family, Kind, Plan, Table
from regrain.kernels.reference_tables import LOG2, alias, buckets

counts_of = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**46)), min_size=16, max_size=16)
counts_of = counts_of.filter(any)


@st.composite
def frequencies(draw):
    """Any 16 frequencies of at most 255 that sum to 256, from few symbols to all."""
    cuts = sorted(draw(st.lists(st.integers(0, 256), min_size=15, max_size=15)))
    freq = [b - a for a, b in zip([0, *cuts], [*cuts, 256], strict=True)]
    if max(freq) == 256:
        freq[freq.index(256)] = 255
        freq[freq.index(0)] = 1
    return tuple(freq)


def test_log2_is_exact():
    with decimal.localcontext(prec=50):
        two = decimal.Decimal(2).ln()
        exact = [65536 * decimal.Decimal(f).ln() / two for f in range(1, 257)]
        half = decimal.Decimal("0.5")
        assert LOG2[1:] == tuple(int(value + half) for value in exact)
        assert min(abs(value % 1 - half) for value in exact) > decimal.Decimal("0.001")
    assert reference.crc32c(np.array(LOG2[1:], "<u4").tobytes()) == 0x14FEE211


@given(counts_of)
def test_normalized_frequencies_are_a_table(counts):
    freq = reference.normalize(counts)
    assert sum(freq) == 256
    assert max(freq) <= 255
    present = [c > 0 for c in counts]
    if sum(present) > 1:
        assert [f > 0 for f in freq] == present
        total = sum(counts)
        loss = sum(c / total * math.log2(c / total * 256 / f) for c, f in zip(counts, freq, strict=True) if c)
        assert loss <= 0.103
    else:
        lone = present.index(True)
        assert freq[lone] == 255
        assert freq[1 if lone == 0 else 0] == 1


@pytest.mark.parametrize(
    ("counts", "freq"),
    [
        ([5], [255, 1]),
        ([0, 0, 7], [1, 0, 255]),
        ([1, 1], [128, 128]),
        ([1, 1, 1], [86, 85, 85]),
        ([10**9] + [1] * 15, [241] + [1] * 15),
        ([10**9, 10**9] + [1] * 14, [121, 121] + [1] * 14),
        ([10**9, 10**9] + [1] * 13, [121, 122] + [1] * 13),
        ([2**46, 2**46 - 1, 3], [128, 127, 1]),
        ([100, 50, 25, 12, 6, 3, 1], [130, 65, 32, 16, 8, 4, 1]),
    ],
)
def test_normalize_by_example(counts, freq):
    assert reference.normalize(counts + [0] * (16 - len(counts))) == tuple(freq + [0] * (16 - len(freq)))


def test_normalize_refuses_what_are_no_counts():
    for bad in ([1] * 15, [0] * 16, [-1] + [1] * 15):
        with pytest.raises(ValueError, match="counts must be 16 numbers >= 0 and not all 0"):
            reference.normalize(bad)


@settings(max_examples=500)
@given(frequencies())
def test_alias_table_gives_each_symbol_its_slots(freq):
    code = alias(freq)
    assert np.bincount(code.symbol, minlength=16).tolist() == list(freq)
    for s in range(16):
        assert sorted(code.offset[code.symbol == s].tolist()) == list(range(freq[s]))
        assert code.slot[s, : freq[s]].tolist() == [
            int(np.flatnonzero((code.symbol == s) & (code.offset == r))[0]) for r in range(freq[s])
        ]
    for threshold, symbol_a, _, symbol_b, _ in buckets(freq):
        assert 1 <= threshold <= 16
        assert (threshold == 16) == (symbol_a == symbol_b)


def test_one_byte_is_always_enough_and_decoding_undoes_encoding():
    """Every state, every frequency: docs/rans.md proves it, this counts it."""
    x = np.arange(256, 65536, dtype=np.uint32)
    for f in range(1, 256):
        y = np.where(x >= f << 8, x >> 8, x)
        assert y.min() >= f
        assert y.max() < f << 8
        high = y // f
        assert 1 <= high.min() <= high.max() <= 255
        back = f * high + y % f
        assert back.max() <= 65279
        np.testing.assert_array_equal(back, y)
        np.testing.assert_array_equal(back < 256, x >= f << 8)


def test_24_bits_are_the_fewest_for_a_reciprocal():
    x = np.arange(65536, dtype=np.uint64)

    def exact(shift, f, upper):
        reciprocal = np.uint64(-(-(1 << shift) // f))
        product = x[:upper] * reciprocal
        assert int(product.max()) < 2**40
        return np.array_equal(product >> np.uint64(shift), x[:upper] // np.uint64(f))

    assert all(exact(24, f, 65536) for f in range(1, 256))
    for shift in range(8, 24):
        assert not exact(shift, 254, 254 << 8)


def coded(symbols, freq, width=8, block_words=65536):
    """Code symbols as exponents of bf16 without mantissa bits set; give payload and (length, states) of each block."""
    words = (symbols.astype(np.uint16) + 100) << 7
    blocks = -(-words.size // block_words)
    plan = Plan(
        tuple(range(100, 116)), False, (Table(width, freq),), block_words, 0, 0, 0, (BlockPlan(Kind.CODED),) * blocks
    )
    payload = reference.encode(words.astype(np.uint16), family=Family.FLOAT, mantissa_bits=7, plan=plan, seed=0)
    np.testing.assert_array_equal(reference.decode(payload, seed=0), words)
    at, out = 69 + 12 * blocks + 4, []
    for block in range(blocks):
        length = int.from_bytes(payload[69 + 12 * block :][:4].tobytes(), "little")
        out.append((length, payload[at : at + 128].view("<u2")))
        at += length
    return payload, out


DISTRIBUTIONS = {
    "bf16": (80, 66, 38, 29, 19, 9, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1),
    "even": (16,) * 16,
    "skewed": (241,) + (1,) * 15,
    "two": (255, 1) + (0,) * 14,
    "geometric": (128, 64, 32, 16, 8, 4, 2, 2) + (0,) * 8,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_code_length_beside_constriction(name):
    freq = DISTRIBUTIONS[name]
    steps = 400
    p = np.array(freq) / 256
    symbols = np.random.default_rng(11).choice(16, 64 * steps, p=p).astype(np.int32)
    ideal = -np.log2(p[symbols]).sum()

    oracle = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Categorical(p[p > 0], perfect=True)
    oracle.encode_reverse(symbols, model)
    theirs = oracle.num_valid_bits()
    np.testing.assert_array_equal(oracle.decode(model, symbols.size), symbols)
    assert abs(theirs - ideal) < 64 + 1e-3 * ideal

    payload, [(length, states)] = coded(symbols, freq, width=0)
    stream = 8 * (length - 128)
    drift = stream + np.log2(states).sum() - 64 * 8 - ideal
    assert -1 < drift < 0.012 * symbols.size
    assert theirs - 64 <= stream + 16 * 64 < theirs + 16 * 64 + drift
    carrying, [(carried_length, _)] = coded(symbols, freq, width=8)
    assert carried_length - 64 * steps == pytest.approx(length - 64, abs=64)
    assert payload.size < carrying.size


@pytest.mark.parametrize("seed", range(3))
def test_a_coder_of_single_words_reads_the_same(seed):
    """Decode one block from the document's words alone: a dictionary for the table, one lane at a time."""
    rng = random.Random(seed)
    freq = reference.normalize([rng.randrange(1, 1000) for _ in range(16)])
    symbols = np.array(rng.choices(range(16), freq, k=150))
    payload, [(length, states)] = coded(symbols, freq, width=0)
    slots = {}
    for b, (threshold, symbol_a, offset_a, symbol_b, offset_b) in enumerate(buckets(freq)):
        for low in range(16):
            slots[16 * b + low] = (symbol_a, low + offset_a) if low < threshold else (symbol_b, (low + offset_b) % 256)
    state, stream = states.tolist(), payload[69 + 12 + 4 + 128 :][: length - 128].tolist()
    for i in range(192):
        symbol, offset = slots[state[i % 64] & 255]
        state[i % 64] = freq[symbol] * (state[i % 64] >> 8) + offset
        if state[i % 64] < 256:
            state[i % 64] = state[i % 64] << 8 | stream.pop(0)
        assert symbol == (symbols[i] if i < 150 else freq.index(max(freq)))
    assert stream == []
    assert set(state) == {256}


def test_crc32c_by_known_values():
    """The check value of the CRC catalogue and the vectors of RFC 3720, B.4."""
    assert reference.crc32c(b"123456789") == 0xE3069283
    assert reference.crc32c(bytes(32)) == 0x8A9136AA
    assert reference.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert reference.crc32c(bytes(range(32))) == 0x46DD794E
    assert reference.crc32c(b"") == 0


@given(st.binary(min_size=4000, max_size=9000), st.integers(0, 9000))
@settings(max_examples=30, deadline=None)
def test_crc32c_continues(data, cut):
    assert reference.crc32c(data[cut:], reference.crc32c(data[:cut])) == reference.crc32c(data)
    short = 0
    for start in range(0, len(data), 1000):
        short = reference.crc32c(data[start : start + 1000], short)
    assert short == reference.crc32c(data)
