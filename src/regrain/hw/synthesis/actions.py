"""Energy of what the machine does, action by action: small netlists at work on given numbers, glitches included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from numpy.typing import NDArray

from regrain.hw.synthesis import yosys
from regrain.hw.synthesis.gates import Energy, Netlist, Simulation, to_bits
from regrain.hw.synthesis.liberty import Library

if TYPE_CHECKING:
    from regrain.hw.machine import Machine

Stream = Mapping[str, NDArray[np.int64]]
"""For each input (cycles, machines): 64 machines, or a multiple."""


@dataclass(frozen=True, slots=True)
class Cost:
    """pJ of one action, and of what of it would be left without glitches."""

    pj: float
    settled: float


def run(netlist: Netlist, library: Library, stream: Stream) -> tuple[Energy, int]:
    """Energy of all cycles but the first, and how many there were, over all machines."""
    cycles, machines = next(iter(stream.values())).shape
    simulation = Simulation(netlist, machines // 64)
    for cycle in range(cycles):
        simulation.step({name: to_bits(numbers[cycle], len(netlist.inputs[name])) for name, numbers in stream.items()})
        if not cycle:
            simulation.forget()
    return simulation.energy(library), (cycles - 1) * machines


def costs(weights: NDArray[np.int8], activations: NDArray[np.int8], path: Path, library: Library) -> dict[str, Cost]:
    """Of every action that is made of gates. weights and activations (cycles, machines): what meets in each cycle.

    multiply: both operands are new. add: such products to the sum so far. select: one of eight activations by a new
    index each cycle; the eight stay for eight cycles. register: a bit of a byte that is new each cycle, its clock
    included. rescale: such sums to bytes. square: such a byte to the monitor's two sums.
    """
    found = {}
    streams = _streams(weights.astype(np.int64), activations.astype(np.int64))
    for name, (build, actions) in _BLOCKS.items():
        module, ports = build()
        netlist = yosys.to_cells(rtlil.convert(module, name=name, ports=ports, emit_src=False), name, path, library)
        energy, cycles = run(netlist, library, {port: streams[port] for port in netlist.inputs if port in streams})
        number = cycles * actions
        found[name] = Cost((energy.switched + energy.clock) / number, (energy.settled + energy.clock) / number)
    return found


def _streams(weights: NDArray[np.int64], activations: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Inputs by name, as unsigned numbers are cut from them."""
    products = weights * activations
    sums = np.cumsum(products, axis=0)
    held = np.repeat(activations[::8], 8, axis=0)[: len(activations)]
    cycle = np.arange(len(weights))[:, None]
    machine = np.arange(weights.shape[1])
    return {
        "weight": weights,
        "activation": activations,
        "product": products,
        "sum": sums - products,
        **{f"activation_{place}": np.roll(held, place, axis=1) for place in range(8)},
        "index": (cycle * 3 + machine) % 8,
        "byte": activations,
        "total": sums,
        "bias": np.broadcast_to(machine * 37 - 2000, weights.shape),
        "factor": np.broadcast_to(20000 + machine * 11, weights.shape),
        "squares": np.cumsum(activations**2, axis=0) - activations**2,
        "amounts": np.cumsum(activations, axis=0) - activations,
    }


Ports = list[Any]


def _multiply() -> tuple[Any, Ports]:
    m, weight, activation = Module(), Signal(signed(8), name="weight"), Signal(signed(8), name="activation")
    out = Signal(signed(16), name="out")
    m.d.comb += out.eq(weight * activation)
    return m, [weight, activation, out]


def _add() -> tuple[Any, Ports]:
    m, total, product = Module(), Signal(signed(24), name="sum"), Signal(signed(16), name="product")
    out = Signal(signed(24), name="out")
    m.d.comb += out.eq(total + product)
    return m, [total, product, out]


def _select() -> tuple[Any, Ports]:
    m, index, out = Module(), Signal(3, name="index"), Signal(8, name="out")
    block = [Signal(8, name=f"activation_{place}") for place in range(8)]
    m.d.comb += out.eq(Array(block)[index])
    return m, [*block, index, out]


def _register() -> tuple[Any, Ports]:
    m, byte, first, second = Module(), Signal(8, name="byte"), Signal(8), Signal(8, name="out")
    m.d.sync += [first.eq(byte), second.eq(first)]
    return m, [byte, second]


def _rescale() -> tuple[Any, Ports]:
    m, total, bias = Module(), Signal(signed(24), name="total"), Signal(signed(24), name="bias")
    factor, out, scaled = Signal(16, name="factor"), Signal(signed(8), name="out"), Signal(signed(42))
    m.d.comb += scaled.eq(((total + bias) * factor + (1 << 23)) >> 24)
    m.d.comb += out.eq(Mux(scaled > 127, 127, Mux(scaled < -128, -128, scaled)))
    return m, [total, bias, factor, out]


def _square() -> tuple[Any, Ports]:
    m, byte, squares = Module(), Signal(signed(8), name="byte"), Signal(27, name="squares")
    amounts, out = Signal(signed(20), name="amounts"), Signal(47, name="out")
    m.d.comb += out.eq(Cat((squares + byte * byte)[:27], (amounts + byte)[:20]))
    return m, [byte, squares, amounts, out]


_BLOCKS: Mapping[str, tuple[Callable[[], tuple[Any, Ports]], int]] = {
    "multiply": (_multiply, 1),
    "add": (_add, 1),
    "select": (_select, 1),
    "register": (_register, 16),
    "rescale": (_rescale, 1),
    "square": (_square, 1),
}
"""What builds an action's circuit, and how many of it that circuit does in a cycle."""


def element(netlist: Netlist, library: Library, machine: Machine, stream: Stream) -> tuple[Energy, int]:
    """As `run`, of a whole processing element: `PE`, which takes a block of activations every `machine.block` cycles,
    or `DensePE`, which takes one of them a cycle.

    stream: `weight_0`, `index_0` and `live_0` by lane, `activation_0` by place in the block, and `active`.
    """
    cycles, machines = stream["active"].shape
    simulation = Simulation(netlist, machines // 64)
    nothing = np.zeros((3, machines), np.uint8)
    dense = len(netlist.inputs["activations"]) == 8
    members = (("weight", 8), *(() if dense else (("index", machine.index_bits),)), ("live", 1))
    for cycle in range(cycles):
        place = cycle % machine.block
        lanes = [
            to_bits(stream[f"{name}_{lane}"][cycle], width) for lane in range(machine.lanes) for name, width in members
        ]
        taken = [place] if dense else range(machine.block)
        block = [to_bits(stream[f"activation_{each}"][cycle], 8) for each in taken]
        active = to_bits(stream["active"][cycle], 1)
        load = np.zeros_like(active) if place else active
        ports = {"token": [load, active, nothing], "weights": lanes, "activations": block}
        simulation.step({name: np.concatenate(parts) for name, parts in ports.items()})
        if not cycle:
            simulation.forget()
    return simulation.energy(library), (cycles - 1) * machines
