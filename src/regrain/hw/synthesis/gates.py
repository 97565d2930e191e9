"""Mapped netlists: what they are built of, what they do, and what changes in them, gate by gate.

A netlist is simulated with 64 independent machines in each word, every gate a unit of time late, so that changes which
are taken back within a cycle (glitches) happen as they would, in a library whose gates are all equally fast.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.synthesis.expressions import Words, evaluate, postfix
from regrain.hw.synthesis.liberty import Cell, Library

EDGE = 0.12
"""ns that an edge is taken to last where the library asks."""

Bits = NDArray[np.uint8]

MEMORY = "memory_left_out"
"""The type of cells that stand for memories which are no gates."""

_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Gate:
    """A cell of a netlist: nets by pins."""

    cell: Cell
    nets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Netlist:
    """Gates between nets; net 0 is always 0, net 1 always 1. Ports are nets from the lowest bit on.

    What is left open counts as ports too: `memories` (width, rows), and `parts` by their modules' names.
    """

    gates: tuple[Gate, ...]
    nets: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    memories: tuple[tuple[int, int], ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """Of all cells, in the library's unit."""
        return sum(gate.cell.area for gate in self.gates)

    def on(self, library: Library) -> Netlist:
        """The same gates of another library, which must have cells of the same names. Raises HardwareError if not."""
        if missing := self.cells.keys() - library.cells.keys():
            raise HardwareError(f"{library.name} must have the cell {min(missing)}, to build the same of it")
        gates = tuple(Gate(library.cells[gate.cell.name], gate.nets) for gate in self.gates)
        return replace(self, gates=gates)

    @property
    def cells(self) -> Counter[str]:
        """How many of each cell."""
        return Counter(gate.cell.name for gate in self.gates)


@dataclass(frozen=True, slots=True)
class _Group:
    """Gates of the same function: the nets they drive, and those of their inputs."""

    function: tuple[str, ...]
    outputs: NDArray[np.intp]
    inputs: Mapping[str, NDArray[np.intp]]

    @classmethod
    def of(cls, function: tuple[str, ...], output: str, gates: Sequence[Gate]) -> _Group:
        names = {symbol for symbol in function if symbol not in "!*+^01"}
        inputs = {name: np.array([gate.nets[name] for gate in gates]) for name in names}
        constants = {symbol: np.full(len(gates), int(symbol)) for symbol in function if symbol in "01"}
        return cls(function, np.array([gate.nets[output] for gate in gates]), inputs | constants)

    def __call__(self, values: Words) -> Words:
        return evaluate(self.function, {name: values[nets] for name, nets in self.inputs.items()})


@dataclass(frozen=True, slots=True)
class Energy:
    """pJ of a simulation, all machines together."""

    switched: float
    """By changes, those that are taken back included: in the gates, and of what they drive."""
    settled: float
    """The part of `switched` that is left if a net changes at most once a cycle."""
    clock: float
    """By the clock at the flip-flops' pins."""


def read(text: str, library: Library, top: str) -> Netlist:
    """A flat module of a netlist that Yosys wrote as JSON, mapped to the library.

    Raises HardwareError if it isn't.
    """
    modules = json.loads(text)["modules"]
    module = modules[top]
    numbers = {"0": 0, "x": 0, "1": 1}

    def nets(bits: Sequence[int | str]) -> tuple[int, ...]:
        return tuple(numbers.setdefault(str(bit), len(numbers) - 1) for bit in bits)

    gates, memories, parts = [], [], Counter[str]()
    ports: dict[str, dict[str, tuple[int, ...]]] = {"input": {}, "output": {}}
    for name, port in module["ports"].items():
        ports[port["direction"]][name] = nets(port["bits"])
    for name, instance in module["cells"].items():
        kind, connections = instance["type"], instance["connections"]
        if kind in library.cells:
            gates.append(Gate(library.cells[kind], {pin: nets(bits)[0] for pin, bits in connections.items()}))
            continue
        if kind == MEMORY:
            width, rows = (int(instance["parameters"][each], 2) for each in ("WIDTH", "SIZE"))
            memories.append((width, rows))
        elif kind in modules:
            parts[kind] += 1
        else:
            raise HardwareError(f"a netlist must be mapped to {library.name}, which has no {kind!r}")
        for pin, bits in connections.items():
            drives = pin == "RD_DATA" if kind == MEMORY else modules[kind]["ports"][pin]["direction"] == "output"
            ports["input" if drives else "output"][f"{name}.{pin}"] = nets(bits)
    return Netlist(tuple(gates), len(numbers) - 1, ports["input"], ports["output"], tuple(memories), parts)


