"""The reference coder: what it writes it reads, it reads any part alone, and it refuses everything else."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import kernels
from regrain.kernels import reference
from regrain.kernels.reference import BlockPlan, Family, Kind, PayloadFault, Plan, Table

FLOATS = ((1, 2), (1, 3), (2, 7), (2, 10), (4, 23))
SEED = reference.crc32c(b"encoder.layer.0.weight")
CODED = BlockPlan(Kind.CODED)


def join(field, raw, width, family, word_bytes, bits, base):
    """Build words from fields and raw bits with Python's integers: a second, slower statement of the format."""
    words = []
    for v, r in zip(field.tolist(), raw.tolist(), strict=True):
        if family == Family.INTEGER:
            words.append((base + (v << width | r)) % (1 << 8 * word_bytes))
        elif width == 0:
            words.append(v << bits)
        else:
            sign, mantissa = r >> (width - 1), r & ((1 << (width - 1)) - 1)
            words.append(sign << (8 * word_bytes - 1) | v << bits | mantissa << (bits + 1 - width))
    return np.array(words, f"u{word_bytes}")


@st.composite
def payloads(draw):
    """Draw a plan first, then words that it can hold: (family, mantissa bits, plan, words)."""
    family = draw(st.sampled_from(Family))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mantissa, k, base = 0, 0, 0
    if family == Family.FLOAT:
        word_bytes, mantissa = draw(st.sampled_from(FLOATS))
        field_bits = 8 * word_bytes - 1 - mantissa
    else:
        word_bytes = draw(st.sampled_from((1, 2, 4, 8)))
        k = draw(st.integers(0, min(24, 8 * word_bytes - 1)))
        base = draw(st.integers(0, 2 ** (8 * word_bytes) - 1))
        field_bits = min(8, 8 * word_bytes - k)
    escape = field_bits >= 4 and draw(st.booleans())
    alphabet = 16 if escape else draw(st.integers(2, min(16, 1 << field_bits)))
    values = rng.permutation(1 << field_bits)[: alphabet - escape]
    table_count = draw(st.sampled_from((0, 1, 2, 5, 16)))
    if table_count > 1:
        row_words = draw(st.one_of(st.integers(64, 150), st.sampled_from((64, 128, 192))))
        per_block, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6))
        block_words, count = per_block * row_words, rows * row_words
    else:
        row_words, block_words, count = 0, draw(st.integers(1, 300)), draw(st.integers(1, 400))
    block_words = max(block_words, -(-count // 6))

    one_width = int(rng.integers(0, mantissa + 2)) if row_words % 64 else None

    def table():
        counts = np.zeros(16)
        counts[:alphabet] = 1 + rng.integers(0, 10 ** rng.integers(1, 6), alphabet)
        if family == Family.INTEGER:
            width = k
        else:
            width = int(rng.integers(0, mantissa + 2)) if one_width is None else one_width
        return Table(width, reference.normalize(counts.astype(int).tolist()))

    tables = tuple(table() for _ in range(table_count))
    blocks, parts = [], []
    for start in range(0, count, block_words):
        n = min(block_words, count - start)
        kind = Kind(rng.choice(3, p=(0.8, 0.1, 0.1)))
        if kind == Kind.STORED:
            parts.append(rng.integers(0, 256, n * word_bytes, np.uint8).view(f"u{word_bytes}"))
            blocks.append(BlockPlan(kind))
            continue
        own = None if tables else table()
        classes = tuple(rng.integers(0, table_count, n // row_words).tolist()) if row_words else ()
        here = [own or tables[c] for c in classes or (0,)]
        pool = np.arange(1 << field_bits) if escape and rng.random() < 0.5 else values
        for t in here:
            m = row_words or n
            field, raw = rng.choice(pool, m), rng.integers(0, 1 << t.raw_bits, m)
            parts.append(join(field, raw, t.raw_bits, family, word_bytes, mantissa, base))
        if kind == Kind.CONSTANT:
            parts[-len(here) :] = [np.full(n, parts[-1][0])]
            blocks.append(BlockPlan(kind))
        else:
            blocks.append(BlockPlan(kind, own, classes))
    plan = Plan(tuple(values.tolist()), escape, tables, block_words, row_words, base, k, tuple(blocks))
    return family, mantissa, plan, np.concatenate(parts)


@settings(max_examples=300, deadline=None)
@given(payloads(), st.data())
def test_round_trip(case, data):
    family, mantissa, plan, words = case
    payload = reference.encode(words, family=family, mantissa_bits=mantissa, plan=plan, seed=SEED)
    assert payload.size % 8 == 0
    np.testing.assert_array_equal(reference.decode(payload, seed=SEED), words, strict=True)
    assert reference.plan_of(payload) == plan
    first = data.draw(st.integers(0, words.size))
    count = data.draw(st.integers(0, words.size - first))
    part = reference.decode(payload, seed=SEED, first=first, count=count)
    np.testing.assert_array_equal(part, words[first : first + count], strict=True)


def bf16(count, seed=3):
    """Give words like those of a layer: normally distributed bf16."""
    values = np.random.default_rng(seed).normal(0, 0.02, count).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def fitted(words, mantissa, block_words=65536, width=None, own=False):
    """Plan floats by their 15 most frequent exponents, with one table or equal own ones."""
    exponents = words >> mantissa & ((1 << (8 * words.itemsize - 1 - mantissa)) - 1)
    counts = np.bincount(exponents)
    order = np.argsort(-counts, kind="stable")[:15]
    freq = reference.normalize([*np.resize(counts[order], 15), max(1, counts.sum() - counts[order].sum())])
    table = Table(mantissa + 1 if width is None else width, freq)
    blocks = -(-words.size // block_words)
    return Plan(
        tuple(order.tolist()), True, () if own else (table,), block_words, 0, 0, 0,
        (BlockPlan(Kind.CODED, table if own else None),) * blocks,
    )  # fmt: skip


def coded(words, plan, mantissa=7, family=Family.FLOAT):
    return bytes(reference.encode(words, family=family, mantissa_bits=mantissa, plan=plan, seed=SEED))


@pytest.mark.parametrize("own", [False, True])
def test_every_tail(own):
    words = bf16(200)
    plan = fitted(words, 7, own=own)
    for count in range(1, 201):
        payload = coded(words[:count], plan)
        np.testing.assert_array_equal(reference.decode(payload, seed=SEED), words[:count])


def test_a_real_size():
    words = bf16(150_000)
    payload = coded(words, fitted(words, 7))
    assert len(payload) < 0.67 * words.nbytes
    np.testing.assert_array_equal(reference.decode(payload, seed=SEED), words)


def integers():
    words = np.random.default_rng(1).integers(-70, 70, 130).astype(np.int16)
    freq = reference.normalize([3] * 9 + [0] * 7)
    plan = Plan(tuple(range(9)), False, (Table(4, freq),), 100, 0, (-70) % 65536, 4, (CODED, CODED))
    return words, plan


def row_classes():
    """Two classes of rows: one of 3 raw bits, one of 8 that carries; three rows of 128 words in two blocks."""
    rng = np.random.default_rng(5)
    rows = [join(rng.integers(100, 104, 128), rng.integers(0, 1 << w, 128), w, 0, 2, 7, 0) for w in (3, 8, 3)]
    tables = (Table(3, (64,) * 4 + (0,) * 12), Table(8, (100, 100, 50, 6) + (0,) * 12))
    blocks = (BlockPlan(Kind.CODED, None, (0, 1)), BlockPlan(Kind.CODED, None, (0,)))
    return np.concatenate(rows), Plan((100, 101, 102, 103), False, tables, 256, 128, 0, 0, blocks)


def odd_rows():
    """Rows of 70 words, so that steps straddle them: a step has the table of the row that holds its first word."""
    rng = np.random.default_rng(6)
    words = join(rng.integers(100, 104, 210), rng.integers(0, 8, 210), 3, 0, 2, 7, 0)
    tables = (Table(3, (64,) * 4 + (0,) * 12), Table(3, (100, 100, 50, 6) + (0,) * 12))
    blocks = (BlockPlan(Kind.CODED, None, (0, 1)), BlockPlan(Kind.CODED, None, (1,)))
    return words, Plan((100, 101, 102, 103), False, tables, 140, 70, 0, 0, blocks)


def mixed():
    """A block of each kind, and escapes."""
    words = np.concatenate([bf16(65), np.full(65, 0x3F80, np.uint16), bf16(30)])
    words[[0, 64]] = 0, 0x7FC0
    plan = fitted(words[:65], 7, 65)
    kinds = (CODED, BlockPlan(Kind.CONSTANT), BlockPlan(Kind.STORED))
    return words, Plan(plan.values, True, plan.tables, 65, 0, 0, 0, kinds)


def samples():
    own = bf16(200)
    words, plan = integers()
    return {
        "own table": (own, coded(own, fitted(own, 7, own=True))),
        "integers": (words.view(np.uint16), coded(words, plan, family=Family.INTEGER)),
        "row classes": (row_classes()[0], coded(*row_classes())),
        "odd rows": (odd_rows()[0], coded(*odd_rows())),
        "mixed": (mixed()[0], coded(*mixed())),
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_is_found(name):
    words, payload = SAMPLES[name]
    np.testing.assert_array_equal(reference.decode(payload, seed=SEED), words)
    for bit in range(8 * len(payload)):
        broken = bytearray(payload)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PayloadFault):
            reference.decode(broken, seed=SEED)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_found(name):
    _, payload = SAMPLES[name]
    for size in range(len(payload)):
        with pytest.raises(PayloadFault):
            reference.decode(payload[:size], seed=SEED)
    with pytest.raises(PayloadFault):
        reference.decode(payload + bytes(8), seed=SEED)


def test_another_name_or_another_place_is_found():
    _, payload = SAMPLES["mixed"]
    with pytest.raises(PayloadFault, match=r"head: checksum must be [0-9a-f]{8}, not [0-9a-f]{8}"):
        reference.decode(payload, seed=SEED ^ 1)
    twice = np.tile(bf16(64), 2)
    payload = bytearray(coded(twice, fitted(twice, 7, 64)))
    start = 52 + 17
    assert payload[start : start + 4] == payload[start + 12 : start + 16]
    assert payload[start + 4 : start + 8] != payload[start + 16 : start + 20]


def sign(payload):
    """Renew every checksum that can be found, as a forger would."""
    data = bytearray(payload)
    count, block_words, tables = *struct.unpack_from("<QxxxxxxxxI", data, 8), data[48]
    at = 52 + 17 * tables
    blocks = -(-count // block_words)
    start = at + 12 * blocks + 4
    for block in range(blocks):
        length = struct.unpack_from("<I", data, at + 12 * block)[0]
        checked = struct.pack("<II", SEED, block) + data[start : start + length]
        struct.pack_into("<I", data, at + 12 * block + 4, reference.crc32c(checked))
        start += length
    end = at + 12 * blocks
    struct.pack_into("<I", data, end, reference.crc32c(struct.pack("<II", SEED, 0xFFFFFFFF) + data[:end]))
    return bytes(data)


def outcome(decode, *args):
    """Give ("fault", block) or None, and what was returned."""
    try:
        return None, decode(*args, seed=SEED)
    except PayloadFault as fault:
        return ("fault", fault.block), None


@pytest.mark.parametrize("name", SAMPLES)
def test_a_forgery_is_refused_or_decodes_and_the_native_coder_agrees(name):
    words, payload = SAMPLES[name]
    assert sign(payload) == payload
    rng = np.random.default_rng(7)
    refused = 0
    for bit in rng.integers(0, 8 * len(payload), 600).tolist():
        broken = bytearray(payload)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            broken = sign(broken)
        except (struct.error, ZeroDivisionError, MemoryError):  # a head without a place for its checksums
            continue
        out = np.empty_like(words)
        ours, got = outcome(reference.decode, broken)
        theirs, _ = outcome(kernels.decode, broken, out)
        refused += ours is not None
        if broken[5] == payload[5] and broken[8:16] == payload[8:16]:  # else the native coder misses its words first
            assert ours == theirs
        if theirs is None:
            np.testing.assert_array_equal(out, got)
    assert 50 < refused < 600


MIXED, OWN, CLASSES, ODD, INTEGERS = "mixed", "own table", "row classes", "odd rows", "integers"
BODY = {MIXED: 52 + 17 + 36 + 4, OWN: 52 + 12 + 4, CLASSES: 52 + 34 + 24 + 4, INTEGERS: 52 + 17 + 24 + 4}
INDEX = {MIXED: 69, OWN: 52, CLASSES: 86, INTEGERS: 69}

# rule of docs/format.md, sample, byte, what is written there, block and words of the fault
FORGERIES = [
    (2, MIXED, 0, b"rgP2", None, "magic must be"),
    (3, MIXED, 48, b"\x11", None, "tables must be at most 16, not 17"),
    (3, MIXED, 8, bytes(8), None, "count must be at least 1, not 0"),
    (3, MIXED, 24, bytes(4), None, "block_words must be 1 to 65536, not 0"),
    (3, MIXED, 24, struct.pack("<I", 65537), None, "block_words must be 1 to 65536, not 65537"),
    (1, MIXED, 8, b"\xff\xff", None, "payload must hold a head of"),
    (3, MIXED, 8, b"\xff" * 8, None, "blocks must be fewer than 4294967295"),
    (5, MIXED, 50, b"\x01", None, "reserved bytes must be zero"),
    (6, MIXED, 4, b"\x02", None, "family must be 0 or 1, not 2"),
    (7, MIXED, 6, b"\x06", None, "must be one of"),
    (7, MIXED, 5, b"\x03", None, "must be one of"),
    (7, INTEGERS, 5, b"\x03", None, "word bytes must be 1, 2, 4 or 8, not 3"),
    (7, INTEGERS, 6, b"\x11", None, "raw bits must be at most 16, not 17"),
    (8, MIXED, 16, b"\x01", None, "base of floats must be 0, not 1"),
    (8, INTEGERS, 18, b"\x01", None, r"base must be below 2\^16"),
    (9, INTEGERS, 7, b"\x00", None, "alphabet must be 1 to 16, not 0"),
    (9, INTEGERS, 7, b"\x11", None, "alphabet must be 1 to 16, not 17"),
    (9, INTEGERS, 7, b"\x89", None, "alphabet with escape must be 16"),
    (9, INTEGERS, 7, b"\x29", None, "alphabet must be 1 to 16, not 41"),
    (10, INTEGERS, 41, b"\x01", None, "unused values must be zero"),
    (10, MIXED, 47, b"\x01", None, "unused values must be zero"),
    (10, INTEGERS, 32, b"\x01", None, "values must be distinct"),
    (10, INTEGERS, 6, b"\x0d", None, r"values must be below 2\^3"),
    (11, MIXED, 28, b"\x40", None, "row_words without row classes must be 0, not 64"),
    (11, CLASSES, 28, b"\x3f", None, "row_words must be at least 64, not 63"),
    (11, CLASSES, 28, b"\x60", None, "row_words must divide 256, not 96"),
    (11, ODD, 28, b"\x8c", None, "row_words must divide 210, not 140"),
    (12, MIXED, 52, b"\x09", None, "raw bits of a table must be at most 8, not 9"),
    (12, INTEGERS, 52, b"\x03", None, "raw bits of a table must be 4, not 3"),
    (12, MIXED, 53, b"\xff", None, "frequencies must sum to 256"),
    (12, INTEGERS, 53, bytes(15) + b"\xff", None, "frequencies must sum to 256"),
    (12, INTEGERS, 62, b"\x80\x80" + bytes(5), None, "frequencies must sum to 256"),
    (12, ODD, 52, b"\x04", None, "rows of several raw bits must be whole steps of 64 words, not 70"),
    (13, MIXED, INDEX[MIXED] + 10, b"\x03", None, "entry 0: kind must be 0, 1 or 2, not 3"),
    (13, MIXED, INDEX[MIXED] + 11, b"\x01", None, "entry 0: reserved byte must be zero"),
    (14, MIXED, INDEX[MIXED] + 20, b"\x01", None, "entry 1: escapes of a block that is not coded must be 0, not 1"),
    (20, MIXED, INDEX[MIXED] + 8, b"\x00\x01", 0, "length must hold every part"),
    (15, MIXED, INDEX[MIXED] + 12, b"\x04", None, "entry 1: length must be 2, not 4"),
    (15, MIXED, INDEX[MIXED] + 24, b"\x20", None, "entry 2: length must be 60, not 32"),
    (15, MIXED, INDEX[MIXED], b"\xff\xff\xff\xff", None, "length must be at most"),
    (16, MIXED, INDEX[MIXED], b"\x01", None, "payload must be"),
    (18, OWN, BODY[OWN], b"\x09", 0, "raw bits of a table must be at most 8, not 9"),
    (18, OWN, BODY[OWN] + 1, bytes(16), 0, "frequencies must sum to 256, not 0"),
    (19, CLASSES, BODY[CLASSES], b"\x20", 0, "a row class must be below 2, not 2"),
    (21, OWN, BODY[OWN] + 17 + 7, b"\x00", 0, "states must be at least 256"),
    (22, OWN, BODY[OWN] + 1, bytes([16] * 16), 0, "stream must"),
    (23, INTEGERS, BODY[INTEGERS] + 1, b"\x80", 0, "must"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "name", "at", "value", "block", "reason"), FORGERIES)
def test_each_rule_is_kept(rule, name, at, value, block, reason):
    payload = SAMPLES[name][1]
    broken = payload[:at] + value + payload[at + len(value) :]
    if rule > 3:
        broken = sign(broken)
    with pytest.raises(PayloadFault, match=reason) as fault:
        reference.decode(broken, seed=SEED)
    assert (fault.value.block, fault.value.job) == (block, 0)
    assert str(fault.value) == f"{'head' if block is None else f'block {block}'}: {fault.value.reason}"


def test_bytes_after_the_last_block_must_be_zero():
    payload = bytearray(next(p for _, p in SAMPLES.values() if not p[-1]))
    payload[-1] = 1
    with pytest.raises(PayloadFault, match="bytes after the last block must be zero"):
        reference.decode(payload, seed=SEED)


def test_the_nibble_after_the_last_class_must_be_zero():
    _, payload = SAMPLES[CLASSES]
    second = BODY[CLASSES] + struct.unpack_from("<I", payload, INDEX[CLASSES])[0]
    broken = bytearray(payload)
    broken[second] |= 0x10
    with pytest.raises(PayloadFault, match="block 1: the nibble after the last row class must be 0, not 1"):
        reference.decode(sign(broken), seed=SEED)


def resized(payload, change, at=145):
    """Lengthen (change > 0) or shorten the only block of the sample with an own table, after its states."""
    length = struct.unpack_from("<I", payload, INDEX[OWN])[0]
    body = payload[BODY[OWN] : BODY[OWN] + length]
    body = body[:at] + bytes(max(change, 0)) + body[at:][max(-change, 0) :]
    data = bytearray(payload[: BODY[OWN]] + body)
    struct.pack_into("<I", data, INDEX[OWN], len(body))
    return sign(data + bytes(-len(data) % 8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(1, "stream must|final states must"), (-1, "stream must|final states must"), (-300, "length must hold every")],
)
def test_a_stream_of_another_length_is_found(change, reason):
    with pytest.raises(PayloadFault, match=reason):
        reference.decode(resized(SAMPLES[OWN][1], change), seed=SEED)


def test_escapes_must_be_as_many_as_stated():
    words = np.where(np.arange(200) % 20, bf16(200), 0)
    payload = coded(words, fitted(bf16(200), 7, own=True))
    assert payload[INDEX[OWN] + 8] == 10
    end = struct.unpack_from("<I", payload, INDEX[OWN])[0]
    for escapes in (9, 11):
        broken = bytearray(resized(payload, escapes - 10, end - 10))
        broken[INDEX[OWN] + 8] = escapes
        with pytest.raises(PayloadFault, match=f"block 0: escapes must be 10, not {escapes}"):
            reference.decode(sign(broken), seed=SEED)


def test_escapes_without_an_escape_symbol_are_found():
    words, plan = bf16(200), fitted(bf16(200), 7, own=True)
    freq = plan.blocks[0].table.freq
    spare = next(v for v in range(256) if v not in plan.values)
    alone = Plan((*plan.values, spare), False, (), 65536, 0, 0, 0, (BlockPlan(Kind.CODED, Table(8, freq)),))
    payload = coded(words, alone)
    broken = bytearray(resized(payload, 1, struct.unpack_from("<I", payload, INDEX[OWN])[0]))
    broken[INDEX[OWN] + 8] = 1
    with pytest.raises(PayloadFault, match="block 0: escapes must be 0, not 1"):
        reference.decode(sign(broken), seed=SEED)


def test_an_escape_byte_must_fit_its_field():
    words = np.arange(0, 0x8000, 0x400, dtype=np.uint16)  # every exponent of fp16 once
    plan = fitted(words, 10)
    payload = bytearray(coded(words, plan, 10))
    last = len(payload.rstrip(b"\0")) - 1
    assert payload[last] == 31
    payload[last] = 32
    with pytest.raises(PayloadFault, match=r"block 0: an escape byte must be below 2\^5, not 32"):
        reference.decode(sign(payload), seed=SEED)


def test_final_states_must_carry_nothing_where_there_is_nothing():
    words = (bf16(64) & 0x7F80).astype(np.uint16)
    payload = bytearray(coded(words, fitted(words, 7, width=0)))
    moved = bytearray(coded(words, fitted(words, 7, width=8)))
    moved[52] = 0
    assert len(payload) == len(moved)
    np.testing.assert_array_equal(reference.decode(sign(moved), seed=SEED), words)
    signed = words | np.uint16(0x8001)
    moved = bytearray(coded(signed, fitted(signed, 7, width=8)))
    moved[52] = 0
    with pytest.raises(PayloadFault, match="final states must be 0x100 where they carry nothing"):
        reference.decode(sign(moved), seed=SEED)


def test_words_that_are_not_there_are_an_error_of_the_caller():
    words, payload = SAMPLES["mixed"]
    for first, count in ((-1, 1), (0, words.size + 1), (words.size, 1), (5, -1)):
        with pytest.raises(ValueError, match=f"must lie within {words.size} words, not {first} and {count}") as error:
            reference.decode(payload, seed=SEED, first=first, count=count)
        assert not isinstance(error.value, PayloadFault)


def test_only_the_blocks_asked_for_are_read():
    words, payload = SAMPLES["mixed"]
    broken = bytearray(payload)
    broken[BODY[MIXED]] ^= 1
    np.testing.assert_array_equal(reference.decode(broken, seed=SEED, first=65), words[65:])
    with pytest.raises(PayloadFault, match="block 0: checksum"):
        reference.decode(broken, seed=SEED, first=64)


def test_a_plan_that_does_not_fit_the_words_is_refused():
    words = bf16(64)
    plan = fitted(words, 7)
    no_escape = Plan(plan.values[:2], False, (Table(8, (128, 128) + (0,) * 14),), 64, 0, 0, 0, (CODED,))
    cases = [
        (plan, 2, "the plan must have 2 blocks, not 1", np.tile(words, 1025)),
        (fitted(words, 7, width=3), 1, "words of block 0 must fit 3 raw bits", words),
        (no_escape, 1, "values of block 0 must have symbols or an escape", words),
        (Plan(plan.values, True, (), 64, 0, 0, 0, (CODED,)), 1, "the plan of block 0 must have its own table", words),
        (Plan((), True, (), 64, 0, 0, 0, (BlockPlan(Kind.CONSTANT),)), 1, "alphabet with escape must be 16", words),
        (Plan((0,), False, (), 64, 0, 0, 0, (BlockPlan(Kind.CONSTANT),)), 1, "constant block 0 must be equal", words),
        (plan, 1, "words must be one row of integers", words.reshape(8, 8)),
    ]
    for bad, _, reason, given_words in cases:
        with pytest.raises(ValueError, match=reason):
            coded(given_words, bad)
