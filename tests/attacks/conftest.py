"""Forged artifacts: every checksum renewed, so that only the other rules can refuse them."""

from __future__ import annotations

import json
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import regrain.numpy
from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import Container
from regrain.artifact.header import canonical_json, file_head
from regrain.artifact.reader import open_container
from regrain.artifact.seal import PREFIX, seal

TENSORS = {
    "a": np.linspace(-1, 1, 600, dtype=np.float32).reshape(3, 200),
    "b": np.linspace(-1, 1, 600, dtype=np.float32).reshape(3, 200),
    "c": np.arange(300, dtype=np.int32),
    "r": np.arange(100, dtype=np.uint8),
}


@pytest.fixture(scope="session")
def artifact():
    """A sound artifact: `a` coded, `b` tied to it, `c` coded, `r` raw."""
    return regrain.numpy.save(TENSORS, {"format": "np"})


@pytest.fixture(scope="session")
def load():
    """Read everything there is to read of a file's bytes: every tensor, a row of each, the header and the receipt."""

    def load_all(data):
        file = open_container(Container(np.frombuffer(data, np.uint8), "bytes"))
        for name, entry in file.tensors.items():
            assert entry.nbytes <= len(data)
            assert np.prod([size or 1 for size in entry.shape], dtype=object) < 10**9  # before anyone allocates it
            file.read([(name, np.empty(int(np.prod(entry.shape)) * (1 if entry.dtype == "U8" else 4), np.uint8))], 1)
        return file.original, file.receipt

    return load_all


@pytest.fixture
def forge(artifact):
    """Take an artifact apart, let a test change its parts, and put it together and seal it again.

    The test gets `entries` (name -> JSON), `data` (name -> bytes), `manifest` (JSON), `metadata` (JSON).
    """

    def make(change, sealing=True):
        size = int.from_bytes(artifact[:8], "little")
        entries = json.loads(artifact[8 : 8 + size])
        metadata = entries.pop("__metadata__")
        parts = SimpleNamespace(
            entries=entries,
            metadata=metadata,
            manifest=json.loads(metadata["regrain"]),
            data={
                name: artifact[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]]
                for name, entry in entries.items()
            },
        )
        before = {name: entry["data_offsets"] for name, entry in entries.items()}
        change(parts)
        at = 0
        for name, entry in parts.entries.items():
            moved = [at, at := at + len(parts.data.get(name, b""))]
            if entry.get("data_offsets") == before.get(name):  # the test did not set them
                entry["data_offsets"] = moved
        if "regrain" in parts.metadata:
            manifest = parts.manifest
            parts.metadata["regrain"] = manifest if isinstance(manifest, str) else canonical_json(manifest).decode()
        text = json.dumps({"__metadata__": parts.metadata, **parts.entries}, separators=(",", ":")).encode()
        if sealing and text.startswith(PREFIX):
            text = seal(text)
        return file_head(text) + b"".join(parts.data.get(name, b"") for name in parts.entries)

    return make


@pytest.fixture(scope="session")
def sealed():
    """A zlib payload with its right checksum, for an entry of that name."""

    def seal(name, stream):
        return struct.pack("<I", checksum(seed_of(name), stream)) + stream

    return seal


@pytest.fixture(scope="session")
def deflated(sealed):
    """The payload of a text."""
    return lambda name, text: sealed(name, zlib.compress(text, 9))
