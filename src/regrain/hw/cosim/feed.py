"""When the memories around the engine give what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regrain.hw.machine import ACTIVATION_BITS
from regrain.hw.model.timing import ENTRY_BITS

if TYPE_CHECKING:
    from regrain.hw.machine import Machine
    from regrain.hw.model.memory import Memory
    from regrain.hw.model.program import Program, Tile


@dataclass(frozen=True, slots=True)
class Feed:
    """Without limits, everything is there at once. Cycle 0 is that of `start`.

    Weights. `delay` (words of all tiles,): a word is offered so many cycles after the first one in which the bank takes
    words of its tile. `offered` (cycles,): nothing begins to be offered in cycle t without offered[t]; beyond its end
    always. A word that is offered stays until it is taken.

    Activations are fetched pass by pass. Those of pass p are asked for in the cycle after pass p - `room` is over, in
    cycle 0 for the first `room`; they are sent `latency` cycles later, or when those before are there, which takes
    `transfer` cycles; then pass p may begin. From pass `fetches` on they are in the buffer. `ready` (cycles,): no pass
    begins in cycle t without ready[t]; beyond its end always.
    """

    delay: NDArray[np.int64] | None = None
    offered: NDArray[np.bool_] | None = None
    transfer: int = 0
    latency: int = 0
    room: int = 2
    fetches: int = 0
    ready: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, program: Program, tokens: int, machine: Machine, memory: Memory) -> Feed:
        """What a memory gives: words of a tile as its bits come, evenly, the first after the latency; activations into
        a buffer with room for two tiles of tokens at least, once if it holds all of them, else for each pass.
        """
        blocks, passes = -(-program.shape[1] // machine.block), -(-tokens // machine.rows)
        size = blocks * machine.block * ACTIVATION_BITS * machine.rows
        room = max(2, memory.buffer_bits // size)
        fetches = 0
        if memory.activation_bits is not None:
            fetches = passes if passes <= room else passes * len(program.tiles)
        return cls(
            delay=np.concatenate([_arrivals(tile, machine, memory) for tile in program.tiles]),
            transfer=-(-size // (memory.activation_bits or 1)),
            latency=memory.latency,
            room=room,
            fetches=fetches,
        )


def _arrivals(tile: Tile, machine: Machine, memory: Memory) -> NDArray[np.int64]:
    """Cycles from the bank's being free to each word: to word k, until k words' share of the tile's bits is there."""
    before = np.arange(tile.words, dtype=np.int64)
    if memory.weight_bits is None:
        return np.full(tile.words, memory.latency)
    size = tile.words * machine.word_bits + (tile.steps if tile.listed else 1) * ENTRY_BITS
    return memory.latency - (-before * size // (tile.words * memory.weight_bits))
