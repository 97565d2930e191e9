"""Hostile safetensors headers. Each is refused with a reason, none costs memory or time."""

import json

import numpy as np
import pytest

from regrain.artifact.container import Container
from regrain.artifact.header import file_head
from regrain.core.errors import CorruptArtifactError


def read(text, data=b"", length=None):
    head = file_head(text) if length is None else length.to_bytes(8, "little") + text
    return Container(np.frombuffer(head + data, np.uint8), "bytes").header


def entry(dtype="U8", shape=(4,), offsets=(0, 4), **more):
    return json.dumps({"x": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more}).encode()


def test_the_entry_that_the_attacks_change_is_sound():
    assert read(entry(), bytes(4)).entries["x"].nbytes == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "header must be UTF-8 JSON"),
        (b"{", "header must be UTF-8 JSON"),
        (b"[]", "header must be a JSON object, not list"),
        (b"null", "header must be a JSON object, not NoneType"),
        (b'{"x":1}', "header entry must have exactly dtype, shape and data_offsets"),
        (b'{"x":{}}', "header entry must have exactly dtype, shape and data_offsets"),
        (entry(more=1), "header entry must have exactly dtype, shape and data_offsets"),
        (b'{"a":1,"a":1}', "unique keys: key 'a' stands twice"),
        (b'{"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,0]}}', "key 'dtype' stands twice"),
        (b'{"x\xff":1}', "header must be UTF-8 JSON"),
        ('{"x":1}'.encode("utf-16"), "header must be UTF-8 JSON"),
        (b'\xef\xbb\xbf{"x":1}', "header must be UTF-8 JSON"),
        (b'{"x":NaN}', "NaN is no JSON number"),
        (b'{"x":-Infinity}', "-Infinity is no JSON number"),
        (b'{"x":' + b"9" * 5000 + b"}", "header must be UTF-8 JSON"),
        (b"[" * 100_000, "header must be nested less deeply"),
        (b'{"a":' * 100_000, "header must be nested less deeply"),
        (b'{"__metadata__":' + b"[" * 100_000, "header must be nested less deeply"),
        (b'{"__metadata__":[]}', "__metadata__ must map strings to strings"),
        (b'{"__metadata__":{"a":1}}', "__metadata__ must map strings to strings"),
        (
            b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
            "name must be Unicode text without lone surrogates",
        ),
        (entry(dtype="U9"), "dtype must be one of BF16, .*, not 'U9'"),
        (entry(dtype=8), "dtype must be one of BF16, .*, not 8"),
        (entry(dtype=["U8"]), r"dtype must be one of BF16, .*, not \['U8'\]"),
        (entry(shape="4"), "shape must be a list of whole numbers|must have"),
        (entry(shape=[4.0]), "shape must be a list of whole numbers"),
        (entry(shape=[True]), "shape must be a list of whole numbers"),
        (entry(shape=[-4]), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[-2, -2]), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[2**63]), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[2**32, 2**32]), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[2**62, 4, 0], offsets=[0, 0]), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[2**61], dtype="F64"), r"shape must have sizes from 0 and fewer than 2\^63 bytes"),
        (entry(shape=[1] * 65), "shape must have at most 64 axes, not 65"),
        (entry(shape=[5]), r"U8 of shape \[5\] must have 5 bytes, not 4"),
        (entry(shape=[4], dtype="F32"), r"F32 of shape \[4\] must have 16 bytes, not 4"),
        (entry(shape=[3], dtype="F4"), r"F4 of shape \[3\] must have whole bytes, not 4"),
        (entry(offsets=[0]), "data_offsets must be two whole numbers"),
        (entry(offsets=[0, 4, 4]), "data_offsets must be two whole numbers"),
        (entry(offsets=["0", "4"]), "data_offsets must be two whole numbers"),
        (entry(offsets=[0, 4.0]), "data_offsets must be two whole numbers"),
        (entry(offsets=[False, 4]), "data_offsets must be two whole numbers"),
        (entry(offsets=[4, 0]), "data_offsets must ascend within a file, not 4, 0"),
        (entry(offsets=[-4, 0]), "data_offsets must ascend within a file, not -4, 0"),
        (entry(offsets=[2**64, 2**64 + 4]), "data_offsets must ascend within a file"),
        (entry(offsets=[2**63 - 5, 2**63 - 1]), "data_offsets must start at 0"),
        (entry(offsets=[1, 5]), "tensor 'x': data_offsets must start at 0, not 1"),
        (entry(shape=[3], offsets=[0, 3]), "data must have 3 bytes as the header says, not 4"),
        (entry(shape=[5], offsets=[0, 5]), "data must have 5 bytes as the header says, not 4"),
        (b"{}", "data must have 0 bytes as the header says, not 4"),
    ],
)
def test_a_bad_header(text, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        read(text, bytes(4))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([0, 4], [0, 4], "data_offsets must start at 4, not 0"),
        ([0, 4], [2, 6], "data_offsets must start at 4, not 2"),
        ([0, 4], [5, 9], "data_offsets must start at 4, not 5"),
        ([4, 8], [8, 12], "data_offsets must start at 0, not 4"),
    ],
)
def test_overlaps_and_holes(first, second, reason):
    both = {name: {"dtype": "U8", "shape": [4], "data_offsets": at} for name, at in (("x", first), ("y", second))}
    with pytest.raises(CorruptArtifactError, match=reason):
        read(json.dumps(both).encode(), bytes(max(first + second)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "safetensors file must have at least 8 bytes, not 0"),
        (b"1234567", "safetensors file must have at least 8 bytes, not 7"),
        (b"\xff" * 20, "header must have at most 100000000 bytes, not 18446744073709551615"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "header must have at most 100000000 bytes, not 100000001"),
        ((3).to_bytes(8, "little") + b"{}", "header must fit in the file's 10 bytes, not have 3: is the file cut off"),
    ],
)
def test_a_bad_length(data, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        Container(np.frombuffer(data, np.uint8), "bytes")


def test_every_truncation_of_an_artifact(artifact, load):
    for size in range(0, len(artifact), 7):
        with pytest.raises(CorruptArtifactError):
            load(artifact[:size])
    with pytest.raises(CorruptArtifactError, match="data must have"):
        load(artifact + b"\0")