class Simulation:
    """A netlist at work in 64 x `words` machines side by side. Begins with everything 0, settled."""

    def __init__(self, netlist: Netlist, words: int) -> None:
        self.netlist = netlist
        self.values: Words = np.zeros((netlist.nets, words), np.uint64)
        self.values[1] = _ALL
        self.changes = np.zeros(netlist.nets, np.int64)
        self.settled = np.zeros(netlist.nets, np.int64)
        self.cycles = 0
        self._groups, self._state = _grouped(netlist)
        self._settle()
        self.forget()

    def forget(self) -> None:
        """Count from here."""
        self.changes[:], self.settled[:], self.cycles = 0, 0, 0

    def step(self, inputs: Mapping[str, Bits]) -> dict[str, Bits]:
        """A cycle: a clock edge with these inputs, (bits, machines) from the lowest bit on; the outputs at its end."""
        before = self.values.copy()
        for d, q in self._state:
            self.values[q] = before[d]
        for name, bits in inputs.items():
            self.values[list(self.netlist.inputs[name])] = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
        self.changes += _count(self.values ^ before)
        self._settle()
        self.settled += _count(self.values ^ before)
        self.cycles += 1
        return {name: self._bits(nets) for name, nets in self.netlist.outputs.items()}

    def energy(self, library: Library) -> Energy:
        """Of the cycles that were counted. Wires cost nothing: there is no layout."""
        load = np.zeros(self.netlist.nets)
        per_change = np.zeros(self.netlist.nets)
        clock = 0.0
        pins = [
            (gate.cell, gate.cell.pins[name], net) for gate in self.netlist.gates for name, net in gate.nets.items()
        ]
        for _, pin, net in pins:
            load[net] += pin.capacitance
        for cell, pin, net in pins:
            inside = pin.energy(float(load[net]), EDGE)
            if pin.name == cell.clock:
                clock += 2 * inside + pin.capacitance * library.voltage**2
            else:
                per_change[net] += inside
        per_change += load * library.voltage**2 / 2
        cycles = self.cycles * 64 * self.values.shape[1]
        return Energy(float(self.changes @ per_change), float(self.settled @ per_change), clock * cycles)

    def _settle(self) -> None:
        for _ in range(_MOST_STEPS):
            after = [(group.outputs, group(self.values)) for group in self._groups]
            still = True
            for nets, new in after:
                different = _count(self.values[nets] ^ new)
                still &= not different.any()
                self.changes[nets] += different
                self.values[nets] = new
            if still:
                return
        raise HardwareError("a netlist must have no loop without a flip-flop: it never settles")

    def _bits(self, nets: Sequence[int]) -> Bits:
        return np.unpackbits(self.values[list(nets)].view(np.uint8), axis=1, bitorder="little")


def to_bits(numbers: NDArray[np.integer[Any]], width: int) -> Bits:
    """(width, machines) from numbers, of which the lowest bits are taken."""
    return ((numbers >> np.arange(width)[:, None]) & 1).astype(np.uint8)


def to_numbers(bits: Bits) -> NDArray[np.int64]:
    """Numbers from up to 62 bits, unsigned."""
    total: NDArray[np.int64] = (bits.astype(np.int64) << np.arange(len(bits))[:, None]).sum(axis=0)
    return total


def _grouped(netlist: Netlist) -> tuple[list[_Group], list[tuple[int, int]]]:
    """Outputs of the same function together; and (next state, output) of flip-flops."""
    groups: dict[tuple[str, str], list[Gate]] = {}
    state = []
    for gate in netlist.gates:
        for name, pin in gate.cell.pins.items():
            if pin.function is None or name not in gate.nets:
                continue
            if gate.cell.next_state is None:
                groups.setdefault((pin.function, name), []).append(gate)
            elif gate.cell.next_state in gate.nets:
                state.append((gate.nets[gate.cell.next_state], gate.nets[name]))
            else:
                raise HardwareError(f"a flip-flop's next state must be one of its pins, not {gate.cell.next_state!r}")
    return [_Group.of(postfix(text), output, gates) for (text, output), gates in groups.items()], state


def _count(words: Words) -> NDArray[np.int64]:
    """Ones of each row."""
    ones: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return ones
