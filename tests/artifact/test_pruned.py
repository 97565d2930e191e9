"""Pruned tensors in packed artifacts: they come back whole and in ranges, and are the same bytes every time."""

import hashlib

import ml_dtypes
import numpy as np
import pytest

from regrain.artifact.header import file_head
from regrain.artifact.original import PIECE, hash_pieces
from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.codecs.quantized import Quantized, grid_shape, matrix_shape
from regrain.codecs.sparse import Sparse
from regrain.core.dtypes import from_numpy
from regrain.core.granularity import Granularity


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    matrix = rng.normal(0, 0.02, (300, 200)).astype(np.float32)
    return {
        "column": matrix,
        "tied": matrix.copy(),
        "untied": matrix.copy(),
        "block": rng.normal(0, 1, (330, 90)).astype(ml_dtypes.bfloat16),
        "fine": rng.normal(0, 1, (64, 50)).astype(np.float16),
        "conv": rng.normal(0, 0.1, (16, 12, 3, 3)).astype(np.float32),
        "row": rng.normal(0, 0.1, (200, 64)).astype(np.float32),
        "bias": rng.normal(0, 1, 64).astype(np.float32),
        "scalar": np.array(0.7, np.float32),
        "all": rng.normal(0, 1, (40, 40)).astype(np.float32),
        "none": rng.normal(0, 1, (900, 400)).astype(np.float32),
        "grid": rng.normal(0, 1, (400, 300)).astype(np.float32),
        "kept": rng.normal(0, 1, (50, 40)).astype(np.float32),
        "quantized": rng.normal(0, 1, (50, 40)).astype(np.float32),
        "ids": np.arange(30),
    }


@pytest.fixture(scope="module")
def forms(model, quantize):
    """How each of them is pruned; `grid` is quantized as well, with indices beyond a byte."""
    rng = np.random.default_rng(2)

    def units(down, across, density):
        return rng.random((down, across)) < density

    mask = units(25, 300, 0.8)
    grid = quantize(model["grid"], (1, 60), 0.05)
    indices = grid.indices.copy()
    indices[[0, 399], [5, 299]] = 300, -4000
    indices *= mask.repeat(16, axis=0)
    made = {
        "column": Sparse.of(model["column"], units(1, 200, 0.8), (300, 1)),
        "untied": Sparse.of(model["untied"], units(1, 200, 0.8), (300, 1)),
        "block": Sparse.of(model["block"], units(21, 90, 0.85), (16, 1)),
        "fine": Sparse.of(model["fine"], units(64, 50, 0.5), (1, 1)),
        "conv": Sparse.of(model["conv"], units(1, 12, 0.7), (16, 9)),
        "row": Sparse.of(model["row"], units(200, 1, 0.6), (1, 64)),
        "bias": Sparse.of(model["bias"], units(1, 64, 0.5), (1, 1)),
        "scalar": Sparse.of(model["scalar"], units(1, 1, 0), (1, 1)),
        "all": Sparse.of(model["all"], units(10, 10, 2), (4, 4)),
        "none": Sparse.of(model["none"], units(900, 400, 0), (1, 1)),
        "grid": Sparse.quantized(Quantized(indices, grid.codes, grid.cell), mask, (16, 1)),
        "quantized": quantize(model["quantized"], (1, 40), 0.1),
    }
    return made | {"tied": made["column"]}


@pytest.fixture(scope="module")
def pack(source_of):
    def make(tensors, forms, *, threads=1, **more):
        sink = OutputBytes()
        write_packed(source_of(tensors), sink, forms, version="0", receipt={}, threads=threads, **more)
        return sink.getvalue()

    return make


@pytest.fixture(scope="module")
def packed(pack, model, forms):
    return pack(model, forms)


@pytest.fixture(scope="module")
def expected(model, forms):
    """The bytes of each tensor."""
    found = {}
    for name, array in model.items():
        how, dtype = forms.get(name), from_numpy(array.dtype).name
        data = array if how is None else how.dense(dtype) if isinstance(how, Sparse) else how.dequantized(dtype)
        found[name] = data.tobytes()
    return found


def test_dynamic_sparsity_enable(opened, pack, model, forms):
    """The flag is kept for every kind of tensor, tied ones too, and only for those that are named."""
    chosen = {"conv", "grid", "quantized", "tied", "bias"}
    file = opened(pack(model, forms, dynamic=chosen))
    assert {name for name in model if file.descriptor(name).dynamic} == chosen
    with pytest.raises(ValueError, match="names must be those of tensors of .*, not 'nobody': leave it out"):
        pack(model, forms, dynamic={"nobody"})


@pytest.mark.parametrize("threads", [1, 3])
def test_everything_comes_back(opened, model, forms, packed, expected, threads):
    file = opened(packed)
    outs = {name: np.empty(array.nbytes, np.uint8) for name, array in model.items()}
    file.read(list(outs.items()), threads)
    assert {name: out.tobytes() for name, out in outs.items()} == expected
    for name in model:
        found, pruned = file.sparse(name, threads), isinstance(forms.get(name), Sparse)
        assert (found is None) != pruned
        assert found is None or found.digest() == forms[name].digest()
        assert (file.quantized(name, threads) is None) == (name != "quantized")
        assert file.exact(name) == (name not in forms)
        assert (file.steps(name, 0, 1) is None) == (name != "quantized")


