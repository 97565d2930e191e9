"""What tests of components share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def signed_fields():
    """Signed numbers of equal width, one after the other in the bits of a port: (cycles, count)."""

    def split(values, count, width):
        rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        bits = np.unpackbits(rows, axis=1, bitorder="little", count=count * width)
        numbers = bits.reshape(len(values), count, width).astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
        return numbers - (numbers >> width - 1 << width)

    return split
