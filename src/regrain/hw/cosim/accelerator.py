"""The accelerator with its decompressor between models of its memories: payloads and descriptors in, outputs out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from regrain.hw.cosim.native import checked, drained, sizes
from regrain.hw.cosim.simulation import pointer
from regrain.hw.cosim.top import Around, Outcome, TopSimulation
from regrain.hw.rtl.accelerator import Accelerator
from regrain.hw.rtl.top import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regrain.hw.machine import Machine


@dataclass(frozen=True, slots=True)
class Reconstructing:
    """A matrix to be reconstructed: the row of its descriptor; the memory of payloads; in which cycles the memory of
    master copies takes a word (cycles,), beyond its end always; and the cycle of the command.
    """

    source: int
    payload: bytes
    ready: NDArray[np.bool_] | None = None
    begins: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A dynamic matrix to be run out of the memory of master copies: as in `TopSimulation.run`. `tiles`: of outputs."""

    descriptor: int
    activations: NDArray[np.int8]
    tiles: int
    matrix: int = 0
    observations: Sequence[tuple[int, int]] = ()
    begins: int = 0


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """`cycles` from the command to the end, or to a fault. `rounded`: a weight was rounded to its row's step."""

    cycles: int
    fault: Part
    code: int
    rounded: bool


class _Payload(ctypes.Structure):
    """`Payload` of accelerator.cpp."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("ready", ctypes.c_void_p),
        ("ready_count", ctypes.c_int64),
    ]


class _Command(ctypes.Structure):
    """`Command` of accelerator.cpp."""

    _fields_: ClassVar = [("begins", ctypes.c_int64), ("cycles", ctypes.c_int64)]


class AcceleratorSimulation(TopSimulation):
    """`Accelerator` of one machine, compiled. `memory` (words, 32-bit words of each) is that of master copies; what
    `TopSimulation` does is done without it.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        words: int,
        rows: int = 4096,
        tiles: int = 256,
        patience: int = 16,
        sizes: tuple[int, int, int] = (1 << 18, 1 << 14, 1 << 12),
        cache: Path | None = None,
    ) -> None:
        """`words` of the memory of master copies; the others as `Accelerator` has them."""
        component = Accelerator(machine, rows=rows, tiles=tiles, patience=patience, sizes=sizes)
        self._build(machine, component, ("engine.cpp", "top.cpp", "accelerator.cpp"), cache)
        self.native.regrain_accelerator.restype = ctypes.c_int64
        self.memory = self._words(np.zeros((words, 1), np.uint8))

    def fill(self, words: NDArray[np.uint8], at: int = 0) -> None:
        """Write words of master copies, as `Master.words` has them."""
        self.memory[at : at + len(words)] = self._words(words)

    def copy(self, at: int, count: int) -> NDArray[np.uint8]:
        """Words that are there, as `Master.words` has them."""
        width = self.machine.outputs + -(-self.machine.outputs // 8)
        return self.memory[at : at + count].astype("<u4").view(np.uint8)[:, :width]

    def reconstruct(self, reconstructing: Reconstructing, *, limit: int = 1 << 32) -> Reconstructed:
        """Reconstruct a matrix; see `go`."""
        made, _ = self.go(reconstructing, None, limit=limit)
        assert made is not None
        return made

    def execute(self, running: Running, *, limit: int = 1 << 32) -> Outcome:
        """Run a matrix; see `go`."""
        _, made = self.go(None, running, limit=limit)
        assert made is not None
        return made

    def go(
        self, reconstructing: Reconstructing | None, running: Running | None, *, limit: int = 1 << 32
    ) -> tuple[Reconstructed | None, Outcome | None]:
        """Give one command or both, and wait until both are over. Cycles of an outcome count from its own command.

        Raises HardwareError if that takes more than `limit` cycles, or what isn't there is read, written or given.
        """
        commands = [_Command(-1 if one is None else one.begins, -1) for one in (reconstructing, running)]
        around, payload = self._around(running), _Payload()
        row: dict[str, int] = {}
        if running is not None:
            row |= {"descriptor": running.descriptor, "matrix": running.matrix}
        if reconstructing is not None:
            row |= {"source": reconstructing.source, "limit": len(reconstructing.payload)}
            data = np.frombuffer(reconstructing.payload, np.uint8)
            ready = np.zeros(0, np.uint8) if reconstructing.ready is None else reconstructing.ready.astype(np.uint8)
            payload = _Payload(around.keep(data), len(data), around.keep(ready), len(ready))
        failed = self.native.regrain_accelerator(
            self.simulation.handle,
            sizes(self.machine),
            pointer(self.simulation.row(row)),
            *around.arguments(),
            ctypes.byref(payload),
            *(ctypes.byref(command) for command in commands),
            ctypes.c_int64(limit),
            drained(self.machine),
        )
        if failed:
            self.reset()
        checked(failed, limit)
        now = self.simulation.run(cycles=1)
        fault, code = Part(int(now["fault"][0])), int(now["code"][0])
        made = Reconstructed(int(commands[0].cycles), fault, code, bool(now["rounded"][0]))
        outcome = None if running is None else self._outcome(int(commands[1].cycles), around, limit)
        return None if reconstructing is None else made, outcome

    def _around(self, running: Running | None) -> Around:
        nothing = np.zeros((0, 1), np.int8)
        one = running or Running(0, nothing, 0)
        observations: Any = one.observations
        return Around(self.machine, self._nothing(), self.memory, one.tiles, one.activations, None, observations)
