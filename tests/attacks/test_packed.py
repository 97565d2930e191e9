"""Forged packed artifacts: every checksum is right, what stands under it is not."""

import json
import tracemalloc
import zlib

import numpy as np
import pytest

from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.header import canonical_json
from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.core.errors import CorruptArtifactError, UnsupportedArtifactError

from .packed_parts import deflated, forged, lazy, load, parts_of, whole

NAMES = ("regrain.data", "regrain.header", "regrain.index", "regrain.receipt")


@pytest.fixture(scope="module")
def packed(quantize):
    """`a` quantized, `b` tied to it, `c` coded, `r` raw, `s` quantized and packed, in this order."""
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (30, 200)).astype(np.float32)
    tensors = {
        "a": a,
        "b": a.copy(),
        "s": rng.normal(0, 1, (2, 9)).astype(np.float32),
        "c": np.arange(300, dtype=np.int32),
        "r": np.arange(100, dtype=np.uint8),
    }
    choice = {name: quantize(tensors[name], (1, tensors[name].shape[1]), 0.1) for name in "abs"}
    source = from_tensors({name: lazy(array) for name, array in tensors.items()}, {"format": "np"}, "test")
    assert list(source.header.entries) == ["a", "b", "s", "c", "r"]
    sink = OutputBytes()
    write_packed(source, sink, choice, version="0", receipt={})
    return sink.getvalue()


@pytest.fixture
def forge(packed):
    """Let a test change the manifest, the index (a list of records) and the bodies, and seal it all again."""
    return lambda change: forged(packed, change)


def test_a_forgery_that_changes_nothing_loads(forge, packed):
    assert load(packed) == load(forge(lambda manifest, index, bodies: None))


def test_no_flipped_bit_goes_unseen(packed):
    start = 8 + int.from_bytes(packed[:8], "little")
    rng = np.random.default_rng(3)
    places = {*range(0, start, 7), *rng.integers(start, len(packed), 150).tolist()}
    places |= {len(packed) - offset for offset in range(1, 200, 9)}
    for place in sorted(places):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(CorruptArtifactError):
            load(bytes(damaged))


def test_no_shorter_file_is_taken(packed):
    for size in {0, 7, 100, len(packed) // 2, len(packed) - 1}:
        with pytest.raises(CorruptArtifactError):
            load(packed[:size])


def manifest_field(**fields):
    return lambda manifest, index, bodies: manifest.update(fields)


def record(at, **fields):
    return lambda manifest, index, bodies: index[at].update(fields)


def whole_record(at, **fields):
    return lambda manifest, index, bodies: index.__setitem__(at, fields)


def dropping(at, key):
    def change(manifest, index, bodies):
        del index[at][key]

    return change


def moved(first, second, by):
    """Bytes of one body given to another."""

    def change(manifest, index, bodies):
        index[first]["bytes"] -= by
        index[second]["bytes"] += by

    return change


def without(name):
    def change(manifest, index, bodies):
        del bodies[name]

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (manifest_field(restored="0" * 63), "restored must be 64 lower-case hexadecimal digits"),
        (manifest_field(restored=None), "restored must be 64 lower-case hexadecimal digits"),
        (manifest_field(tensors={}), "manifest must have exactly the fields .*; wrong: .'tensors'."),
        (manifest_field(suffix=".x"), "manifest must have exactly the fields .*; wrong: .'suffix'."),
        (manifest_field(format=1), "manifest must have exactly the fields"),
        (manifest_field(format=3), None),
        (manifest_field(format=4), "manifest must have exactly the fields"),
        (manifest_field(format=2.0), "format must be 1, 2 or 3, not 2.0"),
        (manifest_field(restored="0" * 64), "SHA-256 of the restored file must be 0000"),
        (lambda m, i, b: m["model"].update(bytes=5), "payload must inflate to at most 5 bytes"),
        (lambda m, i, b: {"a": 1}, "index must be a list of 5 records"),
        (lambda m, i, b: i[:-1], "index must be a list of 5 records"),
        (lambda m, i, b: [*i, i[0]], "index must be a list of 5 records"),
        (whole_record(0), "tensor 'a': record must be that of coder"),
        (lambda m, i, b: i.__setitem__(0, [1]), "tensor 'a': tensor's record must be a JSON object, not list"),
        (record(0, coder="raw"), "tensor 'a': record must be that of coder"),
        (record(0, coder="zstd"), "tensor 'a': record must be that of coder"),
        (record(0, more=1), "tensor 'a': record must be that of coder"),
        (record(0, bytes=-1), "tensor 'a': bytes must be a whole number from 0"),
        (record(0, bytes=1.0), "tensor 'a': bytes must be a whole number from 0"),
        (record(0, bytes=2**62), "bodies must have"),
        (record(0, bytes=0), "bodies must have"),
        (record(0, cell=[1, 201]), r"tensor 'a': cell must be within the 30 x 200 matrix, not \[1, 201\]"),
        (record(0, cell=[0, 200]), "tensor 'a': cell must be within the 30 x 200 matrix"),
        (record(0, cell=[1]), "tensor 'a': cell must be two whole numbers"),
        (record(0, cell=[True, 200]), "tensor 'a': cell must be two whole numbers"),
        (record(0, cell=[2, 200]), r"tensor 'a': payload must be of .*\(2, 200\)\), not of .*\(1, 200\)\)"),
        (record(0, changed=True), "tensor 'a': changed must be true, of a tensor neither quantized nor pruned"),
        (record(3, changed=False), None),
        (record(3, changed=1), "tensor 'c': changed must be true, of a tensor neither quantized nor pruned, not 1"),
        (record(3, changed=True), None),
        (record(1, changed=True), "tensor 'b': changed must be true, of a tensor neither quantized nor pruned"),
        (record(0, granularity="coarser"), "tensor 'a': granularity and dynamic must be known"),
        (record(0, granularity="fine", dynamic=True), None),
        (whole_record(1, tied="none"), "tensor 'b': tied must name a tensor with bytes, not 'none'"),
        (whole_record(1, tied="b"), "tensor 'b': tied must name a tensor with bytes, not 'b'"),
        (whole_record(1, tied=0), "tensor 'b': record must be that of coder"),
        (whole_record(1, tied="s"), "tensor 'b': tied must name a tensor of .*30, 200.*, not .*2, 9"),
        (record(3, cell=[1, 300]), "tensor 'c': a quantized tensor must be BF16, F16, F32, not I32"),
        (dropping(0, "cell"), "tensor 'a', block|tensor 'a': the payload does not start with 'rgP1'"),
        (dropping(2, "cell"), "tensor 's': the payload ends before its head does"),
        (moved(0, 3, 8), "tensor 'a'"),
        (moved(3, 0, 8), "tensor 'a'"),
        (moved(0, 2, 1), "tensor 'a'"),
        (record(4, crc=1), "tensor 'r', block 0: checksum must be 00000001"),
        (record(4, crc=2**32), "tensor 'r': crc must be a whole number"),
        (without("regrain.data"), "entries must be"),
        (without("regrain.receipt"), "entries must be"),
        (lambda m, i, b: b.__setitem__("regrain.more", b""), "entries must be"),
        (lambda m, i, b: b.__setitem__("a", b""), "entries must be"),
        (lambda m, i, b: b.__setitem__("regrain.data", b["regrain.data"] + b"\0"), "bodies must have"),
        (
            lambda m, i, b: b.__setitem__("regrain.index", b["regrain.header"]),
            "tensor 'regrain.index': checksum must be",
        ),
        (lambda m, i, b: b.__setitem__("regrain.index", deflated("regrain.index", b"[")), "index must be UTF-8 JSON"),
    ],
)
def test_a_forged_part(forge, change, reason):
    if reason is None:
        load(forge(change))
        return
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forge(change))


