"""The profiling accelerator equals its golden model, bit by bit and bin by bin."""

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.model.histogram import Profiled
from regrain.hw.rtl.profiler import SUMMARY_CYCLES, Profiler


@pytest.fixture(scope="module", params=[1, 16])
def profiler(request):
    return request.param, Simulation(Profiler(request.param))


def profile(profiler, values, present):
    """Offer (cycles, lanes) values, `finish` beside the last; everything that came out."""
    lanes, simulation = profiler
    cycles = len(values) + SUMMARY_CYCLES + 1
    words, which, finish = np.zeros((cycles, lanes), np.uint8), np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    words[: len(values)] = values.view(np.uint8)
    which[: len(values)] = (present << np.arange(lanes)).sum(axis=1)
    finish[len(values) - 1] = 1
    run = simulation.run({"values": words if lanes > 1 else words[:, 0], "present": which, "finish": finish})
    assert np.flatnonzero(run["done"]).tolist() == [len(values) + SUMMARY_CYCLES]
    assert run["ready"].tolist() == [1] * len(values) + [0] * (SUMMARY_CYCLES + 1)
    assert not run["error"].any()
    return run


def check(run, wanted):
    valid = run["bin_valid"] == 1
    assert run["bin"][valid].tolist() == list(range(256))
    assert tuple(run["count"][valid].tolist()) == wanted.histogram
    for name in ("total", "lowest", "highest", "most", "least", "bits", "octaves"):
        assert int(run[name][-1]) == getattr(wanted, name), name
    assert run["zeros"][-1] == wanted.histogram[0]


@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0, 40.0, 300.0])
def test_it_equals_the_golden_model(profiler, spread):
    """Twice in a row, so that it is seen to be empty again; with values missing here and there."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        values = np.clip(np.rint(rng.normal(0, spread, (5000, profiler[0]))), -128, 127).astype(np.int8)
        present = rng.random(values.shape) < (0.7, 1.0)[seed]
        check(profile(profiler, values, present), Profiled.of(values[present]))


@pytest.mark.parametrize("value", [-128, -1, 0, 1, 127])
def test_equal_values_in_a_row_all_count(profiler, value):
    values = np.full((999, profiler[0]), value, np.int8)
    check(profile(profiler, values, np.ones(values.shape, bool)), Profiled.of(values))


def test_values_that_come_again_after_one_or_two_others_all_count(profiler):
    pattern = np.array([5, 5, 7, 5, 7, 7, 5, 9, 9, 5, 9, 7, 5] * 50, np.int8)[:, None].repeat(profiler[0], axis=1)
    check(profile(profiler, pattern, np.ones(pattern.shape, bool)), Profiled.of(pattern))


def test_nothing_at_all(profiler):
    values = np.full((1, profiler[0]), 77, np.int8)
    check(profile(profiler, values, np.zeros(values.shape, bool)), Profiled.of(values[:0]))


def test_every_value_once(profiler):
    values = np.random.default_rng(3).permutation(np.arange(-128, 128)).astype(np.int8).reshape(-1, profiler[0])
    run = profile(profiler, values, np.ones(values.shape, bool))
    check(run, Profiled.of(values))
    assert run["bits"][-1] == 256 * 8 << 18


def test_too_many_values_stop_it():
    """2^24 - 1 values are counted; one more is an error."""
    simulation = Simulation(Profiler(16))
    words = np.random.default_rng(4).integers(0, 256, (2**16, 16), np.uint8)
    for _ in range(15):
        simulation.run({"values": words, "present": 0xFFFF})
    simulation.run({"values": words[:-1], "present": 0xFFFF})
    run = simulation.run({"values": words[-1:].repeat(3, axis=0), "present": [0x7FFF, 0x4000, 0xFFFF]})
    assert run["error"].tolist() == [0, 0, 1]
    assert run["ready"].tolist() == [1, 1, 0]
    later = simulation.run({"values": words[:9], "present": 0xFFFF, "finish": 1})
    assert not later["ready"].any()
    assert not later["bin_valid"].any()
