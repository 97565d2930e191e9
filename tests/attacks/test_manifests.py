"""Forged manifests: their checksum is right, what they say is not."""

import json

import numpy as np
import pytest

import regrain.numpy
from regrain.artifact.container import Container
from regrain.artifact.header import file_head
from regrain.artifact.reader import open_container
from regrain.artifact.seal import PREFIX, seal
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError
from regrain.kernels.reference import crc32c as reference_crc32c


def test_a_forgery_that_changes_nothing_loads(forge, load):
    load(forge(lambda parts: None))


def setting(**fields):
    return lambda parts: parts.manifest.update(fields)


def tensor(name, **fields):
    return lambda parts: parts.manifest["tensors"].__setitem__(name, fields)


def dropping(name):
    return lambda parts: parts.manifest.pop(name)


def flag(**fields):
    return lambda parts: parts.manifest["tensors"]["a"].update(fields)


def extra(parts):
    parts.entries["extra"] = {"dtype": "U8", "shape": [4], "data_offsets": []}
    parts.entries["extra"]["data_offsets"] = [end := sum(map(len, parts.data.values())), end + 4]
    parts.data["extra"] = bytes(4)


def without(name):
    def change(parts):
        del parts.entries[name], parts.data[name]

    return change


def another_key(parts):
    parts.metadata["more"] = "text"


def signed(parts):
    parts.entries["a.regrain"]["dtype"] = "I8"


