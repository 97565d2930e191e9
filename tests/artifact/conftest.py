"""Small models for the tests of the artifact."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.artifact.container import Container
from regrain.artifact.output import OutputBytes
from regrain.artifact.reader import open_container
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.artifact.writer import write_artifact
from regrain.core.dtypes import from_numpy


@pytest.fixture(scope="session")
def source_of():
    """Make a source of arrays, in the order that safetensors writes them."""

    def make(tensors, metadata=None):
        lazy = {
            name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
            for name, array in tensors.items()
        }
        return from_tensors(lazy, metadata, "test")

    return make


@pytest.fixture(scope="session")
def artifact_of(source_of):
    """Make the bytes of an artifact."""

    def make(tensors, metadata=None, threads=1):
        sink = OutputBytes()
        write_artifact(source_of(tensors, metadata), sink, version="0", threads=threads)
        return sink.getvalue()

    return make


@pytest.fixture(scope="session")
def opened():
    """Open a file's bytes."""
    return lambda data: open_container(Container(np.frombuffer(data, np.uint8), "bytes"))


@pytest.fixture(scope="session")
def small_model():
    """One tensor of each kind: coded by rows, coded in one run, tied, raw of several widths, empty, scalar."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(0, 0.02, (70, 128)).astype(np.float16)
    return {
        "head.weight": matrix.copy(),
        "wte.weight": matrix,
        "bias": rng.normal(0, 1, 3000).astype(np.float32),
        "ids": np.arange(500),
        "noise": rng.integers(0, 256, 333).astype(np.uint8),
        "double": rng.normal(0, 1, 7),
        "mask": rng.random(11) < 0.5,
        "scalar": np.array(1.5, np.float16),
        "empty": np.zeros((0, 4), np.float32),
    }
