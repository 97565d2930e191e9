"""Ports of a component as runs of 32-bit words in one row a cycle, and arrays packed into such rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Value
from amaranth.lib import wiring
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Port:
    """`width` bits that begin at word `offset` of a row, little-endian; bits above the width are 0."""

    name: str
    width: int
    signed: bool
    offset: int

    @property
    def words(self) -> int:
        """How many 32-bit words it takes."""
        return -(-self.width // 32)

    @property
    def span(self) -> slice:
        """Its words in a row."""
        return slice(self.offset, self.offset + self.words)

    def pack(self, values: ArrayLike | int, rows: int) -> Words:
        """Values of `rows` cycles as (rows, words): see `Simulation.run` for the forms they may have."""
        if type(values) is int:  # of any size: NumPy has none above 64 bits
            return np.broadcast_to(self._words_of(values), (rows, self.words))
        array = np.asarray(values)
        if array.dtype == np.bool_:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "iu":
            raise TypeError(f"port {self.name} must be given integers, not {array.dtype}")
        if array.ndim == 0:
            return self.pack(int(array), rows)
        if len(array) != rows:
            raise ValueError(f"port {self.name} must be given {rows} cycles, not {len(array)}")
        return self._pack_numbers(array) if array.ndim == 1 else self._pack_rows(array)

    def unpack(self, rows: Words) -> NDArray[Any]:
        """The port's values in rows: (cycles,) up to 64 bits, (cycles, words) of uint32 above."""
        words = rows[:, self.span]
        if self.width > 64:
            return words.copy()
        low = words[:, 0].astype(np.uint64)
        value = low if self.words == 1 else low | words[:, 1].astype(np.uint64) << np.uint64(32)
        if self.width == 64:
            return value.view(np.int64) if self.signed else value
        number = value.astype(np.int64)
        if self.signed:
            shift = np.int64(64 - self.width)
            number = number << shift >> shift
        return number

    def _words_of(self, value: int) -> Words:
        low = -(1 << self.width - 1) if self.signed or value < 0 else 0
        if not low <= value < 1 << self.width:
            raise ValueError(f"port {self.name} must be given values of {self.width} bits, not {value}")
        bits = value & (1 << self.width) - 1
        return np.array([bits >> 32 * at & 0xFFFFFFFF for at in range(self.words)], np.uint32)

    def _pack_numbers(self, array: NDArray[Any]) -> Words:
        """Numbers, one a cycle, of at most 64 bits; negative ones stand for their two's complement."""
        if array.size:
            self._words_of(int(array.min()))
            self._words_of(int(array.max()))
        raw = array.astype(np.int64).view(np.uint64) if array.dtype.kind == "i" else array.astype(np.uint64)
        if self.width < 64:
            raw = raw & np.uint64((1 << self.width) - 1)
        packed = np.zeros((len(array), self.words), np.uint32)
        packed[:, 0] = (raw & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        if self.words > 1:
            wide = raw >> np.uint64(32)
            packed[:, 1] = wide.astype(np.uint32)
        return packed

    def _pack_rows(self, array: NDArray[Any]) -> Words:
        """Little-endian words or bytes of each cycle."""
        per_word = array.dtype.itemsize
        count = -(-self.width // (8 * per_word))
        if array.ndim != 2 or array.dtype not in (np.uint8, np.uint32) or array.shape[1] != count:
            raise ValueError(
                f"port {self.name} of {self.width} bits must be given (cycles,) integers, (cycles, "
                f"{-(-self.width // 8)}) uint8 or (cycles, {self.words}) uint32, not {array.shape} {array.dtype}"
            )
        packed = np.zeros((len(array), 4 * self.words), np.uint8)
        packed[:, : count * per_word] = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).view(np.uint8)
        words = packed.view("<u4").astype(np.uint32)
        spare = 32 * self.words - self.width
        if spare and (words[:, -1] >> np.uint32(32 - spare)).any():
            raise ValueError(f"port {self.name} must be given values of {self.width} bits: bits above are set")
        return words


@dataclass(frozen=True, slots=True)
class Layout:
    """All ports of one direction, in the signature's order."""

    ports: dict[str, Port]

    @property
    def words(self) -> int:
        """Words of a row; at least 1, so that no row is empty."""
        return max(1, sum(port.words for port in self.ports.values()))

    def __getitem__(self, name: str) -> Port:
        try:
            return self.ports[name]
        except KeyError:
            raise KeyError(f"port must be one of {', '.join(self.ports)}, not {name!r}") from None

    @classmethod
    def of(cls, members: Iterable[tuple[str, int, bool]]) -> Layout:
        """From (name, width, signed) of each port; ports of no bits are left out."""
        ports: dict[str, Port] = {}
        offset = 0
        for name, width, signed in members:
            if width:
                ports[name] = Port(name, width, signed, offset)
                offset += ports[name].words
        return cls(ports)


def signature_of(component: Any) -> tuple[Layout, Layout, dict[str, tuple[Any, None]]]:
    """Layouts of a component's inputs and outputs; and its ports for Amaranth's back ends, named `i<offset>` and
    `o<offset>`, since not every name of a signature is one in C++. The back ends find directions by themselves.
    """
    members = [
        ("__".join(map(str, path)), Value.cast(value), member.flow == wiring.In)
        for path, member, value in component.signature.flatten(component)
    ]
    inputs, outputs = (
        Layout.of((name, len(value), value.shape().signed) for name, value, is_input in members if is_input == wanted)
        for wanted in (True, False)
    )
    ports = {
        f"i{inputs[name].offset}" if is_input else f"o{outputs[name].offset}": (value, None)
        for name, value, is_input in members
        if len(value)
    }
    return inputs, outputs, ports