def matrix(parts):
    parts.entries["a.regrain"]["shape"] = [1, *parts.entries["a.regrain"]["shape"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setting(format=2), "manifest must have exactly the fields"),
        (setting(format=True), "format must be 1, 2 or 3, not True"),
        (setting(format="1"), "format must be 1, 2 or 3, not '1'"),
        (setting(reader=-1), "reader must be a whole number from 0 to 4294967295, not -1"),
        (setting(reader="1"), "reader must be a whole number"),
        (setting(reader=None), "reader must be a whole number"),
        (setting(more=1), "manifest must have exactly the fields .*; wrong: .'more'."),
        (dropping("model"), "manifest must have exactly the fields .*; wrong: .'model'."),
        (dropping("tensors"), "manifest must have exactly the fields"),
        (setting(model=[]), "model must be a JSON object, not list"),
        (setting(model={"bytes": 1}), "model must have exactly bytes and sha256"),
        (setting(model={"bytes": 1, "sha256": "0" * 64, "x": 1}), "model must have exactly bytes and sha256"),
        (setting(model={"bytes": -1, "sha256": "0" * 64}), "model bytes must be a whole number"),
        (setting(model={"bytes": 2**63, "sha256": "0" * 64}), "model bytes must be a whole number"),
        (setting(model={"bytes": 1.5, "sha256": "0" * 64}), "model bytes must be a whole number"),
        (setting(model={"bytes": 1, "sha256": "0" * 63}), "model sha256 must be 64 lower-case hexadecimal digits"),
        (setting(model={"bytes": 1, "sha256": "A" * 64}), "model sha256 must be 64 lower-case hexadecimal digits"),
        (setting(model={"bytes": 1, "sha256": 5}), "model sha256 must be 64 lower-case hexadecimal digits"),
        (setting(tensors=[]), "tensors must be a JSON object, not list"),
        (setting(tensors={}), "header must have no entry 'a.regrain': no tensor owns it"),
        (setting(suffix=".other"), "reserved name must be '.regrain', with _ after it at most, not '.other'"),
        (setting(suffix=""), "reserved name must be '.regrain'"),
        (setting(suffix=7), "reserved name must be '.regrain'"),
        (setting(suffix=".regrain_"), "tensor 'a': payload 'a.regrain_' must be in the header"),
        (setting(header="a.regrain"), "reserved name must be 'regrain.header'"),
        (setting(header="regrain.receipt"), "reserved name must be 'regrain.header'"),
        (setting(header="regrain.header_"), "tensor 'regrain.header_': payload must be one axis of U8"),
        (setting(receipt=None), "reserved name must be 'regrain.receipt'"),
        (tensor("a", coder="rans", dtype="F32"), "tensor 'a': record must be that of coder rans or raw"),
        (
            tensor("a", coder="huff", dtype="F32", shape=[3, 200]),
            "tensor 'a': record must be that of coder rans or raw",
        ),
        (tensor("a", coder="os.system", crc=0), "tensor 'a': record must be that of coder rans or raw"),
        (tensor("a", coder=["rans"], dtype="F32", shape=[600]), "tensor 'a': record must be that of coder rans or raw"),
        (
            tensor("a", coder="rans", dtype="F32", shape=[600], crc=0),
            "tensor 'a': record must be that of coder rans or raw",
        ),
        (tensor("a", coder="rans", dtype="F31", shape=[600]), "tensor 'a': dtype must be one of"),
        (tensor("a", coder="rans", dtype=None, shape=[600]), "tensor 'a': dtype must be one of"),
        (tensor("a", coder="rans", dtype="F32", shape=[-600]), "tensor 'a': shape must have sizes from 0"),
        (tensor("a", coder="rans", dtype="F32", shape=[2**62]), "tensor 'a': shape must have sizes from 0"),
        (tensor("a", coder="rans", dtype="F32", shape=[2**60]), r"tensor 'a': payload of shape .* must be longer than"),
        (
            tensor("a", coder="rans", dtype="F32", shape=[2**30, 2**20]),
            "tensor 'a': payload of shape .* must be longer",
        ),
        (tensor("a", coder="rans", dtype="F32", shape=[6e2]), "tensor 'a': shape must be a list of whole numbers"),
        (tensor("a", coder="rans", dtype="F32", shape=[601]), "tensor 'a': the number of words is not the tensor's"),
        (tensor("a", coder="rans", dtype="F16", shape=[600]), "tensor 'a'"),
        (tensor("a", coder="rans", dtype="C64", shape=[300]), "tensor 'a': coder of C64 must be raw, not rans"),
        (tensor("a", coder="rans", dtype="F32", shape=[0, 3]), "tensor 'a'"),
        (tensor("a", coder="raw", crc=1), "tensor 'a': payload 'a' must be in the header"),
        (tensor("r", coder="raw", crc=-1), "tensor 'r': crc must be a whole number"),
        (tensor("r", coder="raw", crc=2**32), "tensor 'r': crc must be a whole number"),
        (tensor("r", coder="raw", crc=True), "tensor 'r': crc must be a whole number"),
        (tensor("r", coder="raw", crc=1), "tensor 'r', block 0: checksum must be 00000001, not"),
        (tensor("r", tied="a"), "header must have no entry 'r': no tensor owns it"),
        (tensor("b", tied="b"), "tensor 'b': tied must name a tensor with bytes, not 'b'"),
        (tensor("b", tied="zz"), "tensor 'b': tied must name a tensor with bytes, not 'zz'"),
        (tensor("b", tied="a.regrain"), "tensor 'b': tied must name a tensor with bytes, not 'a.regrain'"),
        (tensor("b", tied=3), "tensor 'b': record must be"),
        (tensor("d", tied="b"), "tensor 'd': tied must name a tensor with bytes, not 'b'"),
        (tensor("d", tied="a"), "tensor 'd': tensor must be in both the original header and the manifest"),
        (tensor("b", tied="c"), "tensor 'b': dtype and shape must be"),
        (tensor("z", coder="rans", dtype="U8", shape=[9]), "tensor 'z': payload 'z.regrain' must be in the header"),
        (
            tensor("a.regrain", coder="raw", crc=0),
            "tensor 'a.regrain': tensor must not have a name that the format reserves",
        ),
        (tensor("regrain.header", coder="raw", crc=0), "tensor must not have a name that the format reserves"),
        (tensor("", tied="a"), "tensor '': tensor must be in both"),
        (flag(granularity="tiny"), "tensor 'a': granularity and dynamic must be known, not 'tiny', False"),
        (flag(granularity=["fine"]), "tensor 'a': granularity and dynamic must be known"),
        (flag(dynamic=1), "tensor 'a': granularity and dynamic must be known, not .*, 1"),
        (flag(dynamic=None), "tensor 'a': granularity and dynamic must be known"),
        (extra, "header must have no entry 'extra': no tensor owns it"),
        (without("a.regrain"), "tensor 'a': payload 'a.regrain' must be in the header"),
        (without("r"), "tensor 'r': payload 'r' must be in the header"),
        (without("regrain.header"), "tensor 'regrain.header': payload must be one axis of U8"),
        (without("regrain.receipt"), "tensor 'regrain.receipt': payload must be one axis of U8"),
        (signed, "tensor 'a': payload must be one axis of U8"),
        (matrix, "tensor 'a': payload must be one axis of U8"),
        (another_key, "metadata must have the one key 'regrain', not .'more', 'regrain'."),
    ],
)
def test_a_forged_manifest(forge, load, change, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forge(change))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "manifest must be UTF-8 JSON"),
        ('"}{}', "manifest must be UTF-8 JSON"),
        ('"}', "reader must be a whole number from 0 to 4294967295, not None"),
        ('","crc":"00000000"}', "key 'crc' stands twice"),
        ('","reader":1,"reader":1}', "key 'reader' stands twice"),
        ('","tensors":{"a":{},"a":{}}}', "key 'a' stands twice"),
        ('","reader":true}', "reader must be a whole number from 0 to 4294967295, not True"),
        ('","reader":1e400}', "reader must be a whole number from 0 to 4294967295, not inf"),
        ('","reader":NaN}', "NaN is no JSON number"),
        ('","x":' + "[" * 100_000, "manifest must be nested less deeply"),
        ('","x":' + '{"x":' * 50_000, "manifest must be nested less deeply"),
        ("\ud800", "manifest must be Unicode text without lone surrogates"),
    ],
)
def test_a_manifest_that_is_none(forge, load, text, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forge(lambda parts: setattr(parts, "manifest", '{"crc":"00000000' + text)))


