"""What the reorganizer sends, and in which cycles: the yardstick of its hardware.

The master copy of a matrix holds all its weights, and tags say what each granularity keeps of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.machine import MOST_BLOCKS, Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.program import Gather, Tile, padded

TAG_BITS = 32
ROW_BITS = (MOST_BLOCKS - 1).bit_length()

Clock = Callable[[int], int]
"""The first cycle, from the given one on, in which something happens."""


def at_once(cycle: int) -> int:
    """The clock of what is always ready."""
    return cycle


@dataclass(frozen=True, slots=True)
class Master:
    """A matrix of int8 weights with what each granularity keeps of it.

    weights, fine: (tiles, blocks, outputs, block), int8 and bool; medium: (tiles, blocks) bool; gather: the channels
    that coarse keeps. `Master.of` makes one.
    """

    weights: NDArray[np.int8]
    fine: NDArray[np.bool_]
    medium: NDArray[np.bool_]
    gather: Gather

    @classmethod
    def of(
        cls,
        weights: NDArray[np.int8],
        machine: Machine,
        *,
        fine: NDArray[np.bool_],
        medium: NDArray[np.bool_],
        coarse: NDArray[np.bool_],
    ) -> Master:
        """weights, fine: (outputs, inputs); medium: (tiles, blocks); coarse: (inputs,). Padded with what isn't kept.

        Raises HardwareError for tags of other shapes.
        """
        whole = padded(weights, machine)
        tiles, blocks = whole.shape[0] // machine.outputs, whole.shape[1] // machine.block
        for name, tags, shape in (
            ("fine", fine, weights.shape),
            ("medium", medium, (tiles, blocks)),
            ("coarse", coarse, weights.shape[1:]),
        ):
            if tags.shape != shape or tags.dtype != np.bool_:
                raise HardwareError(f"{name} must be bool {shape}, not {tags.dtype} {tags.shape}")
        kept = np.zeros(whole.shape, np.bool_)
        kept[: weights.shape[0], : weights.shape[1]] = fine
        channels = np.pad(coarse, (0, whole.shape[1] - weights.shape[1]))
        cubes = (tiles, machine.outputs, blocks, machine.block)
        return cls(
            whole.reshape(cubes).transpose(0, 2, 1, 3),
            kept.reshape(cubes).transpose(0, 2, 1, 3),
            medium,
            Gather.of(channels, machine.block),
        )

    def words(self) -> NDArray[np.uint8]:
        """The master copy as bytes of its words, in order: (tiles * blocks * block, outputs + ceil(outputs / 8))."""
        outputs = self.weights.shape[2]
        values = self.weights.transpose(0, 1, 3, 2).reshape(-1, outputs).view(np.uint8)
        tags = np.packbits(self.fine.transpose(0, 1, 3, 2).reshape(-1, outputs), axis=1, bitorder="little")
        return np.concatenate([values, tags], axis=1)

    def tag_words(self) -> NDArray[np.uint32]:
        """Medium tags: ceil(blocks / 32) words a tile."""
        blocks = self.medium.shape[1]
        bits = np.pad(self.medium, ((0, 0), (0, -blocks % TAG_BITS)))
        return np.packbits(bits.reshape(-1, TAG_BITS), axis=1, bitorder="little").view("<u4").astype(np.uint32)[:, 0]

    def table_words(self) -> NDArray[np.uint8]:
        """The gather table as bytes of its entries: (entries, bytes of 11 bits a slot)."""
        rows = (self.gather.rows[:, :, None] >> np.arange(ROW_BITS) & 1).astype(np.bool_)
        bits = np.concatenate([rows.reshape(len(rows), rows.shape[1] * ROW_BITS), self.gather.present], axis=1)
        return np.packbits(bits, axis=1, bitorder="little")


@dataclass(frozen=True, slots=True)
class Group:
    """Words of the master copy that make a step, if one of their weights is kept.

    block: of inputs, or the entry of the gather table. slots: (words,) where each channel stands in its block. weights,
    kept: (words, outputs).
    """

    block: int
    slots: NDArray[np.int64]
    weights: NDArray[np.int8]
    kept: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Words of the step; 0: none is sent."""
        return int(self.kept.sum(0).max(initial=0))

    @property
    def first(self) -> int:
        """The first word of which a weight is kept; as many as there are words if none has one."""
        rows = np.flatnonzero(self.kept.any(1))
        return int(rows[0]) if rows.size else len(self.slots)


def groups(master: Master, tile: int, code: Code, *, inside: bool = False) -> Iterator[Group]:
    """What is read of the master copy for a tile, in order."""
    weights, block = master.weights[tile], master.weights.shape[3]
    if code == Code.COARSE:
        for entry, present in enumerate(master.gather.present):
            slots = np.flatnonzero(present)
            taken = weights[master.gather.rows[entry, slots].astype(np.int64), :, slots]
            yield Group(entry, slots, taken, np.ones(taken.shape, np.bool_))
        return
    compact = code == Code.FINE or inside
    chosen = np.arange(len(weights)) if code == Code.FINE else np.flatnonzero(master.medium[tile])
    for number in chosen:
        taken = weights[number].T
        kept = master.fine[tile, number].T & (taken != 0) if compact else np.ones(taken.shape, np.bool_)
        yield Group(int(number), np.arange(block), taken, kept)


def repacked(master: Master, tile: int, code: Code, *, inside: bool = False) -> Tile:
    """A tile as the reorganizer sends it: kept weights of a lane one after the other, lanes beside one another."""
    outputs = master.weights.shape[2]
    values, index, blocks, counts = [], [], [], []
    for group in groups(master, tile, code, inside=inside):
        if group.size:
            order = np.argsort(~group.kept, axis=0, kind="stable")[: group.size]
            there = np.arange(group.size)[:, None] < group.kept.sum(0)
            value = np.where(there, np.take_along_axis(group.weights, order, 0), np.int8(0))
            values.append(value)
            index.append(np.where(value != 0, group.slots[order], 0).astype(np.uint8))
            blocks.append(group.block)
            counts.append(group.size)
    if not blocks:
        nothing = np.zeros((1, outputs), np.uint8)
        return Tile(nothing.view(np.int8), nothing, np.zeros(1, np.uint16), np.ones(1, np.uint8))
    return Tile(
        np.concatenate(values),
        np.concatenate(index),
        np.array(blocks, np.uint16),
        np.array(counts, np.uint8),
        gather=code == Code.COARSE,
    )
