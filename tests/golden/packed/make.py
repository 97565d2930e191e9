"""Write the golden packed artifact anew and print its digest, to be put into test_golden_packed.py:
python tests/golden/packed/make.py.

Only for a change that is meant to change what the writer writes. Files of released versions stay as they are, for
every later version must read them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np

from regrain.artifact.output import OutputBytes
from regrain.artifact.packed import write_packed
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.codecs.quantized import Quantized, grid_shape, matrix_shape
from regrain.core.dtypes import from_numpy

FILE = Path(__file__).parent / "packed.regrain.safetensors"
CELLS = {
    "bf16.rows": (1, 96),
    "f16.blocks": (16, 16),
    "f32.tensor": (40, 300),
    "f32.groups": (1, 32),
    "f32.wide": (3, 7),
    "conv": (1, 36),
    "bias": (1, 64),
    "scalar": (1, 1),
    "tied": (40, 300),
}


def bell(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Near to normal, by sums of whole numbers: the same bits on every machine, which a logarithm does not promise."""
    return random.randint(-(2**20), 2**20, (4, *shape)).sum(0) / 2**21


def model() -> tuple[dict[str, np.ndarray], dict[str, Quantized], dict[str, np.ndarray]]:
    """Tensors, how some of them are quantized, and others' new values. RandomState, unlike Generator, never changes."""
    random = np.random.RandomState(7)
    tensors = {
        "bf16.rows": bell(random, 80, 96).astype(ml_dtypes.bfloat16),
        "f16.blocks": bell(random, 50, 70).astype(np.float16),
        "f32.tensor": bell(random, 40, 300).astype(np.float32),
        "f32.groups": bell(random, 300, 250).astype(np.float32),
        "f32.wide": bell(random, 31, 40).astype(np.float32),
        "conv": bell(random, 8, 4, 3, 3).astype(np.float32),
        "bias": bell(random, 64).astype(np.float32),
        "scalar": np.array(0.75, np.float32),
        "kept": bell(random, 30, 30).astype(np.float32),
        "new": bell(random, 40).astype(np.float32),
        "ids": np.arange(100),
        "empty": np.zeros((0, 3), np.float32),
    }
    tensors["tied"] = tensors["f32.tensor"].copy()
    choice = {name: quantized(random, tensors[name], cell, name) for name, cell in CELLS.items()}
    choice["tied"] = choice["f32.tensor"]
    return tensors, choice, {"new": tensors["new"] + np.float32(0.5)}


def quantized(random: np.random.RandomState, tensor: np.ndarray, cell: tuple[int, int], name: str) -> Quantized:
    """Indices near to the tensor; some beyond a byte in `f32.groups`, many in `f32.wide`."""
    steps = {"f32.wide": 500, "f32.groups": 30}.get(name, 6)
    indices = np.rint(tensor.astype(np.float64) * steps).astype(np.int32)
    if name == "f32.groups":
        indices[[0, 7, 299], [5, 249, 0]] = 200, -129, 30_000
    codes = random.randint(-30, -20, grid_shape(*matrix_shape(tensor.shape), cell)).astype(np.int16)
    return Quantized(indices, codes, cell)


def artifact() -> bytes:
    """The bytes of the artifact, as version 0 of regrain would write them."""
    tensors, choice, replaced = model()
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in tensors.items()
    }
    sink = OutputBytes()
    source = from_tensors(lazy, {"format": "pt"}, "golden")
    write_packed(source, sink, choice, version="0", receipt={"golden": True}, replaced=replaced)
    return sink.getvalue()


if __name__ == "__main__":
    FILE.write_bytes(artifact())
    print(hashlib.sha256(FILE.read_bytes()).hexdigest())
