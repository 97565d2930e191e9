"""The profiling accelerator equals its golden model, bit by bit and bin by bin."""

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.model.histogram import Profiled
from regrain.hw.rtl.profiler import SUMMARY_CYCLES, Profiler


@pytest.fixture(scope="module", params=[1, 16])
def profiler(request):
    return request.param, Simulation(Profiler(request.param))


IDLE = 4  # cycles after `done`, in which results stay


def profile(profiler, values, present):
    """Offer (cycles, lanes) values, `finish` beside the last; everything that came out."""
    lanes, simulation = profiler
    cycles = len(values) + SUMMARY_CYCLES + 1 + IDLE
    words, which, finish = np.zeros((cycles, lanes), np.uint8), np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    words[: len(values)] = values.view(np.uint8)
    which[: len(values)] = (present << np.arange(lanes)).sum(axis=1)
    finish[len(values) - 1] = 1
    run = simulation.run({"values": words if lanes > 1 else words[:, 0], "present": which, "finish": finish})
    assert np.flatnonzero(run["done"]).tolist() == [len(values) + SUMMARY_CYCLES]
    assert run["ready"].tolist() == [1] * len(values) + [0] * (SUMMARY_CYCLES + 1) + [1] * IDLE
    assert not run["error"].any()
    return run


def check(run, wanted):
    valid = run["bin_valid"] == 1
    assert run["bin"][valid].tolist() == list(range(256))
    assert tuple(run["count"][valid].tolist()) == wanted.histogram
    for name in ("total", "lowest", "highest", "most", "least", "bits", "octaves"):
        assert (run[name][-1 - IDLE :] == getattr(wanted, name)).all(), name
    assert (run["zeros"][-1 - IDLE :] == wanted.histogram[0]).all()


@pytest.mark.parametrize("spread", [0.0, 0.4, 3.0, 40.0, 300.0])
def test_it_equals_the_golden_model(profiler, spread):
    """Twice in a row, so that it is seen to be empty again; with values missing here and there."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        values = np.clip(np.rint(rng.normal(0, spread, (5000, profiler[0]))), -128, 127).astype(np.int8)
        present = rng.random(values.shape) < (0.7, 1.0)[seed]
        check(profile(profiler, values, present), Profiled.of(values[present]))


def test_few_values(profiler):
    """What is lowest, highest, largest and smallest, of any size."""
    random = np.random.default_rng(9)
    for count in [1, 2, 2, 3, 3, 4] * 12:
        spread = 1 << random.integers(1, 8)
        values = random.integers(-spread, spread, (count, profiler[0])).astype(np.int8)
        present = np.arange(values.size).reshape(values.shape) % profiler[0] == 0
        check(profile(profiler, values, present), Profiled.of(values[present]))


@pytest.mark.parametrize("value", [-128, -1, 0, 127, *(1 << bit for bit in range(7))])
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


@pytest.mark.parametrize("total", [1 << 22, (1 << 24) - 1])
def test_as_many_values_as_are_counted(profiler, total):
    """Bins of all sizes: a bit of a value is 1 in one of sixteen. A power of two has but one bit to tell it from 0."""
    random, (lanes, simulation) = np.random.default_rng(4), profiler
    values = np.bitwise_and.reduce(random.integers(0, 256, (4, total), np.uint8))
    before, last = np.split(values, [(total // lanes - 1) * lanes])
    for part in np.array_split(before.reshape(-1, lanes), 16):
        simulation.run({"values": part if lanes > 1 else part[:, 0], "present": (1 << lanes) - 1})
    rows = np.pad(last, (0, -len(last) % lanes)).reshape(-1, lanes)
    present = np.arange(rows.size).reshape(-1, lanes) < len(last)
    check(profile(profiler, rows, present), Profiled.of(values.view(np.int8)))


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