def test_a_name_that_is_no_text(forge, load):
    """Raw in the manifest, where canonical JSON would escape it."""

    def change(parts):
        manifest = parts.manifest | {"tensors": parts.manifest["tensors"] | {"\ud800": {"tied": "a"}}}
        parts.manifest = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    with pytest.raises(CorruptArtifactError, match="manifest must be Unicode text without lone surrogates"):
        load(forge(change))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"crc":1}', '{"crc": "00000000"}', ' {"crc":"00000000"}', '{"format":1,"crc":"00000000"}'),
        *("[" * 100_000, "\ud800", "\ufeff"),
    ],
)
def test_a_header_that_starts_otherwise(forge, load, text):
    with pytest.raises(CorruptArtifactError, match=r"artifact's header must start with .*crc.*, not b'"):
        load(forge(lambda parts: setattr(parts, "manifest", text)))


@pytest.mark.parametrize("where", ["before", "after"])
def test_metadata_that_stand_elsewhere(artifact, load, where):
    """The same JSON in another order, and what a stock writer would make of it."""
    size = int.from_bytes(artifact[:8], "little")
    document = json.loads(artifact[8 : 8 + size])
    key, *names = document
    text = json.dumps({name: document[name] for name in (*names, key)}) if where == "after" else json.dumps(document)
    with pytest.raises(CorruptArtifactError, match="artifact's header must start with"):
        load(file_head(text.encode()) + artifact[8 + size :])


def deep(depth):
    return lambda parts: setattr(parts, "manifest", '{"crc":"00000000","x":' + "[" * depth + "]" * depth + "}")


def test_no_depth_is_too_much(forge, load):
    """Around the interpreter's limit the parser or the rules give up, and all say the same."""
    for depth in range(600, 1001, 4):
        with pytest.raises(CorruptArtifactError, match="nested less deeply|reader must be"):
            load(forge(deep(depth)))


def test_a_message_is_short_whatever_it_quotes(forge, load):
    for change in (
        setting(suffix="x" * 10**6),
        setting(model={"bytes": 10**4000, "sha256": "0" * 64}),
        tensor("a", coder="x" * 10**6),
        tensor("a", coder="rans", dtype="F" * 10**6, shape=[1]),
        tensor("a", coder="rans", dtype="F32", shape=[10**4000] * 60),
    ):
        with pytest.raises(CorruptArtifactError) as caught:
            load(forge(change))
        assert len(str(caught.value)) < 1000


