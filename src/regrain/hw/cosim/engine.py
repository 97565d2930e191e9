"""The engine between models of its memories: programs, activations and channels in, sums, cycles and events out."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrain.core.errors import HardwareError
from regrain.hw.cosim.build import harness_text
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.native import Activations, Keep, Outputs, Weights, checked, counters_of, drained, sizes
from regrain.hw.cosim.simulation import Simulation, pointer
from regrain.hw.cosim.words import bits, joined, pack, register
from regrain.hw.rtl.engine import MOST_TILES, Engine, job_layout
from regrain.hw.rtl.layouts import Fault

if TYPE_CHECKING:
    from regrain.hw.machine import Machine
    from regrain.hw.model.golden import Requantizer
    from regrain.hw.model.program import Gather, Program

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine did with a job.

    `cycles` from the one of `start` to that of `done`, or to the first with a fault. sums (tokens, tiles * outputs)
    int32, values int8 of the same shape: where a `fault` kept tokens back, `left` (tokens, tiles) is False and they are
    0. `counters` by name, as they stand afterwards.
    """

    cycles: int
    fault: Fault
    sums: NDArray[np.int32]
    values: NDArray[np.int8]
    left: Bits
    counters: dict[str, int]


class EngineSimulation:
    """`Engine` of one machine, compiled. Each job starts when the one before is over; after a fault it is reset."""

    def __init__(
        self, machine: Machine, *, tiles: int = MOST_TILES, patience: int = 16, cache: Path | None = None
    ) -> None:
        self.machine = machine
        component = Engine(machine, tiles=tiles, patience=patience)
        self.simulation = Simulation(component, cache=cache, harness=harness_text("engine.cpp"))
        self.native = self.simulation.native
        self.native.regrain_engine.restype = ctypes.c_int64

    def run(
        self,
        program: Program,
        activations: NDArray[np.int8],
        channels: Requantizer | None = None,
        feed: Feed | None = None,
        *,
        limit: int = 1 << 32,
    ) -> Outcome:
        """A program over activations (tokens, inputs); channels in the order of the program's tiles.

        Without channels, values are the sums' lowest byte, saturated. Raises HardwareError if the engine doesn't finish
        within `limit` cycles, or asks for or gives what isn't there.
        """
        if not program.tiles:
            raise HardwareError("a program must have a tile to be run: without one, all outputs are 0")
        words, ends = pack(program.tiles, self.machine)
        return self.run_words(words, ends, activations, program.gather, channels, feed, limit=limit)

    def run_words(
        self,
        words: NDArray[np.uint32],
        ends: Bits,
        activations: NDArray[np.int8],
        gather: Gather | None = None,
        channels: Requantizer | None = None,
        feed: Feed | None = None,
        *,
        limit: int = 1 << 32,
        job: dict[str, int] | None = None,
    ) -> Outcome:
        """As `run`, for words as `pack` gives them, right or wrong; `job` replaces fields of the job's registers."""
        machine, feed, keep = self.machine, feed or Feed(), Keep()
        count, (tokens, inputs) = int(ends.sum()), activations.shape
        self._set_up(gather, channels, count)
        fields = {
            "tiles": count,
            "token_tiles": -(-tokens // machine.rows),
            "last_rows": (tokens - 1) % machine.rows + 1,
            "blocks": -(-inputs // machine.block),
            "gathered": 0 if gather is None else len(gather.rows),
            "relu": int(channels is not None and channels.relu),
        }
        row = self.simulation.row({"job": register(job_layout(machine), fields | (job or {}))})
        outputs = Outputs(count, tokens, machine)
        cycles = self.native.regrain_engine(
            self.simulation.handle,
            sizes(machine),
            pointer(row),
            ctypes.byref(Weights.of(words, ends, feed, keep)),
            ctypes.byref(Activations.of(activations, machine, feed, keep)),
            ctypes.byref(outputs),
            ctypes.c_int64(limit),
            drained(machine),
        )
        after = self.simulation.run(cycles=1)
        fault = Fault(int(after["fault"][0]))
        if cycles < 0 or fault:
            self.simulation.reset()
        checked(cycles, limit)
        sums, values, left = outputs.taken(whole=not fault)
        return Outcome(cycles, fault, sums, values, left, counters_of(after["counters"][0]))

    def _set_up(self, gather: Gather | None, channels: Requantizer | None, tiles: int) -> None:
        """Write the tables."""
        if gather is not None and len(gather.rows):
            entries = joined([bits(gather.rows, 10).reshape(len(gather.rows), -1)])
            self.simulation.run({"gather_write": 1, "gather_row": np.arange(len(entries)), "gather_entry": entries})
        outputs, place = self.machine.outputs, np.arange(tiles * self.machine.outputs)
        if channels is not None and channels.bias.shape != place.shape:
            raise HardwareError(f"channels must be those of all tiles, {len(place)}, not {len(channels.bias)}")
        bias, factor, shift = (0, 2, 1) if channels is None else (channels.bias, channels.factor, channels.shift)
        table: dict[str, ArrayLike] = {
            "table_write": 1,
            "table_tile": place // outputs,
            "table_lane": place % outputs,
            "table_entry": np.broadcast_to((bias & 0xFFFFFF) | factor << 24 | shift << 40, place.shape),
        }
        if tiles:
            self.simulation.run(table)
