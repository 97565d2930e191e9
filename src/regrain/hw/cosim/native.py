"""What engine.cpp takes: sizes, memories and outputs as C sees them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.cosim.simulation import pointer
from regrain.hw.rtl.engine import COUNTER_BITS, COUNTERS

if TYPE_CHECKING:
    from regrain.hw.cosim.feed import Feed
    from regrain.hw.machine import Machine

_FAILURES = {
    -1: "the engine must read activations that there are",
    -2: "the engine must finish within {limit} cycles",
    -3: "the engine must give tokens that the job has",
}


class Keep(list[Any]):
    """Arrays that native code reads, kept alive."""

    def __call__(self, array: NDArray[Any]) -> ctypes.c_void_p:
        """Keep one, contiguous, and point to it."""
        self.append(np.ascontiguousarray(array))
        return pointer(self[-1])


class Weights(ctypes.Structure):
    """`Weights` of engine.cpp."""

    _fields_: ClassVar = [
        ("words", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("delay", ctypes.c_void_p),
        ("ends", ctypes.c_void_p),
        ("offered", ctypes.c_void_p),
        ("offered_count", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, words: NDArray[np.uint32], ends: NDArray[np.bool_], feed: Feed, keep: Keep) -> Weights:
        """Words and ends of tiles as `words.pack` gives them."""
        delay = np.zeros(len(words), np.int64) if feed.delay is None else feed.delay.astype(np.int64)
        if delay.shape != (len(words),):
            raise HardwareError(f"delay must be ({len(words)},), a number for each word, not {delay.shape}")
        offered = _flags(feed.offered)
        parts = (keep(words), keep(delay), keep(ends.astype(np.uint8)), keep(offered))
        return cls(*words.shape, *parts, len(offered))


class Activations(ctypes.Structure):
    """`Activations` of engine.cpp."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("tokens", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("ready", ctypes.c_void_p),
        ("ready_count", ctypes.c_int64),
        ("transfer", ctypes.c_int64),
        ("latency", ctypes.c_int64),
        ("room", ctypes.c_int64),
        ("fetches", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, tokens: NDArray[np.int8], machine: Machine, feed: Feed, keep: Keep) -> Activations:
        """(tokens, inputs), padded with zeros to whole tiles of tokens and whole blocks."""
        padded = np.pad(tokens, ((0, -len(tokens) % machine.rows), (0, -tokens.shape[1] % machine.block)))
        ready = _flags(feed.ready)
        times = (feed.transfer, feed.latency, feed.room, feed.fetches)
        return cls(keep(padded), *padded.shape, keep(ready), len(ready), *times)


class Outputs(ctypes.Structure):
    """`Outputs` of engine.cpp, of `tiles` tiles over so many tokens."""

    _fields_: ClassVar = [
        ("sums", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
        ("tiles", ctypes.c_int64),
        ("tokens", ctypes.c_int64),
    ]

    def __init__(self, tiles: int, tokens: int, machine: Machine) -> None:
        self.count, padded = tokens, -(-tokens // machine.rows) * machine.rows
        self.made = np.zeros((tiles, padded, machine.outputs), np.int32)
        self.scaled = np.zeros(self.made.shape, np.int8)
        self.times = np.zeros((tiles, padded), np.uint8)
        super().__init__(pointer(self.made), pointer(self.scaled), pointer(self.times), tiles, padded)

    def taken(self, *, whole: bool) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.bool_]]:
        """Sums and values (tokens, tiles * outputs), and which tokens left (tokens, tiles).

        Raises HardwareError if one left twice, or is none; or, of a `whole` job, if one is missing.
        """
        left = self.times[:, : self.count]
        if (left > 1).any() or self.times[:, self.count :].any() or (whole and not left.all()):
            raise HardwareError("the engine must give each token of each tile once")
        sums = self.made[:, : self.count].transpose(1, 0, 2).reshape(self.count, -1)
        values = self.scaled[:, : self.count].transpose(1, 0, 2).reshape(self.count, -1)
        return sums, values, left.T.astype(np.bool_)


def sizes(machine: Machine) -> Any:
    """`Shape` of engine.cpp, to be passed."""
    shape = (machine.rows, machine.block, machine.outputs, machine.accumulator)
    return ctypes.byref((ctypes.c_int64 * 4)(*shape))


def drained(machine: Machine) -> ctypes.c_int64:
    """Cycles after a fault in which all that can still leave has left."""
    return ctypes.c_int64(4 * machine.rows + machine.pes + 16)


def checked(cycles: int, limit: int) -> None:
    """Raise HardwareError for a run that failed."""
    if cycles < 0:
        raise HardwareError(_FAILURES[cycles].format(limit=limit))


def counters_of(words: NDArray[np.uint32]) -> dict[str, int]:
    """The port `counters` in one cycle, by name."""
    value = int.from_bytes(words.tobytes(), "little")
    return {name: value >> COUNTER_BITS * at & (1 << COUNTER_BITS) - 1 for at, name in enumerate(COUNTERS)}


def _flags(values: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    return np.zeros(0, np.uint8) if values is None else values.astype(np.uint8)
