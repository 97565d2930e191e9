"""One matrix at each granularity: which weights it keeps, and the program that takes the fewest cycles for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.program import Program, Tile, blocks, channels, dense, fine, padded
from regrain.hw.networks.schedule import PACKED, Source

Mask = NDArray[np.bool_]
Values = NDArray[np.int8]

ENCODINGS = ("dense", "N:M", "block", "block, fine inside", "channel", "fine")
"""The ways to run a matrix, those that need least beside the weights first."""

_BY_GRANULARITY = {
    None: ENCODINGS,
    Granularity.FINE: ("N:M", "fine"),
    Granularity.MEDIUM: ("block", "block, fine inside"),
    Granularity.COARSE: ("channel",),
}


def keep(granularity: Granularity, scores: NDArray[np.float64], density: float, span: int, machine: Machine) -> Mask:
    """Of weights with such scores (outputs, inputs x span) those that a granularity keeps, (outputs, inputs x span).

    FINE keeps the same number, round(density x block) but one at least, of each block of each output; MEDIUM the part
    `density` of the blocks of a tile's outputs by a block's inputs; COARSE the part `density` of the input channels,
    each of `span` columns, one at least. The highest scores stay; of equal ones the first.
    """
    rows, columns = scores.shape
    lanes, block = machine.outputs, machine.block
    if granularity is Granularity.COARSE:
        channel = scores.sum(0).reshape(-1, span).sum(1)
        return np.broadcast_to(np.repeat(_highest(channel, max(1, round(density * channel.size))), span), scores.shape)
    whole = np.pad(scores, ((0, -rows % lanes), (0, -columns % block)), constant_values=-np.inf)
    if granularity is Granularity.FINE:
        groups = whole.reshape(whole.shape[0], -1, block)
        rank = np.argsort(np.argsort(-groups, axis=2, kind="stable"), axis=2, kind="stable")
        mask = rank < max(1, round(density * block))
        return mask.reshape(whole.shape)[:rows, :columns]
    cubes = np.where(np.isfinite(whole), whole, 0.0).reshape(-1, lanes, whole.shape[1] // block, block)
    units = cubes.sum((1, 3))
    mask = _highest(units.reshape(-1), round(density * units.size)).reshape(units.shape)
    return np.repeat(np.repeat(mask, lanes, axis=0), block, axis=1)[:rows, :columns]


REORGANIZED = {Granularity.FINE: "fine", Granularity.MEDIUM: "block", Granularity.COARSE: "channel"}
"""What the reorganizer makes of a master copy at each granularity."""


def reorganized(granularity: Granularity, weights: Values, mask: Mask, machine: Machine) -> Program:
    """What the reorganizer makes of a master copy of `weights` that are 0 outside `mask`, (outputs, inputs) as `keep`
    gives it. Tags say what is kept, and not the weights: a block or channel that is kept comes, even if it holds only
    zeros, and every tile does. Raises HardwareError where a tile doesn't fit.
    """
    if granularity is Granularity.FINE:
        return fine(weights, machine)
    if granularity is Granularity.MEDIUM:
        return blocks(weights, machine, keep=mask[:: machine.outputs, :: machine.block])
    made = channels(weights, machine, keep=mask[0])
    assert made.gather is not None
    counts = made.gather.present.sum(1).astype(np.uint8)
    zeros = np.zeros((int(counts.sum()), machine.outputs), np.uint8)
    nothing = Tile(zeros.view(np.int8), zeros, np.arange(len(counts), dtype=np.uint16), counts, gather=True)
    there = dict(zip(made.tile_numbers, made.tiles, strict=True))
    numbers = tuple(range(-(-len(weights) // machine.outputs)))
    return replace(made, tiles=tuple(there.get(number, nothing) for number in numbers), tile_numbers=numbers)


def cheapest(weights: Values, machine: Machine, granularity: Granularity | None = None) -> tuple[str, Program]:
    """Weights (outputs, inputs) int8 as the encoding that issues the fewest words, of all or those of a granularity; of
    equal ones the first of `ENCODINGS`. One that doesn't fit the banks is passed over. Raises HardwareError if none
    fits.
    """
    words = _words(weights, machine)
    found: HardwareError | None = None
    for name in sorted(_BY_GRANULARITY[granularity], key=words.__getitem__):
        try:
            return name, encode(name, weights, machine)
        except HardwareError as error:
            found = found or error
    assert found is not None
    raise found


@dataclass(frozen=True, eq=False)
class Variant:
    """A matrix at one granularity: its int8 weights, 0 where `mask` has none; None: all of them are kept."""

    weights: Values
    mask: Mask | None
    granularity: Granularity | None
    machine: Machine
    reorganized: bool = False

    @cached_property
    def encoded(self) -> tuple[str, Program]:
        """The encoding, and the program: of what stays as it is the best, else what the reorganizer makes."""
        if self.reorganized and self.granularity is not None and self.mask is not None:
            made = reorganized(self.granularity, self.weights, self.mask, self.machine)
            return REORGANIZED[self.granularity], made
        return cheapest(self.weights, self.machine, self.granularity)

    @property
    def density(self) -> float:
        """The share of weights that aren't zero."""
        return np.count_nonzero(self.weights) / self.weights.size

    @cached_property
    def source(self) -> Source:
        """Where its tiles come from."""
        if self.reorganized and self.granularity is not None:
            return Source.of(self.granularity, self.encoded[1], self.machine)
        return PACKED


def encode(encoding: str, weights: Values, machine: Machine) -> Program:
    """Weights (outputs, inputs) int8 in one of `ENCODINGS`. Raises HardwareError where they don't fit."""
    if encoding == "N:M":
        return fine(weights, machine, count=max(1, int(_most(weights, machine).max())))
    made: dict[str, Callable[[], Program]] = {
        "dense": lambda: dense(weights, machine),
        "block": lambda: blocks(weights, machine),
        "block, fine inside": lambda: blocks(weights, machine, inside=True),
        "channel": lambda: channels(weights, machine),
        "fine": lambda: fine(weights, machine),
    }
    return made[encoding]()


def _words(weights: Values, machine: Machine) -> dict[str, int]:
    """Words of all tiles in each encoding; a tile takes one at least."""
    most = _most(weights, machine)
    tiles, steps = most.shape
    there = padded(weights, machine) != 0
    used = int(np.count_nonzero(there.reshape(tiles, -1).any(1)))
    inside = _at_least_one(most.sum(1))
    return {
        "dense": tiles * steps * machine.block,
        "N:M": tiles * steps * max(1, int(most.max())),
        "block": _at_least_one((most > 0).sum(1) * machine.block),
        "block, fine inside": inside,
        "channel": used * int(np.count_nonzero(there.any(0))),
        "fine": inside,
    }


def _most(weights: Values, machine: Machine) -> NDArray[np.int64]:
    """Weights that aren't zero, of the lane with most of them, for each tile and block: (tiles, blocks)."""
    whole = padded(weights, machine) != 0
    counts = whole.reshape(len(whole), -1, machine.block).sum(2)
    most: NDArray[np.int64] = counts.reshape(-1, machine.outputs, counts.shape[1]).max(1)
    return most


def _at_least_one(words: Iterable[int]) -> int:
    return int(np.maximum(np.asarray(words), 1).sum())


def _highest(scores: NDArray[np.float64], count: int) -> Mask:
    mask = np.zeros(scores.size, np.bool_)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask
