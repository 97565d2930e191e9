"""The queue against a deque, cycle by cycle."""

from __future__ import annotations

import gc
import warnings
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.hw.cosim.simulation import Simulation
from regrain.hw.rtl.fifo import Fifo


@pytest.fixture(scope="module", params=[2, 5])
def fifo(request):
    return request.param, Simulation(Fifo(12, request.param))


@given(seed=st.integers(0, 2**32), rates=st.tuples(*[st.sampled_from([0.2, 0.7, 1.0])] * 2))
def test_order_and_level(fifo, seed, rates):
    depth, simulation = fifo
    simulation.reset()
    random = np.random.default_rng(seed)
    cycles = 300
    valid, ready = (random.random(cycles) < rate for rate in rates)
    items = random.integers(0, 1 << 12, cycles)
    run = simulation.run({"input__valid": valid, "input__payload": items, "output__ready": ready})
    inside = deque()
    for cycle in range(cycles):
        assert run["level"][cycle] == len(inside)
        assert run["input__ready"][cycle] == (len(inside) < depth)
        assert run["output__valid"][cycle] == bool(inside)
        room = len(inside) < depth
        if inside:
            assert run["output__payload"][cycle] == inside[0]
            if ready[cycle]:
                inside.popleft()
        if valid[cycle] and room:
            inside.append(items[cycle])


def test_one_item_is_no_queue():
    with warnings.catch_warnings(action="ignore"):  # Amaranth misses what was not built
        with pytest.raises(ValueError, match="depth must be 2 or more"):
            Fifo(8, 1)
        gc.collect()
