"""The metadata memory does nothing for those who ask nothing, whatever addresses they show."""

from __future__ import annotations

import numpy as np

from regrain.hw.cosim import Simulation
from regrain.hw.rtl.metadata import MetadataMemory

ROWS, READERS, BITS = 100, 3, 7


def test_addresses_are_of_no_meaning_where_nothing_is_asked():
    memory, random = Simulation(MetadataMemory(ROWS, READERS)), np.random.default_rng(3)
    rows = random.integers(0, 1 << 32, (60, 4), dtype=np.uint32)
    memory.run({"write": 1, "write_address": np.arange(60), "write_data": rows})
    reader, where = random.integers(-1, READERS, 3000), random.integers(0, 60, 3000)
    address = random.integers(0, 1 << READERS * BITS, 3000)
    asking = reader >= 0
    shift = np.maximum(reader, 0) * BITS
    address = np.where(asking, address & ~(((1 << BITS) - 1) << shift) | where << shift, address)
    run = memory.run(
        {
            "asked": np.where(asking, 1 << np.maximum(reader, 0), 0),
            "address": address,
            "write_address": random.integers(0, 1 << BITS, 3000),
            "write_data": random.integers(0, 1 << 32, (3000, 4), dtype=np.uint32),
        }
    )
    assert not run["error"].any()
    np.testing.assert_array_equal(run["granted"] > 0, asking)
    np.testing.assert_array_equal(run["data"][1:][asking[:-1]], rows[where[:-1][asking[:-1]]])
    assert (run["loaded"] == 60).all()
