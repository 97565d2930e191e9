"""The worked example of docs/format.md is what the reference coder reads and writes."""

import re
from pathlib import Path

import numpy as np

from regrain.codecs.quantized import read_front, read_indices
from regrain.codecs.sparse import Sparse, encode_sparse
from regrain.kernels import reference
from regrain.kernels.reference_quantized import OCTAVE, decode_quantized
from regrain.kernels.reference_sparse import decode_sparse
from regrain.kernels.reference_tables import buckets

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"
EXAMPLE = DOCUMENT.read_text("utf-8").partition("## 5. A worked example")[2].partition("\n## 6.")[0]
QUANTIZED = DOCUMENT.read_text("utf-8").partition("## 8. A worked example")[2].partition("\n## 9.")[0]
PRUNED = DOCUMENT.read_text("utf-8").partition("## 10. A worked example")[2]


def row(name):
    """Give the cells of the table row that starts with `name`."""
    line = re.search(rf"^\| {name}[^|]*\|(.*)\|$", EXAMPLE, re.MULTILINE)
    return [cell.strip(" `") for cell in line[1].split("|")]


def payload(example=EXAMPLE):
    data = bytearray()
    for line in re.findall(r"^[0-9a-f]{4}  .*$", example, re.MULTILINE):
        offset, bytes_ = line[:4], line[6:53]
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(bytes_)
    return bytes(data)


def words():
    given = [int(cell, 16) for cell in row("word")]
    return np.array(given[:6] + given[6:] * 4, np.uint16)


def test_the_example_decodes_to_its_words():
    data, seed = payload(), reference.crc32c(b"w")
    assert f"seed(w) = {seed:08x}" in EXAMPLE
    assert f"The payload, {len(data)} bytes" in EXAMPLE
    np.testing.assert_array_equal(reference.decode(data, seed=seed), words(), strict=True)
    elements = (words().astype(np.uint32) << 16).view(np.float32)
    stated = [float(cell) for cell in row("element")]
    np.testing.assert_array_equal(elements, stated[:6] + stated[6:] * 4)


def test_the_example_is_what_its_plan_gives():
    data = payload()
    plan = reference.plan_of(data)
    again = reference.encode(words(), family=0, mantissa_bits=7, plan=plan, seed=reference.crc32c(b"w"))
    assert bytes(again) == data


def test_the_example_states_exponents_raw_bits_and_buckets():
    first = words()[:6]
    assert [int(cell) for cell in row("exponent v")[:6]] == (first >> 7 & 255).tolist()
    assert [int(cell, 16) for cell in row("R")[:6]] == (first >> 15 << 7 | first & 127).tolist()
    table = reference.plan_of(payload()).tables[0]
    for b, (threshold, symbol_a, offset_a, symbol_b, offset_b) in enumerate(buckets(table.freq)):
        second = [str(symbol_b), str(offset_b)] if threshold < 16 else ["", ""]
        assert row(f"{b} ") == [str(threshold), str(symbol_a), str(offset_a), *second]


def cells(name):
    """Both rows of a table of the second example: its column of that name, a list of words each."""
    table = re.search(rf"^\| row [^\n]*\| {name} [^\n]*\n[^\n]*\n((?:\|.*\n)+)", QUANTIZED, re.MULTILINE)
    heads = [head.strip() for head in table[0].splitlines()[0].split("|")]
    rows = [
        line.split("|")[heads.index(name)].strip(" `").replace("\N{MINUS SIGN}", "-").split()
        for line in table[1].splitlines()
    ]
    assert len(rows) == 2
    return rows


def test_the_quantized_example_decodes_to_its_weights():
    data, seed = payload(QUANTIZED), reference.crc32c(b"w")
    assert f"seed(w) = {seed:08x}" in QUANTIZED
    assert f"The payload, {len(data)} bytes" in QUANTIZED
    found = decode_quantized(data, seed=seed)
    assert found.cell == (1, 3)
    assert found.indices.tolist() == [[int(cell) for cell in line] for line in cells("indices")]
    assert found.codes.tolist() == [[int(cell) for cell in line] for line in cells("codes")]
    assert found.words.tolist() == [[int(cell, 16) for cell in line] for line in cells("words")]
    weights = (found.words.astype(np.uint32) << 16).view(np.float32)
    assert weights.tolist() == [[float(cell) for cell in line] for line in cells("weights")]
    scales = np.ldexp(OCTAVE[found.codes % 8], found.codes // 8)
    np.testing.assert_allclose(scales, [[float(cell) for cell in line] for line in cells("scales")], rtol=1e-7)
    front = read_front(lambda start, count: data[start : start + count], len(data), seed=seed)
    assert read_indices(np.frombuffer(data, np.uint8), front, seed=seed).tolist() == found.indices.reshape(-1).tolist()


def test_the_pruned_example_decodes_to_its_weights():
    data, seed = payload(PRUNED), reference.crc32c(b"w")
    assert f"seed(w) = {seed:08x}" in PRUNED and f"The payload, {len(data)} bytes" in PRUNED
    rows = [[cell.strip(" `") for cell in line.split("|")[2:5]] for line in re.findall(r"^\| \d \|.*$", PRUNED, re.M)]
    found = decode_sparse(data, seed=seed)
    assert (found.dtype, found.unit) == (0, (2, 1))
    assert found.words.tolist() == [[int(word, 16) for word in words.split()] for _, words, _ in rows]
    assert found.mask.astype(int).tolist() == [[int(unit) for unit in units.split()] for _, _, units in rows if units]
    assert found.kept.tolist() == [[text != "\N{MIDDLE DOT}" for text in weights.split()] for weights, _, _ in rows]
    weights = (found.words.astype(np.uint32) << 16).view(np.float32)
    stated = [weights.replace("\N{MINUS SIGN}", "-").replace("\N{MIDDLE DOT}", "0").split() for weights, _, _ in rows]
    assert weights.tolist() == [[float(one) for one in row] for row in stated]
    again = Sparse(found.mask, found.unit, (4, 5), found.words[found.kept])
    assert encode_sparse(again, "BF16", seed=seed).tobytes() == data


def test_the_document_states_the_octave():
    stated = re.search(r"^T, as float32: (.*)$", DOCUMENT.read_text("utf-8"), re.MULTILINE)[1].split()
    assert [int(word, 16) for word in stated] == OCTAVE.view(np.uint32).tolist()
