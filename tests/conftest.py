"""What every test shares: where the repository is, and reproducible random examples."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from regrain.codecs.grid import codes_of, scales_of
from regrain.codecs.quantized import Quantized, grid_shape, matrix_shape

# The same examples in every run: a failure seen once is seen again. Timing limits would make slow machines fail.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

# Programs that tests start and interrupt must hear it, also where a shell made the tests deaf to it, as `&` does.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def quantize():
    """Round an array to steps of one size, or of the sizes of a grid, for each cell."""

    def rounded(array, cell, step):
        rows, columns = matrix_shape(array.shape)
        codes = codes_of(np.broadcast_to(step, grid_shape(rows, columns, cell)))
        at = np.indices((rows, columns))
        scales = scales_of(codes)[at[0] // cell[0], at[1] // cell[1]].reshape(array.shape)
        return Quantized(np.rint(array.astype(np.float64) / scales).astype(np.int32), codes, cell)

    return rounded
