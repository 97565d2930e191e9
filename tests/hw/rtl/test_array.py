"""The array against products of matrices: which sums leave, and when."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.rtl.array import Array

MACHINES = [Machine(), Machine(rows=5, pes=3, lanes=2, block=4, accumulator=20), Machine(rows=2, pes=1, lanes=1)]


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: f"{machine.rows}x{machine.outputs}")
def array(request):
    return request.param, Simulation(Array(request.param))


def passes(machine, random, count, gap):
    """Random passes whose last words are `rows` cycles apart or, by up to `gap` idle cycles, more.

    Inputs of each cycle, and for each pass the cycle of its last word, its sums and how many rows it has.
    """
    cycle, last, inputs, results = 0, -machine.rows, {}, []
    block = np.zeros((machine.rows, machine.block), np.int64)
    for _ in range(count):
        rows, words = int(random.integers(1, machine.rows + 1)), int(random.integers(1, 3 * machine.rows))
        sums = np.zeros((machine.rows, machine.outputs), np.int64)
        for word in range(words):
            cycle += int(random.integers(0, gap + 1))
            if word == words - 1:
                cycle = max(cycle, last + machine.rows)
            load = word == 0 or random.random() < 0.4
            if load:
                block = random.integers(-128, 128, (machine.rows, machine.block))
            value = random.integers(-128, 128, machine.outputs) * (random.random(machine.outputs) < 0.7)
            index = random.integers(0, machine.block, machine.outputs)
            sums += block[:, index] * value
            control = 1 | load << 1 | (word == 0) << 2 | (word == words - 1) << 3
            inputs[cycle] = control, rows, value, index, block
            cycle += 1
        last = cycle - 1
        results.append((last, sums, rows))
    return inputs, results, cycle + 3 * machine.rows + machine.pes


@pytest.mark.parametrize("gap", [0, 3])
def test_sums_leave_when_they_should(array, signed_fields, gap):
    machine, simulation = array
    simulation.reset()
    random = np.random.default_rng(gap)
    inputs, results, cycles = passes(machine, random, 40, gap)
    control, rows = np.zeros(cycles, np.int64), np.ones(cycles, np.int64)
    value, index = np.zeros((2, cycles, machine.outputs), np.int64)
    value[:] = random.integers(-128, 128, value.shape)  # between words, weights are anything
    tokens = random.integers(-128, 128, (cycles, machine.rows, machine.block))
    for cycle, given in inputs.items():
        control[cycle], rows[cycle], value[cycle], index[cycle], tokens[cycle] = given
    busy = np.minimum.accumulate(np.where(control > 0, np.arange(cycles), cycles)[::-1])[::-1]
    rows = rows[np.minimum(busy, cycles - 1)]  # constant from word to word
    run = simulation.run(
        {
            "control": control,
            "rows": rows,
            "weights": joined(
                [np.concatenate([bits(value, 8), bits(index, machine.index_bits)], 2).reshape(cycles, -1)]
            ),
            "activations": joined([bits(tokens, 8).reshape(cycles, -1)]),
        }
    )
    sums = signed_fields(run["sums"], machine.outputs, machine.accumulator)
    expected = np.zeros(cycles, np.bool_)
    for last, total, count in results:
        for k in range(machine.rows):
            leaves, row = last + machine.rows + machine.pes + 1 + k, machine.rows - 1 - k
            expected[leaves] = True
            assert run["row"][leaves] == row
            np.testing.assert_array_equal(sums[leaves], total[row] if row < count else 0)
    np.testing.assert_array_equal(run["valid"], expected)
    live = bits(run["live"], machine.outputs)
    np.testing.assert_array_equal(live, (value != 0) & (control & 1)[:, None].astype(np.bool_))


def test_elements_may_be_submodules():
    machine = MACHINES[1]
    outlined, inlined = Simulation(Array(machine)), Simulation(Array(machine, inline=True))
    random = np.random.default_rng(1)
    inputs = {
        name: random.integers(0, 256, (300, -(-port.width // 8))).astype(np.uint8)
        for name, port in outlined.inputs.items()
        if port.width > 32 and port.width % 8 == 0
    }
    assert set(inputs) == {"activations"}
    inputs |= {"control": random.integers(0, 16, 300), "rows": random.integers(1, 6, 300)}
    inputs["weights"] = random.integers(0, 1 << 60, 300)
    assert outlined.inputs["weights"].width == 60
    first, second = outlined.run(inputs), inlined.run(inputs)
    for name in outlined.outputs:
        np.testing.assert_array_equal(first[name], second[name])
