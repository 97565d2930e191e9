"""One bit wrong anywhere: the damage is found, or no tensor shows it."""

import ml_dtypes
import numpy as np
import pytest

from regrain.codecs import CODECS, Coder
from regrain.core.dtypes import DTYPES, numpy_dtype
from regrain.core.errors import CorruptArtifactError


def tensors_of(name):
    """A coded tensor of that type as small as pays, or a raw one, and a raw neighbor."""
    rng = np.random.default_rng(3)
    dtype = numpy_dtype(name)
    if CODECS[name].coder is Coder.RAW:
        array = (
            rng.integers(0, 2, 40).astype(bool)
            if name == "BOOL"
            else rng.integers(0, 256, 64).astype(np.uint8).view(dtype)
        )
        return {"w": array}
    count = {1: 1600, 2: 500, 4: 300, 8: 150}[dtype.itemsize]
    values = rng.normal(0, 0.02, count)
    array = (
        values.astype(ml_dtypes.bfloat16).astype(dtype)
        if DTYPES[name].floating
        else (values * 400).astype(np.int64).astype(dtype)
    )
    return {"w": array, "r": np.arange(9, dtype=np.uint8)}


@pytest.mark.parametrize("name", [name for name in DTYPES if DTYPES[name].numpy])
def test_every_single_bit(artifact_of, opened, name):
    tensors = tensors_of(name)
    whole = artifact_of(tensors)
    outs = {key: np.empty(array.nbytes, np.uint8) for key, array in tensors.items()}
    assert ("w.regrain" in opened(whole).container.header.entries) == (CODECS[name].coder is Coder.RANS)
    data = bytearray(whole)
    found = unseen = 0
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        try:
            file = opened(bytes(data))
            file.read([(key, outs[key]) for key in file.tensors], 1)
        except CorruptArtifactError:
            found += 1
        else:
            unseen += 1
            assert all(outs[key].tobytes() == array.tobytes() for key, array in tensors.items()), bit
            with pytest.raises(CorruptArtifactError, match=r"tensor 'regrain.(header|receipt)': checksum must be"):
                file.original, file.receipt  # noqa: B018
        data[bit // 8] ^= 1 << bit % 8
    assert found > unseen
