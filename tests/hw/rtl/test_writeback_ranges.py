"""Write-back where values aren't cut off: every shift, sums beside the bias, and tiles of tokens of sixteen bits."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.hw.cosim import Simulation
from regrain.hw.cosim.words import bits, joined
from regrain.hw.machine import Machine
from regrain.hw.model.golden import Requantizer
from regrain.hw.rtl.writeback import LATENCY, Writeback

TILES = 5


@pytest.fixture(scope="module", params=[24, 32], ids="accumulators of {} bits".format)
def writeback(request):
    machine = Machine(rows=4, pes=3, lanes=1, accumulator=request.param)
    return machine, Simulation(Writeback(machine, tiles=TILES))


def run_job(writeback, table, sums, token_tiles, stray):
    """Tokens (tiles * token_tiles * rows, outputs), one a cycle but for a `stray` cycle now and then, to values."""
    machine, simulation = writeback
    place = np.arange(TILES * machine.outputs)
    entries = (table.bias & 0xFFFFFF) | table.factor << 24 | table.shift << 40
    simulation.run(
        {
            "table_write": 1,
            "table_tile": place // machine.outputs,
            "table_lane": place % machine.outputs,
            "table_entry": entries,
        }
    )
    job = {"tiles": len(sums) // (token_tiles * machine.rows), "token_tiles": token_tiles, "last_rows": machine.rows}
    simulation.run({**job, "start": 1}, 1)
    at = np.flatnonzero(~stray)[: len(sums)]
    cycles = int(at[-1]) + LATENCY + 1
    given = np.zeros((cycles, machine.outputs), np.int64)
    given[at] = sums
    valid, row = np.zeros((2, cycles), np.int64)
    valid[at], row[at] = 1, machine.rows - 1 - np.arange(len(sums)) % machine.rows
    # What is at the table's port without a write is of no meaning, nor is the row without a token.
    run = simulation.run(
        {
            **job,
            "valid": valid,
            "row": row,
            "sums": joined([bits(given, machine.accumulator).reshape(cycles, -1)]),
            "table_tile": np.arange(cycles) % TILES,
            "table_lane": np.arange(cycles) % machine.outputs,
            "table_entry": np.random.default_rng(2).integers(0, 1 << 46, cycles),
        }
    )
    leaves = at + LATENCY
    assert np.flatnonzero(run["out_valid"]).tolist() == leaves.tolist()
    assert np.flatnonzero(run["finished"]).tolist() == leaves[-1:].tolist()
    numbers = np.arange(len(sums)) // machine.rows
    np.testing.assert_array_equal(run["out_token_tile"][leaves], numbers % token_tiles)
    np.testing.assert_array_equal(run["out_tile"][leaves], numbers // token_tiles)
    return run, leaves


def expected(table, sums, machine, token_tiles):
    """The values of each token, with the channels of its tile."""
    tile = np.arange(len(sums)) // (machine.rows * token_tiles)
    lanes = tile[:, None] * machine.outputs + np.arange(machine.outputs)
    wide = (sums + table.bias[lanes]) * table.factor[lanes] + (np.int64(1) << table.shift[lanes] - 1)
    return np.clip(wide >> table.shift[lanes], -128, 127)


@pytest.mark.parametrize("first_shift", range(1, 40, 5))
def test_values_of_all_bits(writeback, signed_fields, first_shift):
    machine, random = writeback[0], np.random.default_rng(first_shift)
    count, token_tiles = TILES * machine.outputs, 40
    shift = np.minimum(first_shift + np.arange(count) % 5, 40)
    factor = random.integers(1, np.minimum(1 << 16, 2 << shift), count)
    bias = random.integers(-(1 << 23), 1 << 23, count)
    table = Requantizer(bias, factor, shift)
    tile = np.arange(TILES * token_tiles * machine.rows) // (token_tiles * machine.rows)
    lanes = tile[:, None] * machine.outputs + np.arange(machine.outputs)
    # Sums that come out between -140 and 140, or near a power of two, as far as accumulators go.
    powers = random.choice([-1, 1], lanes.shape) * 2.0 ** random.integers(7, 40, lanes.shape)
    wanted = random.uniform(-140, 140, lanes.shape) + powers * (random.random(lanes.shape) < 0.3)
    half = 1 << machine.accumulator - 1
    sums = np.rint(wanted * 2.0 ** shift[lanes] / factor[lanes]) - bias[lanes]
    sums = np.clip(sums, -half, half - 1).astype(np.int64)
    run, leaves = run_job(writeback, table, sums, token_tiles, random.random(3 * len(sums)) < 0.3)
    values = signed_fields(run["out_values"], machine.outputs, 8)[leaves]
    np.testing.assert_array_equal(values, expected(table, sums, machine, token_tiles))
    passed = signed_fields(run["out_sums"], machine.outputs, machine.accumulator)[leaves]
    np.testing.assert_array_equal(passed, sums)


@pytest.mark.parametrize("token_tiles", [0xFFFF, 0xA55A])
def test_sixteen_bits_of_tiles_of_tokens(writeback, token_tiles):
    machine, random = writeback[0], np.random.default_rng(1)
    count = TILES * machine.outputs
    table = Requantizer(np.zeros(count, np.int64), np.ones(count, np.int64), np.full(count, 16))
    sums = random.integers(-(1 << 22), 1 << 22, (token_tiles * machine.rows, machine.outputs))
    run_job(writeback, table, sums, token_tiles, np.zeros(len(sums), np.bool_))
