"""The worked example of docs/format.md is what the reference coder reads and writes."""

import re
from pathlib import Path

import numpy as np

from regrain.kernels import reference
from regrain.kernels.reference_tables import buckets

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"
EXAMPLE = DOCUMENT.read_text("utf-8").partition("## 5. A worked example")[2]


def row(name):
    """Give the cells of the table row that starts with `name`."""
    line = re.search(rf"^\| {name}[^|]*\|(.*)\|$", EXAMPLE, re.MULTILINE)
    return [cell.strip(" `") for cell in line[1].split("|")]


def payload():
    data = bytearray()
    for line in re.findall(r"^[0-9a-f]{4}  .*$", EXAMPLE, re.MULTILINE):
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
