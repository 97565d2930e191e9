"""Raw bits come out of their planes as the reference packs them."""

import numpy as np
import pytest

from regrain.hw.cosim import Memory, Simulation
from regrain.hw.rtl.plane_reader import PlaneReader
from regrain.kernels.reference_planes import pack


@pytest.fixture(scope="module")
def reader():
    return Simulation(PlaneReader())


def run(reader, width, steps, *, address=5, taken="always"):
    """All numbers of a block, `taken` always, at random, or in bursts that end where half of the buffer does."""
    rng = np.random.default_rng(width + steps)
    raw = rng.integers(0, 1 << width, 64 * steps).astype(np.uint64)
    planes = pack(raw, width)
    if width >= 8:
        planes = np.delete(planes, np.s_[64 * steps - 64 : 64 * steps])
    memory = np.concatenate([np.full(address, 0xAA, np.uint8), planes, np.zeros(1, np.uint8)])
    cycles = 80 * steps * (1 + (width > 8)) + 100
    ready = {
        "always": np.ones(cycles, np.bool_),
        "at random": rng.random(2 * cycles) < 0.6,
        "in bursts": np.concatenate([[0] * 400, [1] * 63, *([[0] * 300, [1] * 64] * (steps + 1))]),
    }[taken]
    cycles = len(ready)
    start = np.arange(cycles) == 0
    given = {"start": start, "address": address, "steps": steps, "raw_bits": width, "raw_ready": ready}
    done = reader.run(given, cycles, memories=[Memory("memory_address", "memory_data", memory, "memory_read")])
    at = np.flatnonzero(done["raw_valid"] & done["raw_ready"])
    got = done["raw"][at]
    if width >= 8:
        got[-64:] = got[-64:] & ~255 | raw[-64:].astype(np.int64) & 255
    np.testing.assert_array_equal(got, raw)
    assert np.flatnonzero(done["idle"]).tolist() == [0, *range(at[-1] + 1, cycles)]
    assert done["memory_read"].sum() == planes.size
    return at


@pytest.mark.parametrize("taken", ["always", "at random", "in bursts"])
@pytest.mark.parametrize("width", range(17))
def test_every_width(reader, width, taken):
    for steps in (1, 2, 37):
        run(reader, width, steps, taken=taken)


@pytest.mark.parametrize(("width", "cycles"), [(0, 64), (3, 64), (7, 64), (8, 68), (16, 132)])
def test_numbers_come_as_fast_as_stated(reader, width, cycles):
    at = run(reader, width, 40)
    assert at[-2 * 64] - at[2 * 64] <= cycles * 36


def order(width, steps):
    """The places that are read, step by step and plane by plane, from the first plane's on."""
    sizes = [64] * (2 if width == 16 else width >= 8) + [8 * bits for bits in (4, 2, 1) if width < 16 and width & bits]
    begins = np.cumsum([0, *(size * steps - 64 * (i == 0 and width >= 8) for i, size in enumerate(sizes))])
    for step in range(steps):
        for i, (begin, size) in enumerate(zip(begins[:-1], sizes, strict=True)):
            if step < steps - 1 or width < 8 or i:
                yield begin + step * size + np.arange(size)


@pytest.mark.parametrize(
    ("address", "steps"),
    [(0, 1024), ((1 << 24) - (1 << 17), 1024), ((1 << 23) - 1, 1022), (0xABCDEF, 335), (0x543210, 100)],
)
@pytest.mark.parametrize("width", [1, 6, 7, 15, 16])
def test_large_blocks_anywhere_in_the_memory(reader, width, address, steps):
    """Every address, in its order."""
    reader.reset()
    cycles = steps * max(66, 4 + 8 * width) + 200
    given = {"start": np.arange(cycles) == 0, "address": address, "steps": steps, "raw_bits": width, "raw_ready": 1}
    done = reader.run(given, cycles)
    read = done["memory_address"][done["memory_read"] == 1]
    np.testing.assert_array_equal(read, address + np.concatenate(list(order(width, steps))))
    assert done["raw_valid"].sum() == 64 * steps
    assert np.flatnonzero(done["idle"])[1] == np.flatnonzero(done["raw_valid"])[-1] + 1