def test_two_bodies_that_changed_places_are_seen(forge):
    """Sound payloads, but each is another tensor's: the checksums know the name."""

    def change(manifest, index, bodies):
        index[0], index[2] = index[2], index[0]
        first, second = index[2]["bytes"], index[0]["bytes"]
        data = bodies["regrain.data"]
        bodies["regrain.data"] = data[first : first + second] + data[:first] + data[first + second :]
        index[0]["cell"], index[2]["cell"] = [1, 200], [1, 9]

    with pytest.raises(CorruptArtifactError, match="tensor '[as]'"):
        load(forge(change))


def test_entries_must_be_bytes_of_one_axis(packed):
    manifest, bodies, _ = parts_of(packed)
    with pytest.raises(CorruptArtifactError, match="tensor 'regrain.data': payload must be one axis of U8"):
        load(whole(manifest, bodies, {"dtype": "I8"}))


def test_a_newer_packed_artifact_asks_for_a_newer_reader(forge):
    with pytest.raises(UnsupportedArtifactError, match="artifact needs reader version 4, this one is 3: upgrade"):
        load(forge(manifest_field(reader=4, restored="unknown")))


def test_an_index_bomb_is_not_blown_up(forge):
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(16)) + packer.flush()  # 256 MB in 256 KB
    stored = checksum(seed_of("regrain.index"), bomb).to_bytes(4, "little") + bomb
    data = forge(lambda manifest, index, bodies: bodies.__setitem__("regrain.index", stored))
    tracemalloc.start()
    with pytest.raises(CorruptArtifactError, match="'regrain.index': payload must inflate to at most 100000000 bytes"):
        load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250_000_000


def test_a_huge_shape_gets_no_memory(packed):
    """The original's header says 2^50 weights; its index, that a few bytes hold them."""
    manifest, bodies, _ = parts_of(packed)
    text = json.dumps({"w": {"dtype": "F32", "shape": [2**25, 2**25], "data_offsets": [0, 2**52]}}).encode()
    bodies["regrain.header"] = deflated("regrain.header", text)
    manifest["model"]["bytes"] = 8 + len(text) + 2**52
    for fields in ({"cell": [2**25, 2**25]}, {"cell": [1, 1]}, {}):
        index = [{"coder": "rans", "bytes": len(bodies["regrain.data"]), **fields}]
        bodies["regrain.index"] = deflated("regrain.index", canonical_json(index))
        with pytest.raises(CorruptArtifactError, match="tensor 'w': payload of shape .* must be longer than"):
            load(whole(manifest, bodies))
