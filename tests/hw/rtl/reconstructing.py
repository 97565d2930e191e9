"""What tests of the reconstruction unit share: to run programs, and to write lists under plans of all kinds."""

from __future__ import annotations

import binascii

import numpy as np

from regrain.hw.cosim import Memory
from regrain.hw.reconstruction.assembler import Reconstruction, _coded
from regrain.hw.reconstruction.instructions import Fault, Instruction, Op
from regrain.hw.reconstruction.interpreter import execute
from regrain.kernels.reference import BlockPlan, Kind, Plan, Table, encode, normalize
from regrain.kernels.reference_head import parse_head

SEED, FIRST = 7, 3
PAYLOAD = "stream", "plane", "escape"
SIZES = {"mask": 1 << 18, "codes": 1 << 14, "rows": 1 << 12}


def words_of(program, first=FIRST):
    """The program in the metadata memory, behind some other rows, and rows of 0 behind it."""
    data = bytes(16 * first) + b"".join(bits.to_bytes(16, "little") for bits in program) + bytes(32)
    return np.frombuffer(data, "<u4").astype(np.uint32).reshape(-1, 4)


def start(unit, program, memory, cycles, *, seed=None, granted=1, first=FIRST, limit=None):
    """Run a program of numbers until it stops; with a seed, takers and the metadata memory are late at random. limit:
    what is said of the memory's size, where it is more than what is read.
    """
    payload = np.frombuffer(memory + bytes(1), np.uint8)
    memories = [Memory(f"{name}_address", f"{name}_data", payload, f"{name}_read") for name in PAYLOAD]
    memories.append(Memory("address", "instruction", words_of(program, first), "asked"))
    rng = np.random.default_rng(seed)
    ready = 1 if seed is None else rng.random(cycles) < 0.7
    taken = 1 if seed is None else rng.random(cycles) < 0.5
    granted = granted if seed is None else rng.random(cycles) < 0.5
    given = {"start": np.arange(cycles) == 0, "program": first, "limit": limit or len(memory), "granted": granted}
    return unit.run(given | {"weight_ready": ready, "channel_ready": taken}, cycles, memories=memories, until="stopped")


def read_by(instruction):
    """How many bytes of the payload it reads: each of its own, once."""
    match instruction.op:
        case Op.FIELD:
            return 16
        case Op.TABLE:
            return 17
        case Op.DECODE:
            return instruction["length"]
        case Op.UNPACK:
            return -(-instruction["words"] * instruction["width"] // 8)
    return 0


def check(unit, made, memory, seed=None, limit=None):
    """Run what was assembled; the cycles it took."""
    unit.reset()
    program = [each.to_int() for each in made.program]
    mask = 4 * sum(each["count"] for each in made.program if each.op in (Op.MASK, Op.SCALE))
    run = start(
        unit, program, memory, 5 * made.weights.size + mask + 500 * len(program) + 20_000, seed=seed, limit=limit
    )
    assert run["fault"][-1] == Fault.NONE
    assert run["done"][-1]
    assert np.flatnonzero(run["busy"] == 0).tolist() == [0]
    assert sum(run[f"{name}_read"].sum() for name in PAYLOAD) == sum(map(read_by, made.program))
    got = (run["weight_valid"] & run["weight_ready"]) == 1
    np.testing.assert_array_equal(run["weight"][got], made.weights.reshape(-1))
    rows, columns = np.indices(made.weights.shape).reshape(2, -1)
    np.testing.assert_array_equal(run["weight_row"][got], rows)
    np.testing.assert_array_equal(run["weight_column"][got], columns)
    assert run["rounded"][-1] == (made.rounded > 0)
    channels = (run["channel_valid"] & run["channel_ready"]) == 1
    outcome = execute(program, memory, **SIZES)
    assert list(zip(run["factor"][channels], run["shift"][channels], strict=True)) == list(outcome.channels)
    assert run["channel_row"][channels].tolist() == list(range(len(outcome.channels)))
    return run.cycles


def coded(rng, rows, row, *, raw_bits, limit, base, tables, wide=False):
    """Words base + (0 to limit - 1), and their payload of two coded blocks: each with a table of its own, or with so
    many for both, of which each row takes one.
    """
    values = rng.permutation(max(2, min(256, limit >> raw_bits)))  # of fields; beyond 15, they are escaped
    escape, alphabet = len(values) > 15, min(len(values), 16)

    def table():
        counts = np.zeros(16, np.int64)
        counts[:alphabet] = 1 + rng.integers(0, 10 ** rng.integers(1, 6), alphabet)
        return Table(raw_bits, normalize(counts.tolist()))

    shared, half = tuple(table() for _ in range(tables)), rows // 2
    classes = tuple(rng.permutation(np.arange(rows) % tables).tolist()) if tables > 1 else ()
    blocks = [BlockPlan(Kind.CODED, None if tables else table(), part) for part in (classes[:half], classes[half:])]
    symbols = rng.integers(0, alphabet, rows * row)
    fields = values[np.where(escape & (symbols == 15), rng.integers(alphabet - 1, len(values), symbols.size), symbols)]
    numbers = (fields << raw_bits) + rng.integers(0, 1 << raw_bits, symbols.size)
    numbers = np.where(numbers < limit, numbers, rng.integers(0, min(limit, 1 << raw_bits), symbols.size))
    plan = Plan(
        tuple(values[: alphabet - escape].tolist()), escape, shared, half * row, row if classes else 0,
        base % (65536 if wide else 256), raw_bits, tuple(blocks),
    )  # fmt: skip
    words = (numbers + base).astype("<u2" if wide else "<u1")
    return words, bytes(encode(words, family=1, mantissa_bits=0, plan=plan, seed=SEED))


def ended(program, weights, rounded=0):
    """A program that gives these weights, with END, as if it had been assembled; its scales are of no matter."""
    end = Instruction.of(Op.END, checksum=binascii.crc_hqx(weights.tobytes(), 0xFFFF))
    return Reconstruction((*program, end), weights, np.zeros((1, 1), np.int16), weights.shape, 0, rounded)


def listed(at, payload, *, wide=False):
    """The instructions that decode it, from where it stands."""
    return list(_coded(payload, parse_head(payload, SEED), at, wide))
