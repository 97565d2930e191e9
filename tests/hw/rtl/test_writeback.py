"""Write-back against plain integers: which token, which channel, which value, in which cycle."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.model.golden import BIAS_BITS, FACTOR_BITS, MOST_SHIFT, Requantizer
from regrain.hw.rtl.writeback import LATENCY, Writeback

TILES = 5


@pytest.fixture(scope="module", params=[24, 32], ids="accumulators of {} bits".format)
def writeback(request):
    machine = Machine(rows=4, pes=3, lanes=1, accumulator=request.param)
    return machine, Simulation(Writeback(machine, tiles=TILES))


def table_of(random, count, relu):
    """Channels with all extremes among them."""
    edge, most = 1 << (BIAS_BITS - 1), (1 << FACTOR_BITS) - 1
    bias, factor = random.integers(-edge, edge, count), random.integers(0, most + 1, count)
    shift = random.integers(1, MOST_SHIFT + 1, count)
    bias[:4], factor[:4], shift[:4] = [-edge, edge - 1, 0, 0], [most, most, 1, 0], [1, MOST_SHIFT, 1, 20]
    return Requantizer(bias, factor, shift, relu)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("gap", [1.0, 0.4])
def test_tokens_leave_scaled(writeback, signed_fields, relu, gap):
    machine, simulation = writeback
    random = np.random.default_rng(int(10 * gap) + relu)
    count, token_tiles, last_rows = TILES * machine.outputs, 3, 3
    table = table_of(random, count, relu)
    place = np.arange(count)
    simulation.run(
        {
            "table_write": 1,
            "table_tile": place // machine.outputs,
            "table_lane": place % machine.outputs,
            "table_entry": (table.bias & 0xFFFFFF) | table.factor << 24 | table.shift << 40,
        }
    )
    job = {"tiles": TILES, "token_tiles": token_tiles, "last_rows": last_rows, "relu": int(relu)}
    assert not simulation.run({**job, "start": 1}, 1)["out_valid"].any()
    tokens = TILES * token_tiles * machine.rows
    at = 1 + np.flatnonzero(random.random(4 * tokens) < gap)[:tokens]
    cycles = int(at[-1]) + LATENCY + 3
    half = 1 << (machine.accumulator - 1)
    sums = random.integers(-half, half, (cycles, machine.outputs))
    sums[at[:20]] = random.choice([-half, half - 1, 0, -1, 1], (20, machine.outputs))
    valid, row = np.zeros((2, cycles), np.int64)
    valid[at] = 1
    order = np.arange(tokens)
    row[at] = machine.rows - 1 - order % machine.rows
    given = joined([bits(sums, machine.accumulator).reshape(cycles, -1)])
    run = simulation.run({**job, "valid": valid, "row": row, "sums": given})

    token_tile = order // machine.rows % token_tiles
    tile, leaves = order // (machine.rows * token_tiles), at + LATENCY
    kept = (token_tile < token_tiles - 1) | (row[at] < last_rows)
    shown = np.zeros(cycles, np.int64)
    shown[leaves[kept]] = 1
    np.testing.assert_array_equal(run["out_valid"], shown)
    np.testing.assert_array_equal(np.flatnonzero(run["finished"]), leaves[-1:])
    np.testing.assert_array_equal(run["out_tile"][leaves], tile)
    np.testing.assert_array_equal(run["out_token_tile"][leaves], token_tile)
    np.testing.assert_array_equal(run["out_row"][leaves], row[at])
    passed = signed_fields(run["out_sums"], machine.outputs, machine.accumulator)[leaves]
    np.testing.assert_array_equal(passed, sums[at])
    values = signed_fields(run["out_values"], machine.outputs, 8)[leaves]
    for number in range(TILES):
        lanes = slice(number * machine.outputs, (number + 1) * machine.outputs)
        scaled = Requantizer(table.bias[lanes], table.factor[lanes], table.shift[lanes], relu)
        np.testing.assert_array_equal(values[tile == number], scaled(sums[at][tile == number]))
