"""Packed artifacts: what is quantized comes back so, everything else bit by bit, in the same bytes every time."""

import hashlib
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load as load_plain

from regrain.artifact.header import file_head
from regrain.artifact.manifest import is_artifact
from regrain.artifact.original import hash_pieces
from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.codecs.quantized import Quantized
from regrain.core.granularity import Granularity


@pytest.fixture(scope="module")
def model():
    """Tensors of every kind: quantized in several ways, tied, raw, coded, empty, without axes, with odd names."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(0, 0.02, (300, 200)).astype(np.float32)
    return {
        "a.weight": matrix,
        "tied": matrix.copy(),
        "untied": matrix.copy(),
        "bias": rng.normal(0, 1, 64).astype(ml_dtypes.bfloat16),
        "conv": rng.normal(0, 0.1, (8, 4, 3, 3)).astype(np.float16),
        "scalar": np.array(0.7, np.float32),
        "kept": rng.normal(0, 1, (50, 40)).astype(np.float32),
        "ids": np.arange(300),
        "mask": rng.random(13) < 0.5,
        "empty": np.zeros((0, 4), np.float32),
        "regrain.data": np.arange(5, dtype=np.uint8),
        "x.regrain": rng.normal(0, 1, 40),
    }


@pytest.fixture(scope="module")
def choice(model, quantize):
    """How each of them is quantized."""
    spread = np.exp(np.random.default_rng(2).normal(-5, 0.3, (300, 1)))
    chosen = {
        "a.weight": quantize(model["a.weight"], (1, 200), spread),
        "bias": quantize(model["bias"], (1, 64), 0.2),
        "conv": quantize(model["conv"], (3, 5), 0.05),
        "scalar": quantize(model["scalar"], (1, 1), 0.1),
        "untied": quantize(model["untied"], (300, 200), 0.01),
    }
    return chosen | {"tied": chosen["a.weight"]}


@pytest.fixture(scope="module")
def pack(source_of):
    """Make the bytes of a packed artifact."""

    def make(tensors, choice, *, threads=1, receipt=None, metadata=None, **more):
        sink = OutputBytes()
        write_packed(
            source_of(tensors, metadata), sink, choice, version="0", receipt=receipt or {}, threads=threads, **more
        )
        return sink.getvalue()

    return make


@pytest.fixture(scope="module")
def packed(pack, model, choice):
    return pack(model, choice, receipt={"budget": 1}, metadata={"format": "pt"})


def read_all(file):
    found = {}
    for name, entry in file.tensors.items():
        out = np.empty(file.original.entries[name].nbytes, np.uint8)
        file.read([(name, out)], 1)
        found[name] = out.tobytes()
        assert entry[:2] == file.original.entries[name][:2]
    return found


def expected(model, choice):
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16"}
    return {
        name: choice[name].dequantized(names[array.dtype]).tobytes() if name in choice else array.tobytes()
        for name, array in model.items()
    }


def test_everything_comes_back(opened, model, choice, packed):
    file = opened(packed)
    assert list(file.tensors) == sorted(model)
    assert read_all(file) == expected(model, choice)
    for name in model:
        found = file.quantized(name, 1)
        assert (found is None) == (name not in choice)
        assert found is None or found.digest() == choice[name].digest()


def test_ranges_come_back(opened, model, choice, packed):
    file, wanted = opened(packed), expected(model, choice)
    for name, array in model.items():
        for first, last in ((0, array.size), (array.size // 3, array.size // 2), (array.size, array.size)):
            size = array.itemsize
            out = np.empty((last - first) * size, np.uint8)
            file.read_range(name, first, out, 1)
            assert out.tobytes() == wanted[name][first * size : last * size], name


def test_the_bytes_are_the_same_for_every_number_of_threads(pack, model, choice, packed):
    for threads in (2, 3):
        assert pack(model, choice, receipt={"budget": 1}, metadata={"format": "pt"}, threads=threads) == packed


def test_functions_and_mappings_are_the_same(pack, model, choice):
    new = {"kept": model["kept"] + 1}
    assert pack(model, choice.get, replaced=new.get) == pack(model, choice, replaced=new)


def test_the_file_is_an_ordinary_safetensors_file_of_four_entries(opened, packed):
    entries = load_plain(packed)
    assert entries.keys() == {"regrain.data", "regrain.header", "regrain.index", "regrain.receipt"}
    assert is_artifact(opened(packed).container.header)
    size = int.from_bytes(packed[:8], "little")
    manifest = json.loads(json.loads(packed[8 : 8 + size])["__metadata__"]["regrain"])
    assert manifest.keys() == {"crc", "format", "model", "reader", "restored"}
    assert (manifest["format"], manifest["reader"]) == (2, 2)


def test_digests_are_those_of_the_original_and_of_what_is_restored(opened, source_of, model, choice, packed):
    file, source = opened(packed), source_of(model, {"format": "pt"})
    original = b"".join(source.chunks())
    wanted = expected(model, choice)
    restored = file_head(source.header.text) + b"".join(wanted[name] for name in source.header.entries)
    manifest = file.manifest
    assert (manifest.model_bytes, manifest.model_sha256) == (len(original), hashlib.sha256(original).hexdigest())
    assert manifest.restored_sha256 == hashlib.sha256(restored).hexdigest()
    assert not manifest.lossless
    pieces = []
    hash_pieces(file, 1, lambda piece: pieces.append(piece.data.tobytes()))
    assert b"".join(pieces) == restored


def test_a_packed_artifact_may_be_lossless(opened, pack, model):
    file = opened(pack(model, {}))
    assert file.manifest.lossless and file.receipt["mode"] == "lossless"
    assert read_all(file) == {name: array.tobytes() for name, array in model.items()}
    assert all(file.exact(name) for name in model)


def test_ties_need_the_same_bytes_and_the_same_quantizer(opened, packed, pack, model, choice):
    file = opened(packed)
    assert {name for name in model if file.descriptor(name).tied} == {"tied"}
    assert file.descriptor("tied").scheme.cell == (1, 200)
    assert file.stored_bytes("tied") == 0
    alone = opened(pack(model, {name: how for name, how in choice.items() if name != "tied"}))
    assert not any(alone.descriptor(name).tied for name in model)
    exact = opened(pack(model, {}))
    assert {name: exact.descriptor(name).tied for name in ("tied", "untied")} == {
        "tied": "a.weight",
        "untied": "a.weight",
    }


def test_replaced_tensors_are_stored_as_they_are_given(opened, pack, model, choice):
    new = {"kept": model["kept"] * 2, "tied": model["tied"] + 1, "untied": model["tied"] + 1, "mask": ~model["mask"]}
    file = opened(pack(model, {"a.weight": choice["a.weight"]}, replaced=new))
    wanted = expected(model | new, {"a.weight": choice["a.weight"]})
    assert read_all(file) == wanted
    assert file.descriptor("untied").tied == "tied"
    assert {name for name in model if not file.exact(name)} == {"a.weight", *new}
    assert not file.manifest.lossless


def test_the_receipt_joins_what_the_writer_says(opened, packed, pack, model, choice):
    receipt = opened(packed).receipt
    assert receipt["budget"] == 1
    assert receipt["mode"] == "lossy"
    assert receipt["tensors"] == {"quantized": 5, "rans": 2, "raw": 4, "tied": 1}
    assert sum(receipt["bytes"].values()) == opened(packed).container.header.entries["regrain.data"].nbytes
    assert opened(pack(model, choice, receipt={"mode": "mine"})).receipt["mode"] == "mine"


def test_descriptors_say_what_shares_a_scale(opened, packed):
    file = opened(packed)
    found = {name: file.descriptor(name) for name in ("a.weight", "bias", "conv", "untied", "kept")}
    assert {name: (str(d.scheme.quantizer), d.scheme.cell) for name, d in found.items()} == {
        "a.weight": ("row", (1, 200)),
        "bias": ("tensor", (1, 64)),
        "conv": ("block", (3, 5)),
        "untied": ("tensor", (300, 200)),
        "kept": ("none", None),
    }
    assert found["conv"].granularity is Granularity.MEDIUM
    assert found["a.weight"].granularity is Granularity.COARSE
    assert found["a.weight"].stages == ("checksum", "rans", "integer planes", "dequantize")


def test_progress_counts_the_originals_bytes(pack, model, choice, source_of):
    calls = []
    pack(model, choice, progress=lambda *call: calls.append(call))
    total = source_of(model).header.data_bytes
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_little_is_spent_on_small_tensors(pack, quantize):
    rng = np.random.default_rng(0)
    tensors = {f"layer.{i}.bias": rng.normal(0, 1, 64).astype(np.float32) for i in range(100)}
    choice = {name: quantize(array, (1, 64), 0.3) for name, array in tensors.items()}
    assert len(pack(tensors, choice)) / 100 < 32 + 24 + 30  # 4-bit indices, the payload's front, index and header


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"choice": {"none": None}}, "names must be those of tensors of 'test', not 'none': leave it out"),
        ({"replaced": {"none": None}}, "names must be those of tensors of 'test', not 'none'"),
        ({"choice": {"w": (3, 2)}}, r"form of 'w' must have its shape \(2, 3\), not \(3, 2\)"),
        ({"choice": {"i": (2, 3)}}, "tensor 'i': dtype must be one of BF16, F16, F32 to be quantized, not 'I64'"),
        ({"replaced": {"w": np.zeros((2, 3))}}, r"replacement of 'w' must be F32 of shape \(2, 3\), not float64"),
        ({"replaced": {"w": np.zeros((3, 2), np.float32)}}, r"replacement of 'w' must be F32 of shape \(2, 3\)"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(pack, arguments, reason):
    tensors = {"w": np.zeros((2, 3), np.float32), "i": np.zeros((2, 3), np.int64)}
    choice = {
        name: None if shape is None else Quantized(np.zeros(shape, np.int8), np.zeros((1, 1), np.int16), shape)
        for name, shape in arguments.get("choice", {}).items()
    }
    with pytest.raises(ValueError, match=reason):
        pack(tensors, choice, replaced=arguments.get("replaced", {}))


def test_weights_beyond_their_type_are_refused(pack):
    how = Quantized(np.full((2, 3), 100, np.int8), np.full((1, 1), 80, np.int16), (2, 3))
    with pytest.raises(ValueError, match="tensor 'w': weights must be finite as F16: take smaller scales"):
        pack({"w": np.zeros((2, 3), np.float16)}, {"w": how})
