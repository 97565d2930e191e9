"""Forged header and receipt payloads, and coded payloads that a forger moved about."""

import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

import regrain
from regrain.artifact.header import canonical_json
from regrain.core.errors import CorruptArtifactError
from regrain.kernels import crc32c


def replacing(name, data):
    def change(parts):
        parts.data[name] = data
        parts.entries[name]["shape"] = [len(data)]

    return change


def payload_of(artifact, name):
    size = int.from_bytes(artifact[:8], "little")
    start, stop = json.loads(artifact[8 : 8 + size])[name]["data_offsets"]
    return artifact[8 + size + start : 8 + size + stop]


@pytest.mark.parametrize("name", ["regrain.header", "regrain.receipt"])
def test_a_bad_stream(forge, load, sealed, name):
    stream = zlib.compress(b"{}")
    for data, reason in (
        (b"", "checksum must be"),
        (b"abc", "checksum must be"),
        (bytes(4) + stream, "checksum must be 00000000"),
        (sealed("other", stream), "checksum must be"),
        (sealed(name, b""), "payload must be one whole zlib stream"),
        (sealed(name, b"junk"), "payload must be a zlib stream"),
        (sealed(name, stream[:-1]), "payload must be one whole zlib stream"),
        (sealed(name, stream + b"x"), "payload must be one whole zlib stream"),
        (sealed(name, stream[:-1] + bytes([stream[-1] ^ 1])), "payload must be a zlib stream"),
        (sealed(name, zlib.compress(b"{}", wbits=31)), "payload must be a zlib stream"),
    ):
        with pytest.raises(CorruptArtifactError, match=f"tensor '{name}': {reason}"):
            load(forge(replacing(name, data)))


def test_a_zip_bomb_is_not_blown_up(forge, load, sealed):
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(16)) + packer.flush()  # 256 MB in 256 KB
    for name, limit in (("regrain.header", r"\d+"), ("regrain.receipt", "100000000")):
        data = forge(replacing(name, sealed(name, bomb)))
        tracemalloc.start()
        with pytest.raises(
            CorruptArtifactError, match=f"tensor '{name}': payload must inflate to at most {limit} bytes"
        ):
            load(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (250e6 if name == "regrain.receipt" else 10e6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{}", "data must have 0 bytes as the header says"),
        (b"[]", "header must be a JSON object"),
        (b"[" * 5000, "header must be nested less deeply|payload must inflate"),
        (b"\xff", "header must be UTF-8 JSON"),
    ],
)
def test_a_forged_original_header(forge, load, deflated, text, reason):
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forge(replacing("regrain.header", deflated("regrain.header", text))))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"F32"', b'"I32"', r"tensor 'a': dtype and shape must be \('I32', .* not \('F32'"),
        (b"[3,200]", b"[200,3]", r"tensor '[ab]': dtype and shape must be"),
        (b'"c"', b'"d"', "tensor 'c': tensor must be in both the original header and the manifest"),
        (b"}}", b"}, }", "header must be UTF-8 JSON"),
    ],
)
def test_an_original_header_that_disagrees(artifact, forge, load, deflated, old, new, reason):
    text = zlib.decompress(payload_of(artifact, "regrain.header")[4:])
    assert old in text
    with pytest.raises(CorruptArtifactError, match=reason):
        load(forge(replacing("regrain.header", deflated("regrain.header", text.replace(old, new)))))


def test_a_forged_receipt(forge, load, deflated):
    for text, reason in ((b"[]", "receipt must be a JSON object"), (b"[" * 100_000, "receipt must be nested less")):
        with pytest.raises(CorruptArtifactError, match=reason):
            load(forge(replacing("regrain.receipt", deflated("regrain.receipt", text))))


@pytest.mark.parametrize("size", [0, 1, 8, 55, 56, 64])
def test_a_short_payload(forge, load, size):
    def change(parts):
        replacing("c.regrain", parts.data["c.regrain"][:size])(parts)

    with pytest.raises(CorruptArtifactError, match="tensor 'c'"):
        load(forge(change))


@pytest.mark.parametrize("count", [0, 299, 301, 2**20, 2**40, 2**63, 2**64 - 1])
def test_a_count_that_is_not_the_shapes(forge, load, tmp_path, count):
    def change(parts):
        payload = bytearray(parts.data["c.regrain"])
        payload[8:16] = struct.pack("<Q", count)
        parts.data["c.regrain"] = bytes(payload)

    data = forge(change)
    with pytest.raises(CorruptArtifactError, match="tensor 'c'"):
        load(data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=f"tensor 'c': payload must hold 300 words, not {count}"):
        regrain.numpy.safe_open(path).get_slice("c")[5:6]


def test_another_family_is_found_by_verify(forge, tmp_path):
    """An integer payload under a float's name, checksums and all: decodable, and wrong."""

    def change(parts):
        numbers = regrain.numpy.save({"a": np.arange(600, dtype=np.int32).reshape(3, 200)})
        replacing("a.regrain", payload_of(numbers, "a.regrain"))(parts)

    path = tmp_path / "x.safetensors"
    path.write_bytes(forge(change))
    with pytest.raises(
        CorruptArtifactError, match=r"tensor 'a': payload must hold 600 words of FloatPlanes.*, not 600 of Int"
    ):
        regrain.verify(path)


def test_a_wrong_digest_is_found_by_verify_and_restore(forge, tmp_path):
    def change(parts):
        parts.manifest["model"]["sha256"] = "0" * 64

    path = tmp_path / "x.safetensors"
    path.write_bytes(forge(change))
    for call in (regrain.verify, lambda path: regrain.restore(path, tmp_path / "out")):
        with pytest.raises(CorruptArtifactError, match="SHA-256 of the original must be 0000.*, not "):
            call(path)
    assert not (tmp_path / "out").exists()
    regrain.numpy.load_file(path)  # a digest of everything is not for loading


def test_bits_of_a_forged_head_do_no_harm(artifact, forge, load):
    """Every bit of a payload's head flipped and sealed again: refused, or some words, but never anything else."""
    payload = payload_of(artifact, "c.regrain")
    count, block_words = struct.unpack_from("<Q8xI", payload, 8)
    end = 52 + 17 * payload[48] + 12 * -(-count // block_words)
    seed = crc32c(struct.pack("<II", crc32c(b"c"), 0xFFFFFFFF))
    fine = 0
    for bit in range(8 * end):
        forged = bytearray(payload)
        forged[bit // 8] ^= 1 << bit % 8
        forged[end : end + 4] = struct.pack("<I", crc32c(bytes(forged[:end]), seed))
        data = forge(replacing("c.regrain", bytes(forged)))
        try:
            load(data)
        except CorruptArtifactError:
            continue
        fine += 1
    assert fine < 4 * end


def test_the_receipt_is_canonical(artifact, load):
    assert zlib.decompress(payload_of(artifact, "regrain.receipt")[4:]) == canonical_json(load(artifact)[1])
