"""Raw bits come out of their planes as the reference packs them."""

import numpy as np
import pytest

from regrain.hw.cosim import Memory, Simulation
from regrain.hw.rtl.plane_reader import PlaneReader
from regrain.kernels.reference_planes import pack


@pytest.fixture(scope="module")
def reader():
    return Simulation(PlaneReader())


def run(reader, width, steps, *, address=5, seed=None):
    rng = np.random.default_rng(width + steps)
    raw = rng.integers(0, 1 << width, 64 * steps).astype(np.uint64)
    planes = pack(raw, width)
    if width >= 8:
        planes = np.delete(planes, np.s_[64 * steps - 64 : 64 * steps])
    memory = np.concatenate([np.full(address, 0xAA, np.uint8), planes, np.zeros(1, np.uint8)])
    cycles = 80 * steps * (1 + (width > 8)) + 100
    ready = 1 if seed is None else np.random.default_rng(seed).random(2 * cycles) < 0.6
    cycles = cycles if seed is None else 2 * cycles
    start = np.arange(cycles) == 0
    given = {"start": start, "address": address, "steps": steps, "raw_bits": width, "raw_ready": ready}
    done = reader.run(given, cycles, memories=[Memory("memory_address", "memory_data", memory, "memory_read")])
    at = np.flatnonzero(done["raw_valid"] & done["raw_ready"])
    got = done["raw"][at]
    if width >= 8:
        got[-64:] = got[-64:] & ~255 | raw[-64:].astype(np.int64) & 255
    np.testing.assert_array_equal(got, raw)
    assert done["idle"][-1]
    assert done["memory_read"].sum() == planes.size
    return at


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("width", range(17))
def test_every_width(reader, width, seed):
    for steps in (1, 2, 5):
        run(reader, width, steps, seed=seed)


@pytest.mark.parametrize(("width", "cycles"), [(0, 64), (3, 64), (7, 64), (8, 68), (16, 132)])
def test_numbers_come_as_fast_as_stated(reader, width, cycles):
    at = run(reader, width, 40)
    assert at[-2 * 64] - at[2 * 64] <= cycles * 36
