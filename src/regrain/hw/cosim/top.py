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


class Copies(ctypes.Structure):
    """`Master` of top.cpp."""

    _fields_: ClassVar = [("words", ctypes.c_int64), ("width", ctypes.c_int64), ("data", ctypes.c_void_p)]


class Observations(ctypes.Structure):
    """`Observations` of top.cpp."""

    _fields_: ClassVar = [("count", ctypes.c_int64), ("cycles", ctypes.c_void_p), ("metrics", ctypes.c_void_p)]


class Switches(ctypes.Structure):
    """`Switches` of top.cpp."""

    _fields_: ClassVar = [
        ("cycles", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("room", ctypes.c_int64),
        ("count", ctypes.c_int64),
    ]


class Around:
    """What is around one matrix while it runs, and what becomes of it: native code's structures, kept alive."""

    def __init__(
        self,
        machine: Machine,
        words: tuple[NDArray[np.uint32], NDArray[np.bool_]],
        copies: NDArray[np.uint32],
        tiles: int,
        activations: NDArray[np.int8],
        feed: Feed | None,
        observations: Sequence[tuple[int, int]],
    ) -> None:
        """`words`: of packed tiles, as `pack` gives them; copies: (words, 32-bit words) of the master copies."""
        feed, self.keep = feed or Feed(), Keep()
        self.at, self.codes = np.zeros(_ROOM, np.int64), np.zeros(_ROOM, np.uint8)
        self.switches = Switches(pointer(self.at), pointer(self.codes), _ROOM, 0)
        self.outputs = Outputs(tiles, len(activations), machine)
        cycles = np.array([cycle for cycle, _ in observations], np.int64)
        metrics = np.array([metric for _, metric in observations], np.uint32)
        self.keep(copies)
        self.parts = (
            Weights.of(*words, feed, self.keep),
            Copies(*copies.shape, pointer(copies)),
            Activations.of(activations, machine, feed, self.keep),
            self.outputs,
            Observations(len(cycles), self.keep(cycles), self.keep(metrics)),
            self.switches,
        )

    def arguments(self) -> list[Any]:
        """For native code, in the order of top.cpp."""
        return [ctypes.byref(part) for part in self.parts]

    def changes(self) -> tuple[tuple[int, Granularity], ...]:
        """Switches: their cycles, and to what."""
        count = min(self.switches.count, _ROOM)
        return tuple((int(self.at[i]), Code(int(self.codes[i])).granularity) for i in range(count))


class TopSimulation:
    """`Top` of one machine, compiled. What it keeps of matrices stays from one run to the next, up to `reset`."""

    def __init__(
        self, machine: Machine, *, rows: int = 4096, tiles: int = 256, patience: int = 16, cache: Path | None = None
    ) -> None:
        self._build(machine, Top(machine, rows=rows, tiles=tiles, patience=patience), ("engine.cpp", "top.cpp"), cache)

    def _build(self, machine: Machine, component: Any, harness: Sequence[str], cache: Path | None) -> None:
        self.machine = machine
        self.simulation = Simulation(component, cache=cache, harness="".join(harness_text(name) for name in harness))
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
        A static one has a program, a dynamic one a master copy, whose addresses count from 0. Raises HardwareError if
        it doesn't finish within `limit` cycles, or asks for or gives what isn't there.
        """
        words, copies, count = self._weights_of(weights)
        around = Around(self.machine, words, copies, count, activations, feed, observations)
        cycles = self.native.regrain_top(
            self.simulation.handle,
            sizes(self.machine),
            pointer(self.simulation.row({"descriptor": descriptor, "matrix": matrix})),
            *around.arguments(),
            ctypes.c_int64(limit),
            drained(self.machine),
        )
        return self._outcome(cycles, around, limit)

    def _outcome(self, cycles: int, around: Around, limit: int) -> Outcome:
        """What became of a run that took so many cycles, or failed."""
        if cycles < 0:
            self.reset()
        checked(cycles, limit)
        after = self.simulation.run(cycles=self.machine.outputs + 4)
        fault = Part(int(after["fault"][0]))
        sums, values, _ = around.outputs.taken(whole=not fault)
        counts = int(after["counts"][-1])
        return Outcome(
            cycles,
            fault,
            int(after["code"][0]),
            sums,
            values,
            around.changes(),
            Code(int(after["granularity"][-1])).granularity,
            int(after["metric"][-1]),
            (counts & 0x3FFF, counts >> 14 & 0x3FFF, counts >> 28 & 0x3FFF),
            counters_of(after["counters"][0]),
            int(after["master_reads"][-1]),
        )

    def _words(self, raw: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Bytes of words of a master copy, as those of the port."""
        width = self.simulation.layouts[0]["master__data"].words
        words = np.zeros((len(raw), 4 * width), np.uint8)
        words[:, : raw.shape[1]] = raw
        return words.view("<u4").astype(np.uint32)

    def _weights_of(self, weights: Program | Master) -> tuple[tuple[Any, Any], NDArray[np.uint32], int]:
        """Words of the stream and of the master copy, one of them none; and tiles."""
        if isinstance(weights, Master):
            return self._nothing(), self._words(weights.words()), len(weights.weights)
        return pack(weights.tiles, self.machine), self._words(np.zeros((0, 1), np.uint8)), len(weights.tiles)

    def _nothing(self) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """The stream of no tiles."""
        return np.zeros((0, self.simulation.layouts[0]["stream__payload"].words), np.uint32), np.zeros(0, np.bool_)
