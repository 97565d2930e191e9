"""What the writer promises: the same bytes always, everything aligned, ties found, names kept apart."""

import json
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from regrain.artifact import writer
from regrain.artifact.header import MAX_HEADER, Entry, canonical_json
from regrain.artifact.manifest import Coded, Kept, Tied, record_json
from regrain.artifact.output import OutputBytes
from regrain.artifact.ties import Ties
from regrain.core.dtypes import DTYPES
from regrain.core.errors import UnsupportedModelError
from regrain.core.granularity import Granularity


def test_the_same_model_gives_the_same_bytes(artifact_of, small_model):
    first = artifact_of(small_model, {"a": "b"})
    assert artifact_of(small_model, {"a": "b"}, threads=2) == first
    assert artifact_of(dict(reversed(small_model.items())), {"a": "b"}) == first
    assert artifact_of(small_model, {"a": "c"}) != first


def test_integers_of_a_wide_range_are_kept(artifact_of, opened):
    rng = np.random.default_rng(0)
    tensors = {
        "i64": rng.integers(-(2**63), 2**63 - 1, (40, 50), endpoint=True),
        "u64": rng.integers(0, 2**64 - 1, 2000, dtype=np.uint64, endpoint=True),
        "i32": rng.integers(-(2**31), 2**31 - 1, 2000, dtype=np.int32, endpoint=True),
        "few": np.resize(np.array([0, 2**40]), 2000),
    }
    artifact = opened(artifact_of(tensors, threads=2))
    assert all(isinstance(record, Kept) for record in artifact.manifest.tensors.values())
    for name, array in tensors.items():
        out = np.empty(array.nbytes, np.uint8)
        artifact.read([(name, out)], 2)
        assert out.tobytes() == array.tobytes()


def test_safetensors_opens_an_artifact_and_finds_no_coded_weights(artifact_of, small_model):
    found = safetensors.numpy.load(artifact_of(small_model))
    assert found.keys() == {
        *("bias.regrain", "ids.regrain", "head.weight.regrain"),
        *("double", "empty", "mask", "noise", "scalar", "regrain.header", "regrain.receipt"),
    }
    assert found["bias.regrain"].dtype == np.uint8
    np.testing.assert_array_equal(found["double"], small_model["double"])


def test_everything_is_aligned(artifact_of, small_model, opened):
    header = opened(artifact_of(small_model)).container.header
    assert header.data_start % 8 == 0
    for name, entry in header.entries.items():
        if name.endswith(".regrain"):
            assert entry.start % 8 == 0
            assert entry.nbytes % 8 == 0
        else:
            assert entry.start % DTYPES[entry.dtype].itemsize == 0
    assert list(header.entries)[-2:] == ["regrain.header", "regrain.receipt"]


def test_little_of_the_header_is_blank(artifact_of, small_model, opened):
    text = opened(artifact_of(small_model)).container.header.text
    assert 0 <= len(text) - len(text.rstrip()) < 50 * len(small_model) + 50


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(lambda name: name != "__metadata__")


@given(
    st.dictionaries(names, st.sampled_from(("zeros", "noise", "tied", "empty")), max_size=8),
    st.none() | st.dictionaries(names, names, max_size=3),
)
def test_any_names_come_back(artifact_of, opened, kinds, metadata):
    rng = np.random.default_rng(0)
    tied = rng.integers(0, 256, 100).astype(np.uint8)
    make = {
        "zeros": lambda: np.zeros((30, 10), np.float32),
        "noise": lambda: rng.integers(0, 256, 10).astype(np.uint8),
        "tied": lambda: tied,
        "empty": lambda: np.zeros((3, 0), np.int8),
    }
    tensors = {name: make[kind]() for name, kind in kinds.items()}
    artifact = opened(artifact_of(tensors, metadata))
    assert artifact.tensors.keys() == tensors.keys()
    assert artifact.original.metadata == metadata
    for name, array in tensors.items():
        out = np.empty(array.nbytes, np.uint8)
        artifact.read([(name, out)], 1)
        assert out.tobytes() == array.tobytes()


def test_names_that_the_format_reserves_are_kept_apart(artifact_of, opened):
    ones = np.ones(1000, np.float32)
    given = {
        name: ones * at
        for at, name in enumerate(
            ("x", "x.regrain", "y.regrain_", "regrain.header", "regrain.header_", "regrain.receipt")
        )
    }
    artifact = opened(artifact_of(given))
    manifest = artifact.manifest
    assert (manifest.suffix, manifest.header, manifest.receipt) == (
        ".regrain__",
        "regrain.header__",
        "regrain.receipt_",
    )
    for name, array in given.items():
        out = np.empty(array.nbytes, np.uint8)
        artifact.read([(name, out)], 1)
        assert out.tobytes() == array.tobytes()
    with pytest.raises(UnsupportedModelError, match="tensor must not be named '__metadata__'"):
        artifact_of({"__metadata__": ones})


