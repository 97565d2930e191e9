"""The quick ways through a header and a manifest take nothing that the precise ones refuse, and give the same."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.artifact import header, manifest_reader
from regrain.artifact.header import ODD, PAIRS, parse_header, parse_json
from regrain.core.dtypes import DTYPES
from regrain.core.errors import CorruptArtifactError

NAMES = st.sampled_from(("a", "b.weight", "ü", 'q"', "a:b", "x.regrain", "\ud800", ""))
JUNK = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 1.0, 2**62, 2**63, 10**40, math.nan, "", "U8", "F32", "raw", "rans", "[1]"),
        *([], [0], [1], [0, 4], [4, 0], [True], [2.0], ["aa", 10**9], [[1], 10**9], [10**9, "aa"], [1] * 65, [-2, -2]),
        *([2**62, 4, 0], {}, {"a": 1}, {"dtype": "U8"}, [["dtype", "U8"], ["shape", [4]], ["data_offsets", [0, 4]]]),
    ]
)


def text_of(value, draw):
    """JSON of a value, objects given as lists of pairs in tuples: keys may come twice, blanks anywhere."""
    blank = draw(st.sampled_from(("", "", "", " ", "\n")))
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(key)}{blank}:{text_of(item, draw)}" for key, item in value) + blank + "}"
    return json.dumps(value)


@st.composite
def changed(draw, pairs):
    """A few changes of an object of objects."""
    pairs = [(name, list(fields)) for name, fields in pairs]
    for _ in range(draw(st.integers(0, 2))):
        if not pairs:
            break
        at = draw(st.integers(0, len(pairs) - 1))
        name, fields = pairs[at]
        kind = draw(st.sampled_from(("value", "key", "swap", "twice", "name", "move", "again", "drop", "whole")))
        place = draw(st.integers(0, len(fields) - 1)) if isinstance(fields, list) and fields else 0
        if kind == "name":
            pairs[at] = (draw(NAMES), fields)
        elif kind == "again":
            pairs.append(pairs[at])
        elif kind == "move":
            pairs.append(pairs.pop(at))
        elif kind == "whole" or not isinstance(fields, list) or not fields:
            pairs[at] = (name, draw(JUNK))
        elif kind == "value":
            fields[place] = (fields[place][0], draw(JUNK))
        elif kind == "key":
            fields[place] = (draw(st.sampled_from(("dtype", "shape", "crc", "tied", "dynamic"))), fields[place][1])
        elif kind == "swap":
            fields.reverse()
        elif kind == "twice":
            fields.append(fields[place])
        else:
            del fields[place]
    return tuple((name, whole(fields)) for name, fields in pairs)


def whole(fields):
    """Fields as an object; junk as it is."""
    return tuple(fields) if isinstance(fields, list) and fields and isinstance(fields[0], tuple) else fields


@st.composite
def entries(draw):
    pairs, end = [], 0
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        dtype = draw(st.sampled_from(tuple(DTYPES)))
        shape = draw(st.lists(st.integers(0, 4).map(lambda size: 4 * size), max_size=3))
        stop = end + (DTYPES[dtype].nbytes([*shape, 1]) or 0)
        pairs.append((name, (("dtype", dtype), ("shape", shape), ("data_offsets", [end, stop]))))
        end = stop
    return pairs, end


@settings(max_examples=400)
@given(st.data())
def test_headers(data):
    pairs, end = data.draw(entries())
    found = data.draw(changed(pairs))
    metadata = data.draw(st.sampled_from(((), (("__metadata__", (("format", "pt"),)),), (("__metadata__", None),))))
    order = metadata + found if data.draw(st.booleans()) else found + metadata
    text = text_of(order, data.draw).encode()
    try:
        quick = header._parse_usual(text, end)
    except ODD:
        return
    assert quick == header._parse_any(text, end)
    assert all(type(number) is int for entry in quick.entries.values() for number in (*entry.shape, *entry[2:]))


@given(entries())
def test_an_ordinary_header_is_usual(found):
    pairs, end = found
    if any(name == "\ud800" for name, _ in pairs) or any(DTYPES[dict(f)["dtype"]].bits < 8 for _, f in pairs):
        return
    text = text_of((("__metadata__", (("format", "pt"),)), *pairs), lambda _: "").encode()
    assert header._parse_usual(text, end) == header._parse_any(text, end) == parse_header(text, end)


@st.composite
def records(draw):
    pairs = []
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        kind = draw(st.sampled_from(("rans", "raw", "tied", "flags")))
        coded = (("coder", "rans"), ("dtype", draw(st.sampled_from(tuple(DTYPES)))), ("shape", draw(st.just([3, 4]))))
        fields = {
            "rans": coded,
            "flags": (*coded[:2], ("granularity", "medium"), coded[2]),
            "raw": (("coder", "raw"), ("crc", 7)),
            "tied": (("tied", "a"),),
        }[kind]
        pairs.append((name, fields))
    return pairs


@settings(max_examples=400)
@given(st.data())
def test_records(data):
    text = text_of(data.draw(changed(data.draw(records()))), data.draw)
    try:
        quick = manifest_reader._usual_records(PAIRS.decode(text))
    except ODD:
        return
    precise = manifest_reader._records(parse_json(text.encode(), "manifest"))
    assert quick == precise
    assert [type(record) for record in quick.values()] == [type(record) for record in precise.values()]


@pytest.mark.parametrize("shape", ['["aa",1000000000]', '[1000000000,"aa"]', "[[1],1000000000]", '{"a":1}', '""'])
def test_a_shape_of_something_else_costs_nothing(shape):
    text = f'{{"x":{{"dtype":"F64","shape":{shape},"data_offsets":[0,8]}}}}'.encode()
    with pytest.raises(CorruptArtifactError, match="shape must be a list of whole numbers"):
        parse_header(text, 8)


@pytest.mark.parametrize(
    ("text", "nbytes", "reason"),
    [
        (
            '{"x":{"dtype":"U8","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}',
            0,
            "shape must have sizes from 0",
        ),
        ('{"__metadata__":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', 4, "__metadata__ must map strings"),
        (
            '{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
            '"__metadata__":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}',
            8,
            "__metadata__ must map strings",
        ),
        ('{"x":{"dtype":"U8","size":[4],"data_offsets":[0,4]}}', 4, "must have exactly dtype, shape and data_offsets"),
        (
            '{"x":[["dtype","U8"],["shape",[4]],["data_offsets",[0,4]]]}',
            4,
            "must have exactly dtype, shape and data_off",
        ),
        ('{"x":{"dtype":"U8","shape":[4],"data_offsets":[false,4]}}', 4, "data_offsets must be two whole numbers"),
        ('{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4.0]}}', 4, "data_offsets must be two whole numbers"),
        ('{"x":{"dtype":"U8","shape":[-2,-2],"data_offsets":[0,4]}}', 4, "shape must have sizes from 0"),
        ('{"\\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', 4, "without lone surrogates"),
        (
            '{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}',
            8,
            "key 'x' stands twice",
        ),
        ('{"x":{"dtype":"U8","shape":[' + "1," * 64 + '4],"data_offsets":[0,4]}}', 4, "at most 64 axes"),
    ],
)
def test_what_only_just_looks_usual(text, nbytes, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        parse_header(text.encode(), nbytes)
