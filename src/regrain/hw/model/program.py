"""A matrix of int8 weights as what the array runs: tiles of words, at a granularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regrain.core.errors import HardwareError
from regrain.hw.machine import MOST_BLOCKS, Machine

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tile:
    """The weights of `outputs` output channels, in the order in which the array takes them.

    values, index: (words, outputs) int8 and uint8: for each lane a weight, and the activation of the held block that it
    meets. A lane without a weight has 0 and 0. blocks, counts: (steps,): which block of activations a step holds, and
    for how many words, 1 to `block`. `listed`: the array reads the blocks from a list; else they are 0, 1, 2 ... with
    one count. `gather`: a block is a row of the matrix' gather table.
    """

    values: NDArray[np.int8]
    index: NDArray[np.uint8]
    blocks: NDArray[np.uint16]
    counts: NDArray[np.uint8]
    listed: bool = True
    gather: bool = False

    @property
    def words(self) -> int:
        """Cycles of a pass."""
        return len(self.values)

    @property
    def steps(self) -> int:
        """Blocks of activations that a pass reads."""
        return len(self.blocks)


@dataclass(frozen=True, slots=True)
class Gather:
    """Input channels put together into blocks: slot s of one holds channel `block * rows[b, s] + s`, if `present`.

    A channel stays in its slot, which is its bank of the activation memory: a block is read in one cycle.
    rows, present: (steps, block).
    """

    rows: NDArray[np.uint16]
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, keep: NDArray[np.bool_], block: int) -> Gather:
        """The fewest blocks that hold the channels kept: as many as the fullest bank has; full ones come first."""
        banks = [np.flatnonzero(keep[slot::block]) for slot in range(block)]
        steps = max(len(bank) for bank in banks)
        rows, present = np.zeros((steps, block), np.uint16), np.zeros((steps, block), np.bool_)
        for slot, bank in enumerate(banks):
            rows[: len(bank), slot], present[: len(bank), slot] = bank, True
        return cls(rows, present)


@dataclass(frozen=True, slots=True)
class Program:
    """All that the array needs of one matrix. `tiles[i]` makes the output channels from `outputs * tile_numbers[i]` on;
    what no tile makes is 0. `shape` is (outputs, inputs) before padding.
    """

    shape: tuple[int, int]
    tiles: tuple[Tile, ...]
    tile_numbers: tuple[int, ...]
    gather: Gather | None = None

    @property
    def words(self) -> int:
        """Cycles that all tiles take for one tile of tokens, without stalls."""
        return sum(tile.words for tile in self.tiles)


def padded(weights: NDArray[np.int8], machine: Machine) -> NDArray[np.int8]:
    """(outputs, inputs) with zeros to whole tiles and whole blocks."""
    rows, columns = weights.shape
    return np.pad(weights, ((0, -rows % machine.outputs), (0, -columns % machine.block)))


def dense(weights: NDArray[np.int8], machine: Machine) -> Program:
    """Every weight takes its cycle: (outputs, inputs) int8."""
    cubes = _cubes(_checked(weights, machine), machine)
    return _program(weights, [_tile(cube) for cube in cubes], machine)


def fine(weights: NDArray[np.int8], machine: Machine, *, count: int | None = None) -> Program:
    """Weights that are not zero. A block takes as many cycles as the lane with most of them; `count`: all blocks take
    so many (N of M), and nothing is listed. Raises HardwareError if a block has more.
    """
    cubes = _cubes(_checked(weights, machine), machine)
    most = int((cubes != 0).sum(3).max(initial=0))
    if count is not None and not most <= count <= machine.block:
        raise HardwareError(f"{count}:{machine.block} must have room for every block's weights; one lane has {most}")
    return _program(weights, [_compacted(cube, cube != 0, count) for cube in cubes], machine)


def blocks(
    weights: NDArray[np.int8], machine: Machine, *, keep: NDArray[np.bool_] | None = None, inside: bool = False
) -> Program:
    """Blocks of `outputs` by `block` weights: those that `keep`, (tiles, blocks), says, or that hold a weight that
    isn't zero. `inside`: weights within them that are zero take no cycle where all lanes allow it.
    """
    cubes = _cubes(_checked(weights, machine), machine)
    kept = (cubes != 0).any((2, 3)) if keep is None else keep
    tiles = []
    for cube, mask in zip(cubes, kept, strict=True):
        if inside:
            tiles.append(_compacted(cube * mask[:, None, None], (cube != 0) & mask[:, None, None], None))
            continue
        chosen = np.flatnonzero(mask).astype(np.uint16)
        tile = _tile(cube[chosen])
        tiles.append(Tile(tile.values, tile.index, chosen, tile.counts) if chosen.size else _nothing(machine))
    return _program(weights, tiles, machine)


def channels(weights: NDArray[np.int8], machine: Machine, *, keep: NDArray[np.bool_] | None = None) -> Program:
    """Input channels that `keep`, (inputs,), says or that hold a weight that isn't zero, gathered into full blocks.
    Tiles whose output channels are all zero are left out.
    """
    whole = _checked(weights, machine)
    kept = (whole != 0).any(0)
    if keep is not None:
        kept = np.pad(keep, (0, len(kept) - len(keep)))
    table = Gather.of(kept, machine.block)
    steps, slots = np.nonzero(table.present)
    gathered = whole[:, table.rows[steps, slots].astype(np.int64) * machine.block + slots]
    words = gathered.reshape(len(whole) // machine.outputs, machine.outputs, len(slots)).transpose(0, 2, 1)
    index = np.where(words != 0, slots.astype(np.uint8)[:, None], np.uint8(0))
    counts = table.present.sum(1).astype(np.uint8)
    order = np.arange(len(counts), dtype=np.uint16)
    numbers = [int(number) for number in np.flatnonzero(words.any((1, 2)))]
    tiles = [Tile(np.ascontiguousarray(words[n]), index[n], order, counts, gather=True) for n in numbers]
    return _program(weights, tiles, machine, tuple(numbers), table)


def _checked(weights: NDArray[np.int8], machine: Machine) -> NDArray[np.int8]:
    if weights.ndim != 2 or weights.dtype != np.int8 or 0 in weights.shape:
        raise HardwareError(f"weights must be a matrix of int8 that isn't empty, not {weights.dtype} {weights.shape}")
    most = int(np.abs(weights.astype(np.int64)).sum(1).max())
    if most > machine.most_weight:
        raise HardwareError(
            f"the absolute weights of an output must sum to at most {machine.most_weight}, not {most}, or an "
            f"accumulator of {machine.accumulator} bits could overflow: widen the accumulator or use fewer levels"
        )
    whole = padded(weights, machine)
    if whole.shape[1] // machine.block > MOST_BLOCKS:
        raise HardwareError(f"a matrix must have at most {MOST_BLOCKS * machine.block} inputs, not {weights.shape[1]}")
    return whole


def _cubes(whole: NDArray[np.int8], machine: Machine) -> NDArray[np.int8]:
    """(tiles, blocks, lanes, positions in the block)."""
    tiles, steps = whole.shape[0] // machine.outputs, whole.shape[1] // machine.block
    return whole.reshape(tiles, machine.outputs, steps, machine.block).transpose(0, 2, 1, 3)


def _tile(cube: NDArray[np.int8]) -> Tile:
    """A tile that takes all positions of all its blocks, unlisted."""
    steps, lanes, block = cube.shape
    values = cube.transpose(0, 2, 1).reshape(-1, lanes)
    index = np.tile(np.arange(block, dtype=np.uint8), steps)[:, None]
    return Tile(
        np.ascontiguousarray(values),
        np.where(values != 0, index, np.uint8(0)),
        np.arange(steps, dtype=np.uint16),
        np.full(steps, block, np.uint8),
        listed=False,
    )


def _compacted(cube: NDArray[np.int8], kept: NDArray[np.bool_], count: int | None) -> Tile:
    """A tile whose lanes take their kept weights one after the other; in each block the fullest lane sets the pace."""
    steps, lanes, block = cube.shape
    order = np.argsort(~kept, axis=2, kind="stable").astype(np.uint8)
    there = np.take_along_axis(kept, order, 2)
    values = np.where(there, np.take_along_axis(cube, order, 2), np.int8(0)).transpose(0, 2, 1)
    index = np.where(there, order, np.uint8(0)).transpose(0, 2, 1)
    most = kept.sum(2).max(1, initial=0)
    counts = most if count is None else np.full(steps, count)
    taken = np.arange(block) < counts[:, None]
    present = np.flatnonzero(counts)
    if not present.size:
        return _nothing_of(lanes)
    return Tile(
        values[taken], index[taken], present.astype(np.uint16), counts[present].astype(np.uint8), listed=count is None
    )


def _nothing(machine: Machine) -> Tile:
    return _nothing_of(machine.outputs)


def _nothing_of(lanes: int) -> Tile:
    """A tile that keeps nothing takes one cycle, so that its outputs are zeros."""
    return Tile(
        np.zeros((1, lanes), np.int8), np.zeros((1, lanes), np.uint8), np.zeros(1, np.uint16), np.ones(1, np.uint8)
    )


def _program(
    weights: NDArray[np.int8],
    tiles: list[Tile],
    machine: Machine,
    numbers: tuple[int, ...] | None = None,
    gather: Gather | None = None,
) -> Program:
    for tile in tiles:
        if tile.words > machine.bank_words or (tile.listed and tile.steps > machine.list_entries):
            raise HardwareError(
                f"a tile must have at most {machine.bank_words} words and {machine.list_entries} steps, not "
                f"{tile.words} and {tile.steps}: use larger banks, or drop more of the matrix"
            )
    rows, columns = weights.shape
    return Program((rows, columns), tuple(tiles), tuple(range(len(tiles))) if numbers is None else numbers, gather)
