"""Write the golden files anew and print their digests, to be put into test_golden.py: python tests/golden/make.py.

Only for a change that is meant to change what the writer writes. Files of released versions stay as they are, for
every later version must read them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np

from regrain.artifact.output import OutputBytes
from regrain.artifact.source import Lazy, array_bytes, from_tensors
from regrain.artifact.writer import write_artifact
from regrain.codecs import CODECS, Coder
from regrain.core.dtypes import DTYPES, from_numpy, numpy_dtype

FOLDER = Path(__file__).parent


def bell(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Near to normal, by sums of whole numbers: the same bits on every machine, which a logarithm does not promise."""
    return random.randint(-(2**20), 2**20, (4, *shape)).sum(0) / 2**21


def models() -> dict[str, tuple[dict[str, np.ndarray], dict[str, str] | None]]:
    """Tensors and metadata of each golden file. RandomState, unlike Generator, is frozen for ever."""
    made: dict[str, tuple[dict[str, np.ndarray], dict[str, str] | None]] = {}
    for name, codec in CODECS.items():
        if codec.coder is Coder.RANS:
            random = np.random.RandomState(len(made))
            values = bell(random, 12, 96) * np.repeat([1 / 64, 1.0, 0.0], 4)[:, None]
            dtype = numpy_dtype(name)
            floats = values.astype(ml_dtypes.bfloat16).astype(dtype) if DTYPES[name].floating else None
            made[name.lower()] = (
                {"w": (values * 30).astype(np.int64).astype(dtype) if floats is None else floats},
                None,
            )
    random = np.random.RandomState(99)
    matrix = bell(random, 70, 64).astype(np.float16)
    made["mixed"] = (
        {
            "wte.weight": matrix,
            "head.weight": matrix.copy(),
            "x.regrain": np.zeros(500, np.float32),
            "mask": random.randint(0, 2, 13).astype(bool),
            "double": bell(random, 5),
            "empty": np.zeros((0, 3), np.int8),
            "ü": np.array(7),
        },
        {"format": "pt", "about": 'a "quoted" ö'},
    )
    return made


def artifact(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None) -> bytes:
    """The bytes of the artifact, as version 0 of regrain would write them."""
    lazy = {
        name: Lazy(from_numpy(array.dtype).name, array.shape, lambda array=array: array_bytes(array))
        for name, array in tensors.items()
    }
    sink = OutputBytes()
    write_artifact(from_tensors(lazy, metadata, "golden"), sink, version="0")
    return sink.getvalue()


def main() -> None:
    """Write all files."""
    for name, (tensors, metadata) in models().items():
        data = artifact(tensors, metadata)
        (FOLDER / f"{name}.regrain.safetensors").write_bytes(data)
        print(f'    "{name}": "{hashlib.sha256(data).hexdigest()}",')


if __name__ == "__main__":
    main()