def test_equal_tensors_are_stored_once(artifact_of, opened):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(8, 100)).astype(np.float32)
    almost = a.copy()
    almost[4, 30] += 1  # outside of what is sampled
    tensors = {"a": a, "b": a.copy(), "c": a.reshape(100, 8), "d": almost, "e": almost.copy(), "f": a.view(np.int32)}
    tensors |= {"small": np.arange(63, dtype=np.uint8), "small2": np.arange(63, dtype=np.uint8)}
    records = opened(artifact_of(tensors)).manifest.tensors
    assert {name: record.to for name, record in records.items() if isinstance(record, Tied)} == {"b": "a", "e": "d"}


def test_bits_decide_what_is_equal(artifact_of, opened):
    nan = np.full(40, np.nan, np.float32)
    other = nan.view(np.uint32).copy()
    other[3] ^= 1
    tensors = {"nan": nan, "payload": other.view(np.float32), "zero": np.zeros(40), "minus": -np.zeros(40)}
    assert not any(isinstance(record, Tied) for record in opened(artifact_of(tensors)).manifest.tensors.values())


def test_a_collision_of_checksums_is_no_tie(monkeypatch):
    monkeypatch.setattr("regrain.artifact.ties.crc32c", lambda data: 0)
    tensors = {name: np.zeros(1000, np.uint8) for name in "ab"}
    tensors["b"][300] = 1
    ties = Ties(lambda name: tensors[name])
    entry = Entry("U8", (1000,), 0, 1000)
    assert ties.find("a", entry, tensors["a"]) is None
    assert ties.find("b", entry, tensors["b"]) is None
    assert ties.find("c", entry, tensors["b"].copy()) == "b"


def test_a_record_is_short():
    name, shape = "model.layers.12.self_attn.q_proj.weight", (4096, 4096)
    for record in (Coded("F8_E4M3", shape, Granularity.MEDIUM, True), Kept(2**32 - 1), Tied(name)):
        assert len(canonical_json(record_json(record))) <= 200
    assert 5000 * 700 < MAX_HEADER


def test_progress_ends_at_the_whole(source_of, small_model):
    calls = []
    source = source_of(small_model)
    writer.write_artifact(source, OutputBytes(), version="0", progress=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (source.header.data_bytes, source.header.data_bytes)


def test_the_receipt_says_what_was_done(artifact_of, opened, small_model):
    artifact = opened(artifact_of(small_model))
    receipt = artifact.receipt
    assert receipt["mode"] == "lossless"
    assert receipt["regrain"] == "0"
    assert receipt["tensors"] == {"rans": 3, "raw": 5, "tied": 1}
    stored = artifact.container.header.entries
    assert receipt["bytes"]["rans"] == sum(stored[f"{name}.regrain"].nbytes for name in ("bias", "head.weight", "ids"))
    payload = artifact.container.bytes_of("regrain.receipt").tobytes()
    assert zlib.decompress(payload[4:]) == canonical_json(receipt)
    assert json.loads(zlib.decompress(payload[4:])) == receipt


@pytest.mark.parametrize("count", [4, 200])
def test_memory_is_that_of_one_tensor(tmp_path, count):
    """Peak anonymous memory over the baseline: at most the largest tensor + 64 MB (192 MB in 4 or 200 tensors)."""
    script = textwrap.dedent("""
        import sys, threading
        import ml_dtypes, numpy as np, safetensors.numpy
        import regrain
        path, count = sys.argv[1] + "/model.safetensors", int(sys.argv[2])
        w = np.random.default_rng(0).integers(0, 2**16, (count, 24000 // count, 4000), dtype=np.uint16) & 0xBFFF
        safetensors.numpy.save_file({str(i): w[i].view(ml_dtypes.bfloat16) for i in range(count)}, path)
        del w
        def anonymous():
            status = open("/proc/self/status").read()
            return int(status.partition("RssAnon:")[2].split()[0]) * 1024
        regrain.compress, regrain.restore  # imported
        before, peak, stop = anonymous(), 0, threading.Event()
        def watch():
            global peak
            while not stop.wait(0.002):
                peak = max(peak, anonymous())
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        regrain.compress(path, threads=2)
        compressed = peak - before
        peak = 0
        regrain.restore(sys.argv[1] + "/model.regrain.safetensors", sys.argv[1] + "/again.safetensors", threads=2)
        stop.set(); thread.join()
        print(compressed, peak - before)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(count)], capture_output=True, text=True, check=True
    )
    compressing, restoring = map(int, done.stdout.split())
    assert compressing <= 192e6 / count + 64e6
    assert restoring <= 64e6
