"""Reconstruct instructions, one after the other, in plain NumPy: what the reconstruction unit must do."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.reconstruction.instructions import Fault, Instruction, Op
from regrain.hw.reconstruction.scales import requantizer, rescale, row_codes
from regrain.kernels.reference_planes import LANES, unpack
from regrain.kernels.reference_tables import TOTAL, Alias, alias

_ESCAPE = 15
_VALUES, _TABLE, _STATES = 16, 17, 128  # bytes


class ProgramError(HardwareError):
    """A program, or the payload it reads, is not sound."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"a program must be sound, and so must its payload: {fault.name.lower()} is at fault")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """`weights` (rows, columns); `channels`: (factor, shift) of each row, if the program asks for them; `rounded`:
    whether a weight was rounded to its row's step.
    """

    weights: NDArray[np.int8]
    channels: tuple[tuple[int, int], ...]
    rounded: bool


@dataclass
class _Grid:
    """A mask or scale codes: the operands, and the words that came so far."""

    operands: Instruction
    wanted: int
    words: list[NDArray[np.int64]] = field(default_factory=list)

    def numbers(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *self.words])

    def fits(self, rows: int, columns: int) -> bool:
        """Whether it covers the matrix."""
        across, down = -(-columns // self.operands["across"]), -(-rows // self.operands["down"])
        return self.operands["grid"] == across and self.operands["count"] == across * down


def execute(
    program: Sequence[int], memory: bytes, *, mask: int = 1 << 18, codes: int = 1 << 14, rows: int = 1 << 12
) -> Outcome:
    """Run a program, 128 bits an instruction, from its first one to END. The sizes are those of `Expander`.

    Raises ProgramError where the reconstruction unit raises a fault, if the memory of the payload ends with `memory`.
    """
    machine = _Machine(memory, mask, codes, rows)
    for bits in program:
        try:
            instruction = Instruction.parse(bits)
        except HardwareError:
            raise ProgramError(Fault.INSTRUCTION) from None
        if instruction.op is Op.END:
            return machine.end(instruction)
        machine.step(instruction)
    raise ProgramError(Fault.INSTRUCTION)


def _require(holds: object, fault: Fault) -> None:
    if not holds:
        raise ProgramError(fault)


class _Machine:
    """The state between two instructions."""

    def __init__(self, memory: bytes, mask: int, codes: int, rows: int) -> None:
        self.memory, self.most = memory, {Op.MASK: 4 * mask, Op.SCALE: codes}
        self.most_rows = rows
        self.matrix: Instruction | None = None
        self.field: Instruction | None = None
        self.values: NDArray[np.int64] = np.zeros(_VALUES, np.int64)
        self.tables: dict[int, Alias] = {}
        self.grids: dict[Op, _Grid] = {}
        self.flags: Instruction | None = None  # VALUES
        self.sink: Op | None = None
        self.kept: list[NDArray[np.int64]] = []
        self.channels: tuple[tuple[int, int], ...] = ()

    def step(self, i: Instruction) -> None:
        """Anything but END."""
        {
            Op.MATRIX: self._matrix, Op.FIELD: self._field, Op.TABLE: self._table, Op.DECODE: self._decode,
            Op.UNPACK: self._unpack, Op.MASK: self._grid, Op.SCALE: self._grid, Op.VALUES: self._values,
            Op.CHANNELS: self._channels,
        }[i.op](i)  # fmt: skip

    def end(self, i: Instruction) -> Outcome:
        """END."""
        self._complete()
        _require(self.sink is Op.VALUES, Fault.ORDER)
        assert self.matrix is not None
        assert self.flags is not None
        shape = self.matrix["rows"], self.matrix["columns"]
        for op, used in ((Op.MASK, self.flags["masked"]), (Op.SCALE, self.flags["rescaled"])):
            _require(not used or self.grids[op].fits(*shape), Fault.COUNT)
        keep = self._units(*shape) if self.flags["masked"] else np.ones(shape, np.bool_)
        kept = np.concatenate([np.zeros(0, np.int64), *self.kept])
        _require(kept.size == np.count_nonzero(keep), Fault.COUNT)
        weights = np.zeros(shape, np.int8)
        weights[keep] = kept.astype(np.int8)
        changed: NDArray[np.bool_] = np.zeros(1, np.bool_)
        if self.flags["rescaled"]:
            scale = self.grids[Op.SCALE].operands
            weights, changed = rescale(weights, self._codes(), (scale["down"], scale["across"]))
        _require(binascii.crc_hqx(weights.tobytes(), 0xFFFF) == i["checksum"], Fault.CHECKSUM)
        return Outcome(weights, self.channels, bool(changed.any()))

    def _units(self, rows: int, columns: int) -> NDArray[np.bool_]:
        grid = self.grids[Op.MASK]
        bits = (grid.numbers()[:, None] >> np.arange(4) & 1).reshape(-1)[: grid.operands["count"]].astype(np.bool_)
        units = bits.reshape(-1, grid.operands["grid"])
        return units.repeat(grid.operands["down"], 0)[:rows].repeat(grid.operands["across"], 1)[:, :columns]

    def _codes(self) -> NDArray[np.int16]:
        grid = self.grids[Op.SCALE]
        return grid.numbers().astype(np.int16).reshape(-1, grid.operands["grid"])

    def _complete(self) -> None:
        """What was begun must have all its words before something else begins."""
        if self.sink in self.grids:
            grid = self.grids[self.sink]
            _require(grid.numbers().size == grid.wanted, Fault.COUNT)

    def _matrix(self, i: Instruction) -> None:
        _require(self.matrix is None, Fault.ORDER)
        self.matrix = i

    def _grid(self, i: Instruction) -> None:
        self._complete()
        _require(self.matrix and self.sink is not Op.VALUES and i.op not in self.grids, Fault.ORDER)
        _require(i["count"] <= self.most[i.op], Fault.INSTRUCTION)
        self.grids[i.op] = _Grid(i, -(-i["count"] // 4) if i.op is Op.MASK else i["count"])
        self.sink, self.field = i.op, None

    def _values(self, i: Instruction) -> None:
        self._complete()
        _require(self.matrix and self.sink is not Op.VALUES, Fault.ORDER)
        _require(not i["masked"] or Op.MASK in self.grids, Fault.ORDER)
        _require(not i["rescaled"] or Op.SCALE in self.grids, Fault.ORDER)
        self.flags, self.sink, self.field = i, Op.VALUES, None

    def _channels(self, i: Instruction) -> None:
        self._complete()
        _require(self.matrix and self.sink is not Op.VALUES and Op.SCALE in self.grids, Fault.ORDER)
        assert self.matrix is not None
        offset = i["offset"] - (i["offset"] >> 11 << 12)
        grid = self.grids[Op.SCALE]
        codes = row_codes(self._codes()).repeat(grid.operands["down"])[: self.matrix["rows"]]
        try:
            self.channels = tuple(requantizer(int(code) + offset) for code in codes)
        except HardwareError:
            raise ProgramError(Fault.SCALE) from None

    def _bytes(self, address: int, size: int) -> NDArray[np.uint8]:
        _require(address + size <= len(self.memory), Fault.LENGTH)
        return np.frombuffer(self.memory, np.uint8, size, address)

    def _field(self, i: Instruction) -> None:
        _require(self.sink, Fault.ORDER)
        _require(i["raw_bits"] <= (16 if i["wide"] else 8), Fault.INSTRUCTION)
        self.field, self.tables = i, {}
        self.values = self._bytes(i["address"], _VALUES).astype(np.int64)
        _require(not (self.values >> self._field_bits).any(), Fault.ESCAPE)

    @property
    def _field_bits(self) -> int:
        assert self.field is not None
        return min(8, (16 if self.field["wide"] else 8) - self.field["raw_bits"])

    def _table(self, i: Instruction) -> None:
        _require(self.field, Fault.ORDER)
        assert self.field is not None
        raw_bits, *freq = self._bytes(i["address"], _TABLE).tolist()
        sound = raw_bits == self.field["raw_bits"] and sum(freq) == TOTAL and not any(freq[self.field["alphabet"] :])
        _require(sound, Fault.STREAM)
        self.tables[i["slot"]] = alias(tuple(freq))

    def _unpack(self, i: Instruction) -> None:
        _require(self.sink and i["wide"] == (self.sink is Op.SCALE), Fault.ORDER)
        size = -(-i["words"] * i["width"] // 8)
        bits = np.unpackbits(self._bytes(i["address"], size), bitorder="little")
        used = i["words"] * i["width"]
        _require(not bits[used:].any(), Fault.LENGTH)
        numbers = bits[:used].reshape(i["words"], i["width"]).astype(np.int64) << np.arange(i["width"])
        self._sink(i["base"] + numbers.sum(axis=1))

    def _decode(self, i: Instruction) -> None:
        _require(self.field and self.field["wide"] == (self.sink is Op.SCALE), Fault.ORDER)
        assert self.field is not None
        _require(all(slot in self.tables for slot in range(i["tables"])), Fault.ORDER)
        k, steps = self.field["raw_bits"], -(-i["words"] // LANES)
        planes = 8 * k * steps - (LANES if k >= 8 else 0)
        first = i["length"] - i["escapes"] - planes
        _require(first >= _STATES, Fault.LENGTH)
        block = self._bytes(i["address"], i["length"])
        symbols, carried = self._symbols(block[:first], steps, i)
        raw_bytes = block[first : first + planes]
        if k >= 8:
            hole = LANES * (steps - 1)
            raw_bytes = np.concatenate([raw_bytes[:hole], carried, raw_bytes[hole:]])
        raw = unpack(raw_bytes, LANES * steps, k).astype(np.int64)[: i["words"]]
        symbols = symbols[: i["words"]]
        fields, escapes = self.values[symbols], block[first + planes :]
        places = (symbols == _ESCAPE) & bool(self.field["escape"])
        _require(np.count_nonzero(places) == escapes.size and not (escapes >> self._field_bits).any(), Fault.ESCAPE)
        fields[places] = escapes
        self._sink(self.field["base"] + (fields << k | raw))

    def _symbols(
        self, data: NDArray[np.uint8], steps: int, i: Instruction
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The symbols of a block's steps, and the bytes that the states carried."""
        tables = [self.tables[slot] for slot in range(i["tables"])]
        if i["tables"] > 1:
            _require(i["rows"] >= 1 and i["row_words"] >= LANES, Fault.STREAM)
            pairs = data[: -(-i["rows"] // 2)]
            classes = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)
            _require((classes < i["tables"]).all() and not classes[i["rows"] :].any(), Fault.STREAM)
            at = np.arange(steps) * LANES // i["row_words"]
            _require(at[-1] < i["rows"] and data.size >= pairs.size + _STATES, Fault.STREAM)
            tables, data = [tables[c] for c in classes], data[pairs.size :]
        else:
            at = np.zeros(steps, np.int64)
        x, stream = data[:_STATES].view("<u2").astype(np.uint32), data[_STATES:]
        _require(x.min() >= TOTAL, Fault.STREAM)
        symbols, used = np.empty((steps, LANES), np.uint8), 0
        for step in range(steps):
            table, slot = tables[at[step]], x & (TOTAL - 1)
            symbols[step] = table.symbol[slot]
            x = table.freq[slot] * (x >> 8) + table.offset[slot]
            short = x < TOTAL
            needed = int(np.count_nonzero(short))
            _require(used + needed <= stream.size, Fault.STREAM)
            x[short] = x[short] << 8 | stream[used : used + needed]
            used += needed
        carries = self.field is not None and self.field["raw_bits"] >= 8
        _require(used == stream.size and (x >> 8 == 1).all() and (carries or not (x & 255).any()), Fault.STREAM)
        return symbols.reshape(-1), x.astype(np.uint8)

    def _sink(self, words: NDArray[np.int64]) -> None:
        """Words, modulo 2^16, go where the last MASK, SCALE or VALUES said."""
        words = words & 0xFFFF
        if self.sink is Op.VALUES:
            self.kept.append((words & 255 ^ 128) - 128)
            return
        assert self.sink is not None
        grid = self.grids[self.sink]
        before = grid.numbers().size
        _require(before + words.size <= grid.wanted, Fault.COUNT)
        if self.sink is Op.MASK:
            units = np.minimum(4, grid.operands["count"] - 4 * (before + np.arange(words.size)))
            _require(not (words >> units).any(), Fault.WORD)
        else:
            words = (words ^ 0x8000) - 0x8000
            _require((words >= -1008).all() and (words <= 1023).all(), Fault.WORD)
            end = (before + words.size - 1) // grid.operands["grid"]
            _require(end < self.most_rows, Fault.INSTRUCTION)
        grid.words.append(words)