def test_ranges_come_back(opened, model, packed, expected):
    file = opened(packed)
    for name, array in model.items():
        n, size = array.size, array.itemsize
        for first, last in ((0, n), (n // 3, n // 2), (n, n), (0, 1), (n - 1, n), (n // 5, n // 5 + 1)):
            out = np.empty((last - first) * size, np.uint8)
            file.read_range(name, first, out, 1)
            assert out.tobytes() == expected[name][first * size : last * size], (name, first, last)


def test_the_bytes_are_the_same_for_every_number_of_threads(pack, model, forms, packed):
    for threads in (2, 3):
        assert pack(model, forms.get, threads=threads) == packed


def test_digests_are_those_of_the_original_and_of_what_is_restored(opened, source_of, model, packed, expected):
    file, source = opened(packed), source_of(model)
    restored = file_head(source.header.text) + b"".join(expected[name] for name in source.header.entries)
    assert file.manifest.restored_sha256 == hashlib.sha256(restored).hexdigest() and not file.manifest.lossless
    pieces = []
    hash_pieces(file, 1, lambda piece: pieces.append(piece.data.tobytes()))
    assert b"".join(pieces) == restored


@pytest.mark.parametrize(("shape", "unit"), [((3001, 1499), (16, 1)), ((4_500_000,), (1, 1)), ((60, 75_000), (60, 1))])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_tensor_is_restored_in_pieces(opened, pack, shape, unit, threads):
    """More values than are decoded at once, in many rows and in few."""
    rng = np.random.default_rng(3)
    array = rng.random(shape, np.float32)
    rows, columns = matrix_shape(shape)
    sparse = Sparse.of(array, rng.random(grid_shape(rows, columns, unit)) < 0.3, unit)
    file, wanted = opened(pack({"w": array}, {"w": sparse})), sparse.dense("F32").tobytes()
    pieces = []
    hash_pieces(file, threads, lambda piece: pieces.append(piece.data.tobytes()))
    assert len(pieces) == 4 and max(map(len, pieces)) == PIECE
    assert b"".join(pieces[1:]) == wanted
    out = np.empty(array.nbytes, np.uint8)
    file.read([("w", out)], threads)
    assert out.tobytes() == wanted


def test_descriptors_say_pattern_and_density(opened, packed, model, forms):
    file = opened(packed)
    found = {name: file.descriptor(name) for name in model}
    patterns = {name: d.scheme.pattern for name, d in found.items() if d.density is not None}
    assert patterns == {
        "column": "column", "tied": "column", "untied": "column", "block": "block:16x1", "fine": "fine",
        "conv": "column", "row": "row", "bias": "fine", "scalar": "fine", "all": "block:4x4", "none": "fine",
        "grid": "block:16x1",
    }  # fmt: skip
    for name in patterns:
        assert found[name].density == forms[name].density == found[name].to_json()["density"]
    grains = {name: str(d.granularity) for name, d in found.items() if name in ("column", "block", "fine", "row")}
    assert grains == {"column": "coarse", "block": "medium", "fine": "fine", "row": "coarse"}
    assert (found["grid"].scheme.cell, str(found["grid"].scheme)) == ((1, 60), "block:16x1, group, rans")
    assert found["grid"].stages == ("checksum", "rans", "integer planes", "expand", "dequantize")
    assert found["fine"].stages == ("checksum", "rans", "float planes", "expand")
    assert found["kept"].to_json()["density"] is None and found["kept"].scheme.pattern == "dense"
    assert found["tied"].tied == "column" and found["untied"].tied is None
    assert found["column"].granularity is Granularity.COARSE


def test_only_pruned_tensors_ask_for_a_newer_reader(opened, packed, pack, model):
    assert b'"format\\":3' in packed and b'"reader\\":3' in packed and opened(packed).manifest.pruned
    plain = pack(model, {})
    assert b'"format\\":2' in plain and b'"reader\\":2' in plain and not opened(plain).manifest.pruned


def test_the_receipt_counts_them(opened, packed, pack, model):
    receipt = opened(packed).receipt
    assert receipt["tensors"] == {"pruned": 11, "quantized": 1, "rans": 1, "raw": 1, "tied": 1}
    assert sum(receipt["bytes"].values()) == opened(packed).container.header.entries["regrain.data"].nbytes
    assert "pruned" not in opened(pack(model, {})).receipt["tensors"]


def test_what_does_not_fit_the_model_is_refused(pack, model):
    tensors = {"w": np.zeros((2, 3), np.float32), "i": np.zeros((2, 3), np.int64)}
    mask = np.ones((1, 3), bool)
    words = Sparse(mask, (2, 1), (2, 3), np.zeros(6, np.uint32))
    for choice, reason in (
        (
            {"w": Sparse(mask.T, (1, 2), (3, 2), words.values)},
            r"form of 'w' must have its shape \(2, 3\), not \(3, 2\)",
        ),
        ({"w": Sparse(mask, (2, 1), (2, 3), np.zeros(6, np.uint16))}, "tensor 'w': dtype must have words of 2 bytes"),
        ({"i": words}, "tensor 'i': dtype must be one of BF16, F16, F32 to be pruned, not 'I64'"),
    ):
        with pytest.raises(ValueError, match=reason):
            pack(tensors, choice)
