"""Forged packed artifacts with pruned tensors: every checksum is right, what stands under it is not."""

import json

import numpy as np
import pytest

from regrain.artifact.header import canonical_json
from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.artifact.source import from_tensors
from regrain.codecs.sparse import Sparse
from regrain.core.errors import CorruptArtifactError

from .packed_parts import deflated, forged, lazy, load, parts_of, whole


@pytest.fixture(scope="module")
def packed(quantize):
    """`a` without some columns, `b` tied to it, `q` quantized and without some blocks, `s` small, `c` coded."""
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (30, 200)).astype(np.float32)
    mask = rng.random((4, 40)) < 0.7
    q = rng.normal(0, 1, (16, 160)) * mask.repeat(4, axis=0).repeat(4, axis=1)
    tensors = {
        "a": a,
        "b": a.copy(),
        "q": q.astype(np.float32),
        "s": rng.normal(0, 1, (2, 9)).astype(np.float32),
        "c": np.arange(300, dtype=np.int32),
    }
    forms = {
        "a": Sparse.of(a, rng.random((1, 200)) < 0.8, (30, 1)),
        "q": Sparse.quantized(quantize(tensors["q"], (1, 160), 0.1), mask, (4, 4)),
        "s": Sparse.of(tensors["s"], rng.random((2, 9)) < 0.5, (1, 1)),
    }
    forms["b"] = forms["a"]
    source = from_tensors({name: lazy(array) for name, array in tensors.items()}, {"format": "np"}, "test")
    assert list(source.header.entries) == ["a", "b", "q", "s", "c"]
    sink = OutputBytes()
    write_packed(source, sink, forms, version="0", receipt={})
    return sink.getvalue()


def test_a_forgery_that_changes_nothing_loads(packed):
    assert load(packed) == load(forged(packed, lambda manifest, index, bodies: None))


def test_no_flipped_bit_goes_unseen(packed):
    start = 8 + int.from_bytes(packed[:8], "little")
    rng = np.random.default_rng(3)
    for place in sorted({*range(0, start, 11), *rng.integers(start, len(packed), 150).tolist()}):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(CorruptArtifactError):
            load(bytes(damaged))


def record(at, **fields):
    return lambda manifest, index, bodies: index[at].update(fields)


def dropping(at, key):
    def change(manifest, index, bodies):
        del index[at][key]

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m, i, b: m.update(format=2, reader=2), "tensor 'a': format must be 3 where a tensor is pruned"),
        (lambda m, i, b: m.update(format=1), "manifest must have exactly the fields"),
        (record(0, unit=[31, 1]), r"tensor 'a': unit must be within the 30 x 200 matrix, not \[31, 1\]"),
        (record(0, unit=[30, 0]), "tensor 'a': unit must be within the 30 x 200 matrix"),
        (record(0, unit=[30]), "tensor 'a': unit must be two whole numbers"),
        (record(0, unit=[30, True]), "tensor 'a': unit must be two whole numbers"),
        (record(0, unit="30x1"), "tensor 'a': unit must be two whole numbers, not '30x1'"),
        (record(0, unit=[15, 1]), r"tensor 'a': payload must be of .*\(15, 1\), .* not of .*\(30, 1\)"),
        (record(0, kept=4711), r"tensor 'a': payload must be of .*4711\), not of"),
        (record(0, kept=-1), "tensor 'a': kept must be a whole number from 0 to 6000, not -1"),
        (record(0, kept=6001), "tensor 'a': kept must be a whole number from 0 to 6000, not 6001"),
        (record(0, kept=1.0), "tensor 'a': kept must be a whole number"),
        (record(0, cell=[1, 200]), r"tensor 'a': payload must be of .*\(1, 200\), .* not of .*None"),
        (record(2, cell=[1, 80]), r"tensor 'q': payload must be of .*\(1, 80\), .* not of .*\(1, 160\)"),
        (record(2, cell=[1, 161]), "tensor 'q': cell must be within the 16 x 160 matrix"),
        (dropping(2, "cell"), r"tensor 'q': payload must be of .*None, .* not of .*\(1, 160\)"),
        (dropping(0, "unit"), "tensor 'a': record must be that of coder"),
        (dropping(0, "kept"), "tensor 'a': record must be that of coder"),
        (record(0, coder="raw"), "tensor 'a': record must be that of coder"),
        (record(0, more=1), "tensor 'a': record must be that of coder"),
        (record(0, changed=True), "tensor 'a': changed must be true, of a tensor neither quantized nor pruned"),
        (record(4, unit=[1, 1], kept=0), "tensor 'c': a pruned tensor must be BF16, F16, F32, not I32"),
        (record(1, unit=[30, 1], kept=0), "tensor 'b': record must be that of coder"),
        (record(0, granularity="coarser"), "tensor 'a': granularity and dynamic must be known"),
        (record(0, granularity="fine", dynamic=True), None),
    ],
)
def test_a_forged_record(packed, change, reason):
    if reason is None:
        load(forged(packed, change))
        return
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forged(packed, change))


def test_a_payload_of_another_kind_is_refused(packed):
    """A pruned tensor's payload under the record of a quantized one, and of a lossless one."""

    def quantized(manifest, index, bodies):
        del index[2]["unit"], index[2]["kept"]

    def lossless(manifest, index, bodies):
        del index[0]["unit"], index[0]["kept"]

    with pytest.raises(CorruptArtifactError, match="tensor 'q': payload must start with 'rgQ1'"):
        load(forged(packed, quantized))
    with pytest.raises(CorruptArtifactError, match="tensor 'a': the payload does not start with 'rgP1'"):
        load(forged(packed, lossless))


def test_a_huge_shape_gets_no_memory(packed):
    """The original's header says 2^50 weights; its index, that a few bytes hold them, all dropped."""
    manifest, bodies, _ = parts_of(packed)
    text = json.dumps({"w": {"dtype": "F32", "shape": [2**25, 2**25], "data_offsets": [0, 2**52]}}).encode()
    bodies["regrain.header"] = deflated("regrain.header", text)
    manifest["model"]["bytes"] = 8 + len(text) + 2**52
    for unit in ([2**25, 1], [2**25, 2**25]):
        index = [{"coder": "rans", "bytes": len(bodies["regrain.data"]), "unit": unit, "kept": 0}]
        bodies["regrain.index"] = deflated("regrain.index", canonical_json(index))
        with pytest.raises(CorruptArtifactError, match="tensor 'w': payload of shape .* must be longer than"):
            load(whole(manifest, bodies))
