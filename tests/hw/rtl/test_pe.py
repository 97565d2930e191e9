"""One processing element against its definition: what a lane adds, what leaves, and what stands still."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.rtl.pe import LATENCY, PE

CYCLES = 4000


@pytest.fixture(scope="module", params=[Machine(), Machine(pes=1, lanes=3, block=4, accumulator=18)])
def case(request):
    """A machine, random inputs of its element, and what it made of them."""
    machine = request.param
    random = np.random.default_rng(8)
    lanes = (CYCLES, machine.lanes)
    signals = {name: random.random(CYCLES) < 0.3 for name in ("load", "clear", "drain", "shift")}
    signals["active"] = random.random(CYCLES) < 0.8
    given = {
        **signals,
        "activations": random.integers(-128, 128, (CYCLES, machine.block)),
        "value": random.integers(-128, 128, lanes),
        "index": random.integers(0, machine.block, lanes),
        "live": random.random(lanes) < 0.6,
        "sums": random.integers(-(1 << 17), 1 << 17, lanes),
    }
    weights = np.concatenate(
        [bits(given["value"], 8), bits(given["index"], machine.index_bits), bits(given["live"], 1)], axis=2
    )
    run = Simulation(PE(machine)).run(
        {
            "activations": joined([bits(given["activations"], 8).reshape(CYCLES, -1)]),
            "token": sum(given[name] << at for at, name in enumerate(("load", "active", "clear", "drain", "shift"))),
            "weights": joined([weights.reshape(CYCLES, -1)]),
            "sums": joined([bits(given["sums"], machine.accumulator).reshape(CYCLES, -1)]),
        }
    )
    return machine, given, run


def held(values, enable):
    """What a register shows in each cycle that takes `values` where enabled, from zeros on."""
    shown = np.zeros((len(values) + 1, *values.shape[1:]), np.int64)
    for t, (value, taken) in enumerate(zip(values, enable, strict=True)):
        shown[t + 1] = np.where(taken, value, shown[t])
    return shown


def test_sums_leave_three_cycles_after_the_word(case, signed_fields):
    machine, given, run = case
    block = held(given["activations"], given["load"] & given["active"])[1:]  # with the block that comes with the word
    index = given["index"]
    product = np.take_along_axis(block, index, 1) * given["value"]
    product[~(given["live"] & given["active"][:, None])] = 0
    total, shown = np.zeros(machine.lanes, np.int64), np.zeros(machine.lanes, np.int64)
    half = 1 << (machine.accumulator - 1)
    out = signed_fields(run["sums_out"], machine.lanes, machine.accumulator)
    for t in range(CYCLES - LATENCY):
        total = (0 if given["clear"][t] else total) + product[t]
        total = (total + half) % (2 * half) - half
        if given["drain"][t]:
            shown = total
        elif given["shift"][t]:
            shown = given["sums"][t + LATENCY - 1]
        np.testing.assert_array_equal(out[t + LATENCY], shown)


def test_neighbors_get_everything_a_cycle_later(case, signed_fields):
    machine, given, run = case
    token = run["token_out"][1:]
    for at, name in enumerate(("load", "active", "clear", "drain", "shift")):
        np.testing.assert_array_equal(token >> at & 1, given[name][:-1])
    shown = signed_fields(run["activations_out"], machine.block, 8)
    np.testing.assert_array_equal(shown, held(given["activations"], given["load"] & given["active"])[:-1])


def test_an_idle_lane_keeps_its_weight(case, signed_fields):
    machine, given, run = case
    width = 9 + machine.index_bits
    shown = signed_fields(run["weights_out"], machine.lanes, width)
    np.testing.assert_array_equal((shown < 0)[1:], given["live"][:-1])
    np.testing.assert_array_equal(shown & 0xFF, held(given["value"], given["live"])[:-1] & 0xFF)
    np.testing.assert_array_equal(shown >> 8 & machine.block - 1, held(given["index"], given["live"])[:-1])
