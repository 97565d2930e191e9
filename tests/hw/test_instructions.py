"""Reconstruct instructions: what is written is parsed again, nothing else is; the programs of payloads give the
software's indices when they are interpreted.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.codecs.grid import scales_of
from regrain.codecs.quantized import Quantized, encode_quantized, grid_shape
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.core.errors import HardwareError
from regrain.hw.reconstruction.assembler import assemble
from regrain.hw.reconstruction.instructions import FORMATS, OP_BITS, WORD_BITS, Fault, Instruction, Op
from regrain.hw.reconstruction.interpreter import ProgramError, execute
from regrain.hw.reconstruction.scales import OCTAVE, requantizer, rescale

from .changed_programs import changed

SEED = 7


@st.composite
def instructions(draw):
    op = draw(st.sampled_from(list(Op)))
    return Instruction(op, tuple(draw(st.integers(least, most)) for _, _, least, most in FORMATS[op]))


@given(instructions())
def test_instructions_are_parsed_again(instruction):
    bits = instruction.to_int()
    assert 0 < bits < 1 << WORD_BITS
    assert Instruction.parse(bits) == instruction


def test_formats_fit():
    assert all(OP_BITS + sum(width for _, width, _, _ in operands) <= WORD_BITS for operands in FORMATS.values())
    bounds = [(width, least, most) for operands in FORMATS.values() for _, width, least, most in operands]
    assert all(0 <= least <= most < 1 << width for width, least, most in bounds)


@given(instructions(), st.integers(0, WORD_BITS - 1))
def test_a_flipped_bit_is_another_instruction_or_none(instruction, place):
    bits = instruction.to_int() ^ 1 << place
    try:
        found = Instruction.parse(bits)
    except HardwareError:
        return
    assert found != instruction
    assert found.to_int() == bits


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "an instruction must be number 1 to 10, not 0"),
        (15, "an instruction must be number 1 to 10, not 15"),
        (Op.MATRIX, "rows of MATRIX must be 1 to 65535, not 0"),
        (Op.VALUES | 1 << 6, "bits from 6 on must be 0 in VALUES"),
        (Op.FIELD | 17 << 44 | 2 << 49, "raw_bits of FIELD must be 0 to 16, not 17"),
    ],
)
def test_other_bits_are_refused(bits, text):
    with pytest.raises(HardwareError) as error:
        Instruction.parse(bits)
    assert str(error.value) == text


def test_requantizers_are_the_nearest_of_the_grid():
    for code in range(-200, 120):
        factor, shift = requantizer(code)
        assert 1 <= shift <= 40
        assert abs(factor / 2**shift / 2 ** (code / 8) - 1) < 2**-16
    with pytest.raises(HardwareError, match="code -200 to 119 to be a factor and a shift, not 120"):
        requantizer(120)
    with pytest.raises(HardwareError, match="not -201"):
        requantizer(-201)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_rescaled_weights_are_nearest_to_what_they_were(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 20, 2)
    cell = int(rng.integers(1, rows + 1)), int(rng.integers(1, columns + 1))
    codes = rng.integers(-60, -60 + rng.integers(1, 90), grid_shape(rows, columns, cell)).astype(np.int16)
    indices = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
    weights, rounded = rescale(indices, codes, cell)
    steps = scales_of(codes).astype(np.float64)
    wanted = (
        indices * (steps / steps.max(axis=1, keepdims=True)).repeat(cell[0], 0)[:rows].repeat(cell[1], 1)[:, :columns]
    )
    assert np.abs(weights - wanted).max() <= 0.5 + 128 * 2**-15
    assert (weights[~rounded] == np.rint(wanted)[~rounded]).all()
    assert OCTAVE[0] == 1 << 15


def payloads(rng, *, rows=None, columns=None, kinds=("quantized", "sparse")):
    """A random matrix of indices as a payload, with its int8 indices."""
    rows, columns = rows or int(rng.integers(1, 60)), columns or int(rng.integers(1, 200))
    spread = rng.choice([0, 0.4, 3, 12, 40])
    indices = np.clip(np.rint(rng.normal(0, spread, (rows, columns))), -128, 127).astype(np.int8)
    cell = [(1, columns), (rows, columns), (1, int(rng.integers(1, columns + 1)))][rng.integers(3)]
    if rng.random() < 0.2:
        cell = int(rng.integers(1, rows + 1)), int(rng.integers(1, columns + 1))
    codes = rng.integers(-60, -60 + rng.integers(1, 40), grid_shape(rows, columns, cell)).astype(np.int16)
    if rng.choice(kinds) == "quantized":
        return bytes(encode_quantized(Quantized(indices, codes, cell), "BF16", seed=SEED)), indices
    units = [(1, 1), (rows, 1), (1, columns), (min(16, rows), 1), (int(rng.integers(1, rows + 1)), min(3, columns))]
    unit = units[rng.integers(len(units))]
    mask = rng.random(grid_shape(rows, columns, unit)) < rng.choice([0, 0.1, 0.5, 0.9, 1])
    indices *= mask.repeat(unit[0], 0)[:rows].repeat(unit[1], 1)[:, :columns]
    sparse = Sparse.quantized(Quantized(indices, codes, cell), mask, unit)
    return bytes(encode_sparse(sparse, "F32", seed=SEED)), indices


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_programs_give_the_indices_of_the_software(seed):
    rng = np.random.default_rng(seed)
    payload, indices = payloads(rng)
    at = int(rng.integers(0, 100))
    made = assemble(payload, seed=SEED, at=at, offset=-5)
    outcome = execute([each.to_int() for each in made.program], bytes(at) + payload)
    np.testing.assert_array_equal(outcome.weights, made.weights, strict=True)
    assert outcome.rounded == (made.rounded > 0)
    codes = made.codes.max(axis=1).repeat(made.cell[0])[: len(indices)]
    assert outcome.channels == tuple(requantizer(int(code) - 5) for code in codes)
    if made.codes.shape[1] == 1:
        np.testing.assert_array_equal(made.weights, indices)
    else:
        np.testing.assert_array_equal(made.weights, rescale(indices, made.codes, made.cell)[0])


def test_words_of_the_program_are_rows_of_the_metadata_memory():
    made = assemble(payloads(np.random.default_rng(1))[0], seed=SEED)
    rows = made.words()
    assert rows.shape == (len(made.program), 4)
    assert [int.from_bytes(row.astype("<u4").tobytes(), "little") for row in rows] == [i.to_int() for i in made.program]


def test_outliers_are_cut_off_and_counted():
    indices = np.random.default_rng(2).integers(-20, 20, (40, 100)).astype(np.int16)
    indices[3, 5], indices[30, 99] = 300, -129
    codes = np.full((40, 1), -40, np.int16)
    payload = bytes(encode_quantized(Quantized(indices, codes, (1, 100)), "BF16", seed=SEED))
    made = assemble(payload, seed=SEED)
    assert made.saturated == 2
    np.testing.assert_array_equal(made.weights, np.clip(indices, -128, 127))


def test_what_the_accelerator_cannot_take_is_refused():
    words = Sparse.of(np.ones((4, 8), np.float32), np.ones((4, 8), bool), (1, 1))
    with pytest.raises(HardwareError, match="weights must be quantized"):
        assemble(bytes(encode_sparse(words, "F32", seed=SEED)), seed=SEED)
    wide = Quantized(np.arange(300, dtype=np.int16).reshape(3, 100), np.zeros((3, 1), np.int16), (1, 100))
    with pytest.raises(HardwareError, match="indices must have 8 bits, not 16"):
        assemble(bytes(encode_quantized(wide, "F32", seed=SEED)), seed=SEED)
    long = Quantized(np.zeros((1, 65536), np.int8), np.zeros((1, 1), np.int16), (1, 65536))
    with pytest.raises(HardwareError, match="at most 65535 rows and columns, not 1 x 65536"):
        assemble(bytes(encode_quantized(long, "F32", seed=SEED)), seed=SEED)


def test_a_program_that_is_changed_is_refused_or_gives_the_same():
    """Whatever is wrong with it, it never gives other weights: their checksum is in it."""
    rng, refused = np.random.default_rng(3), set()
    for _ in range(400):
        payload, _ = payloads(rng)
        made = assemble(payload, seed=SEED)
        try:
            outcome = execute(changed(made.program, rng), payload)
        except ProgramError as error:
            refused.add(error.fault)
        else:
            np.testing.assert_array_equal(outcome.weights, made.weights)
    assert refused >= {Fault.INSTRUCTION, Fault.ORDER, Fault.LENGTH, Fault.COUNT, Fault.CHECKSUM}
