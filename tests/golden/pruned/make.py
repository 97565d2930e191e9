"""Write the golden artifact of pruned tensors anew and print its digest, to be put into test_golden_pruned.py:
python tests/golden/pruned/make.py.

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
from regrain.codecs.sparse import Sparse
from regrain.core.dtypes import from_numpy

FILE = Path(__file__).parent / "pruned.regrain.safetensors"
UNITS = {
    "f32.column": ((200, 1), 0.8),
    "f32.fine": ((1, 1), 0.5),
    "bf16.block": ((16, 1), 0.85),
    "f16.square": ((4, 4), 0.3),
    "conv": ((8, 9), 0.6),
    "row": ((1, 40), 0.5),
    "bias": ((1, 1), 0.5),
    "scalar": ((1, 1), 1.0),
    "none": ((500, 1), 0.0),
    "int8.fine": ((1, 1), 0.4),
    "int8.block": ((16, 1), 0.85),
    "int16.column": ((31, 1), 0.7),
}
CELLS = {"int8.fine": (1, 32), "int8.block": (1, 300), "int16.column": (3, 7)}


def bell(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Near to normal, by sums of whole numbers: the same bits on every machine, which a logarithm does not promise."""
    return random.randint(-(2**20), 2**20, (4, *shape)).sum(0) / 2**21


def model() -> tuple[dict[str, np.ndarray], dict[str, Sparse]]:
    """Tensors, and how most of them are pruned. RandomState, unlike Generator, never changes."""
    random = np.random.RandomState(11)
    tensors = {
        "f32.column": bell(random, 200, 90).astype(np.float32),
        "f32.fine": bell(random, 70, 300).astype(np.float32),
        "bf16.block": bell(random, 150, 96).astype(ml_dtypes.bfloat16),
        "f16.square": bell(random, 50, 70).astype(np.float16),
        "conv": bell(random, 8, 12, 3, 3).astype(np.float32),
        "row": bell(random, 60, 40).astype(np.float32),
        "bias": bell(random, 64).astype(np.float32),
        "scalar": np.array(0.75, np.float32),
        "none": bell(random, 500, 800).astype(np.float32),
        "int8.fine": bell(random, 300, 250).astype(np.float32),
        "int8.block": bell(random, 40, 300).astype(np.float16),
        "int16.column": bell(random, 31, 40).astype(np.float32),
        "kept": bell(random, 30, 30).astype(np.float32),
        "ids": np.arange(100),
    }
    tensors["tied"] = tensors["f32.column"].copy()
    forms = {name: pruned(random, tensors[name], *UNITS[name], name) for name in UNITS}
    return tensors, forms | {"tied": forms["f32.column"]}


def pruned(
    random: np.random.RandomState, tensor: np.ndarray, unit: tuple[int, int], density: float, name: str
) -> Sparse:
    """Units kept at random; some tensors quantized, with indices beyond a byte in `int8.fine`."""
    rows, columns = matrix_shape(tensor.shape)
    mask = random.randint(0, 1000, grid_shape(rows, columns, unit)) < 1000 * density
    if name not in CELLS:
        return Sparse.of(tensor, mask, unit)
    indices = np.rint(tensor.astype(np.float64) * (500 if name.startswith("int16") else 30)).astype(np.int32)
    if name == "int8.fine":
        indices[[0, 7, 299], [5, 249, 0]] = 200, -129, 30_000
        mask[[0, 7, 299], [5, 249, 0]] = True
    wide = mask.repeat(unit[0], axis=0)[:rows].repeat(unit[1], axis=1)[:, :columns]
    codes = random.randint(-30, -20, grid_shape(rows, columns, CELLS[name])).astype(np.int16)
    return Sparse.quantized(Quantized(indices * wide, codes, CELLS[name]), mask, unit)


def artifact() -> bytes:
    """The bytes of the artifact, as version 0 of regrain would write them."""
    tensors, forms = model()
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in tensors.items()
    }
    sink = OutputBytes()
    source = from_tensors(lazy, {"format": "pt"}, "golden")
    write_packed(source, sink, forms, version="0", receipt={"golden": True})
    return sink.getvalue()


if __name__ == "__main__":
    FILE.write_bytes(artifact())
    print(hashlib.sha256(FILE.read_bytes()).hexdigest())
