"""Taking packed artifacts apart and putting them together again, every checksum renewed."""

import json
import zlib

import numpy as np

from regrain.artifact.checksum import checksum, seed_of
from regrain.artifact.container import Container
from regrain.artifact.header import canonical_json, file_head
from regrain.artifact.original import hash_pieces
from regrain.artifact.reader import open_container
from regrain.artifact.seal import seal
from regrain.artifact.source import Lazy, array_bytes
from regrain.core.dtypes import from_numpy


def lazy(array):
    return Lazy(from_numpy(array.dtype).name, array.shape, lambda: array_bytes(array))


def load(data):
    """Read everything there is to read of a file's bytes, ranges included."""
    file = open_container(Container(np.frombuffer(data, np.uint8), "bytes"))
    for name, entry in file.original.entries.items():
        file.read([(name, np.empty(entry.nbytes, np.uint8))], 1)
        file.read_range(name, 0, np.empty(4, np.uint8), 1)
        file.quantized(name, 1)
        file.sparse(name, 1)
        file.descriptor(name)
    hash_pieces(file, 1, lambda _: None)
    return file.receipt


def parts_of(data):
    size = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + size])
    manifest = json.loads(entries.pop("__metadata__")["regrain"])
    bodies = {
        name: data[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]]
        for name, entry in entries.items()
    }
    return manifest, bodies, entries


def whole(manifest, bodies, dtypes=None):
    at, entries = 0, {}
    for name, body in bodies.items():
        entries[name] = {"dtype": "U8", "shape": [len(body)], "data_offsets": [at, at + len(body)]} | (dtypes or {})
        at += len(body)
    text = json.dumps(
        {"__metadata__": {"regrain": canonical_json(manifest).decode()}, **entries}, separators=(",", ":")
    ).encode()
    return file_head(seal(text)) + b"".join(bodies.values())


def deflated(name, text):
    stream = zlib.compress(text, 9)
    return checksum(seed_of(name), stream).to_bytes(4, "little") + stream


def forged(packed, change):
    """What a test makes of the manifest, the index (a list of records) and the bodies; it may return another index."""
    manifest, bodies, _ = parts_of(packed)
    index = json.loads(zlib.decompress(bodies["regrain.index"][4:]))
    before = json.dumps(index)
    changed = change(manifest, index, bodies)
    index = index if changed is None else changed
    if json.dumps(index) != before:
        bodies["regrain.index"] = deflated("regrain.index", canonical_json(index))
    return whole(manifest, bodies)