def test_a_wrong_checksum_comes_before_everything_else(forge, load):
    with pytest.raises(CorruptArtifactError, match="header's checksum must be [0-9a-f]{8}, not '00000000'"):
        load(forge(setting(crc="00000000", reader=9, format=7), sealing=False))


@pytest.mark.parametrize(
    "digits", ["0000000", "+0000000", "0x000000", "00_00000", "        ", "FFFFFFFF", "\u00e9" * 8]
)
def test_digits_of_another_kind(forge, load, digits):
    with pytest.raises(CorruptArtifactError, match="header's checksum must be [0-9a-f]{8}, not '"):
        load(forge(setting(crc=digits), sealing=False))


def test_digits_are_lower_case(artifact, load):
    at = len(PREFIX) + 8
    for blanks in range(1, 99):  # until some digit is a letter
        text = artifact[8 : 8 + int.from_bytes(artifact[:8], "little")]
        upper = bytearray(seal(text + b" " * blanks))
        upper[at - 8 : at] = upper[at - 8 : at].upper()
        if upper != seal(text + b" " * blanks):
            break
    with pytest.raises(CorruptArtifactError, match="header's checksum must be"):
        load(file_head(bytes(upper)) + artifact[8 + len(text) :])


def test_the_seal_covers_every_byte_of_the_header(artifact, load):
    size = int.from_bytes(artifact[:8], "little")
    data = bytearray(artifact)
    for at in range(8 + len(PREFIX), 8 + size):
        data[at] ^= 1
        with pytest.raises(CorruptArtifactError, match="header's checksum must be"):
            load(bytes(data))
        data[at] ^= 1
    for text in (data[8 : 8 + size] + b" ", data[8 : 8 + size].rstrip() + b"\n", data[8 : 8 + size - 1]):
        with pytest.raises(CorruptArtifactError, match="header's checksum must be"):
            load(file_head(bytes(text)) + artifact[8 + size :])


def test_the_seal_is_that_of_the_document(artifact):
    """By the words of docs/format.md, with another implementation of CRC-32C."""
    text = artifact[8 : 8 + int.from_bytes(artifact[:8], "little")]
    start = text.index(b"crc") + len('crc\\":\\"')
    blank = text[:start] + b"00000000" + text[start + 8 :]
    assert json.loads(json.loads(text)["__metadata__"]["regrain"])["crc"] == f"{reference_crc32c(blank):08x}"


def test_a_newer_artifact_asks_for_a_newer_reader(forge, load):
    with pytest.raises(
        UnsupportedArtifactError, match="artifact needs reader version 4, this one is 3: upgrade regrain"
    ):
        load(forge(setting(reader=4, format=4, more="fields")))


def test_an_artifact_without_its_key_is_not_taken_for_weights(forge, load):
    def change(parts):
        parts.metadata["rregrain"] = parts.metadata.pop("regrain")

    with pytest.raises(CorruptArtifactError, match="metadata must have the one key 'regrain', not .'rregrain'."):
        load(forge(change))


def test_swapped_payloads_are_found(forge, load):
    def change(parts):
        data = parts.data
        same = regrain.numpy.save({"a": np.zeros(600, np.float32), "c": np.zeros(600, np.float32) + 1})
        container = open_container(Container(np.frombuffer(same, np.uint8), "bytes"))
        parts.manifest["tensors"] = {name: {"coder": "rans", "dtype": "F32", "shape": [600]} for name in "ac"}
        for name, other in ("ac", "ca"):
            data[f"{name}.regrain"] = container.container.bytes_of(f"{other}.regrain").tobytes()
            parts.entries[f"{name}.regrain"]["shape"] = [len(data[f"{name}.regrain"])]
        del parts.entries["r"], data["r"]

    with pytest.raises(CorruptArtifactError, match=r"tensor 'a'.*: .*checksum"):
        load(forge(change))
