"""The whole accelerator between models of its memories: descriptors in, outputs, granularities and cycles out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regrain.core.granularity import Granularity
from regrain.hw.cosim.build import harness_text
from regrain.hw.cosim.feed import Feed
from regrain.hw.cosim.native import Activations, Keep, Outputs, Weights, checked, counters_of, drained, sizes
from regrain.hw.cosim.simulation import Simulation, pointer
from regrain.hw.cosim.words import pack
from regrain.hw.model.codes import Code
from regrain.hw.model.program import Program
from regrain.hw.model.repack import Master
from regrain.hw.rtl.top import Part, Top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regrain.hw.machine import Machine
    from regrain.hw.model.image import Image

_ROOM = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one matrix: as `regrain.hw.cosim.engine.Outcome`; `switches`: (cycle, granularity) of each.

    `metric` and `counts` (fine, medium, coarse) are the monitor's, some cycles after the last output.
    """

    cycles: int
    fault: Part
    code: int
    sums: NDArray[np.int32]
    values: NDArray[np.int8]
    switches: tuple[tuple[int, Granularity], ...]
    granularity: Granularity
    metric: int
    counts: tuple[int, int, int]
    counters: dict[str, int]
    master_reads: int


class _Master(ctypes.Structure):
    """`Master` of top.cpp."""

    _fields_: ClassVar = [("words", ctypes.c_int64), ("width", ctypes.c_int64), ("data", ctypes.c_void_p)]


class _Observations(ctypes.Structure):
    """`Observations` of top.cpp."""

    _fields_: ClassVar = [("count", ctypes.c_int64), ("cycles", ctypes.c_void_p), ("metrics", ctypes.c_void_p)]


class _Switches(ctypes.Structure):
    """`Switches` of top.cpp."""

    _fields_: ClassVar = [
        ("cycles", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("room", ctypes.c_int64),
        ("count", ctypes.c_int64),
    ]


class TopSimulation:
    """`Top` of one machine, compiled. What it keeps of matrices stays from one run to the next, up to `reset`."""

    def __init__(
        self, machine: Machine, *, rows: int = 4096, tiles: int = 256, patience: int = 16, cache: Path | None = None
    ) -> None:
        self.machine = machine
        component = Top(machine, rows=rows, tiles=tiles, patience=patience)
        text = harness_text("engine.cpp") + harness_text("top.cpp")
        self.simulation = Simulation(component, cache=cache, harness=text)
        self.native = self.simulation.native
        self.native.regrain_top.restype = ctypes.c_int64

    def reset(self) -> None:
        """As after power-up: no metadata, no matrices known."""
        self.simulation.reset()

    def load(self, image: Image) -> None:
        """Fill the metadata memory."""
        rows = image.array()
        self.simulation.run({"clear": 1}, cycles=1)
        self.simulation.run({"write": 1, "write_address": np.arange(len(rows)), "write_data": rows})

    def run(
        self,
        descriptor: int,
        activations: NDArray[np.int8],
        weights: Program | Master,
        *,
        matrix: int = 0,
        feed: Feed | None = None,
        observations: Sequence[tuple[int, int]] = (),
        limit: int = 1 << 32,
    ) -> Outcome:
        """Run the matrix whose descriptor is at that row, over activations (tokens, inputs).

        `observations`: cycles from that of `start` on, and the metrics that are told to control in them.
        A static one has a program, a dynamic one a master copy. Raises HardwareError if it doesn't finish within
        `limit` cycles, or asks for or gives what isn't there.
        """
        machine, feed, keep = self.machine, feed or Feed(), Keep()
        words, ends, master, count = self._weights_of(weights, keep)
        outputs = Outputs(count, len(activations), machine)
        at, codes = np.zeros(_ROOM, np.int64), np.zeros(_ROOM, np.uint8)
        switches = _Switches(pointer(at), pointer(codes), _ROOM, 0)
        row = self.simulation.row({"descriptor": descriptor, "matrix": matrix})
        cycles = self.native.regrain_top(
            self.simulation.handle,
            sizes(machine),
            pointer(row),
            ctypes.byref(Weights.of(words, ends, feed, keep)),
            ctypes.byref(master),
            ctypes.byref(Activations.of(activations, machine, feed, keep)),
            ctypes.byref(outputs),
            ctypes.byref(self._observations(observations, keep)),
            ctypes.byref(switches),
            ctypes.c_int64(limit),
            drained(machine),
        )
        if cycles < 0:
            self.reset()
        checked(cycles, limit)
        after = self.simulation.run(cycles=machine.outputs + 4)
        fault = Part(int(after["fault"][0]))
        sums, values, _ = outputs.taken(whole=not fault)
        made = [(int(at[i]), Code(int(codes[i])).granularity) for i in range(min(switches.count, _ROOM))]
        counts = int(after["counts"][-1])
        return Outcome(
            cycles,
            fault,
            int(after["code"][0]),
            sums,
            values,
            tuple(made),
            Code(int(after["granularity"][-1])).granularity,
            int(after["metric"][-1]),
            (counts & 0x3FFF, counts >> 14 & 0x3FFF, counts >> 28 & 0x3FFF),
            counters_of(after["counters"][0]),
            int(after["master_reads"][-1]),
        )

    def _weights_of(self, weights: Program | Master, keep: Keep) -> tuple[Any, Any, _Master, int]:
        """Words of the stream and of the master copy, one of them none; and tiles."""
        layout = self.simulation.layouts[0]
        stream, copy = layout["stream__payload"].words, layout["master__data"].words
        if isinstance(weights, Master):
            raw = weights.words()
            words = np.zeros((len(raw), 4 * copy), np.uint8)
            words[:, : raw.shape[1]] = raw
            nothing = np.zeros((0, stream), np.uint32)
            return nothing, np.zeros(0, np.bool_), _Master(len(raw), copy, keep(words)), len(weights.weights)
        packed, ends = pack(weights.tiles, self.machine)
        return packed, ends, _Master(0, copy, keep(np.zeros(1, np.uint32))), len(weights.tiles)

    def _observations(self, observations: Sequence[tuple[int, int]], keep: Keep) -> _Observations:
        cycles = np.array([cycle for cycle, _ in observations], np.int64)
        metrics = np.array([metric for _, metric in observations], np.uint32)
        return _Observations(len(cycles), keep(cycles), keep(metrics))
