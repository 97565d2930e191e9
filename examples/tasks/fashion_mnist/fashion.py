"""Fashion-MNIST as Debian packages it: 70,000 gray images of clothes in 10 classes.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (2017).
"""

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28  # pixels

# Which file a split is from, its first image there and the one after its last. The network was trained on "train".
SPLITS = {
    "train": (("train", 0, 55_000),),
    "calibration": (("train", 55_000, 56_000),),
    "search": (("train", 56_000, 58_000),),
    "held_out": (("train", 58_000, 60_000), ("t10k", 0, 5_000)),
    "audit": (("t10k", 5_000, 10_000),),
}


@cache
def read(split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28), float32 from 0 to 1, and labels (n,), int64 from 0 to 9."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    ranges = SPLITS[split]
    images = np.concatenate(
        [_idx(f"{part}-images-idx3-ubyte.gz", 3).reshape(-1, 1, SIDE, SIDE)[start:stop] for part, start, stop in ranges]
    )
    labels = np.concatenate([_idx(f"{part}-labels-idx1-ubyte.gz", 1)[start:stop] for part, start, stop in ranges])
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(labels.astype(np.int64))


def _idx(name: str, axes: int) -> np.ndarray:
    """A file in the IDX format without its header: 4 bytes of magic number, 4 bytes for each axis' length."""
    path = FOLDER / name
    if not path.exists():
        raise FileNotFoundError(f"{path} must be there and is not; on Debian: apt-get install dataset-fashion-mnist")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=4 + 4 * axes)
