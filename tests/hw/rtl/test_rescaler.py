"""Every value at every distance of scales, as the model rounds it."""

import numpy as np
import pytest

from regrain.hw.cosim import Simulation, Source
from regrain.hw.reconstruction.scales import rescale
from regrain.hw.rtl.rescaler import Rescaler


@pytest.fixture(scope="module")
def rescaler():
    return Simulation(Rescaler())


@pytest.mark.parametrize("seed", [None, 1])
def test_it_equals_the_model(rescaler, seed):
    """Values -128 to 127 at distances 0 to 100 and beyond; one row of cells each, whose first is the row's."""
    distances = np.array([*range(100), *(1 << np.arange(7, 11)), 160, 1000, 2031])
    indices = np.tile(np.arange(-128, 128).astype(np.int8), (len(distances), 1))
    codes = np.stack([np.zeros(len(distances)), -distances], axis=1).astype(np.int16)
    weights, rounded = rescale(np.hstack([indices, indices]), codes, (1, 256))
    np.testing.assert_array_equal(weights[:, :256], indices)
    values, deltas = indices.reshape(-1), distances.repeat(256)
    cycles = 4 * values.size
    ready = np.ones(cycles, bool) if seed is None else np.random.default_rng(seed).random(cycles) < 0.5
    rescaler.reset()
    rows, columns = np.random.default_rng(2).integers(0, 1 << 16, (2, values.size))
    sent = {"value": values, "delta": deltas, "row": rows, "column": columns}
    source = Source("value_valid", "value_ready", sent)
    run = rescaler.run({"weight_ready": ready}, cycles, sources=[source])
    got = (run["weight_valid"] & run["weight_ready"]) == 1
    np.testing.assert_array_equal(run["weight"][got], weights[:, 256:].reshape(-1))
    np.testing.assert_array_equal(run["rounded"][got], rounded[:, 256:].reshape(-1))
    np.testing.assert_array_equal(run["weight_row"][got], rows)
    np.testing.assert_array_equal(run["weight_column"][got], columns)
    np.testing.assert_array_equal(run["value_ready"], (run["weight_valid"] == 0) | ready)
    inside = np.cumsum((run["value_valid"] & run["value_ready"]) - got)
    np.testing.assert_array_equal(run["idle"][1:], inside[:-1] == 0)
    if seed is None:
        assert np.flatnonzero(got).tolist() == list(range(3, 3 + values.size))
