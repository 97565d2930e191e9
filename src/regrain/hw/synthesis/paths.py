"""The longest path of a mapped netlist: delays from the library's tables, for loads of the cells' pins alone."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from regrain.core.errors import HardwareError
from regrain.hw.synthesis.gates import EDGE, Gate, Netlist


def longest(netlist: Netlist) -> float:
    """ns from an edge of the clock, or an input that changes with it, to an output or a flip-flop that must be ready.

    Rising and falling aren't told apart: each gate is as slow as the slower of both. Wires have no length.

    Raises HardwareError for gates in a loop.
    """
    load = loads(netlist)
    arrival: dict[int, tuple[float, float]] = {}
    latest = 0.0
    for gate in _ordered(netlist):
        for name, net in gate.nets.items():
            arcs = gate.cell.pins[name].arcs
            for related in arcs.keys() & gate.nets.keys():
                begin, edge = arrival.get(gate.nets[related], (0.0, EDGE))
                delay, own = arcs[related].at(load[net], edge)
                before, steepness = arrival.get(net, (0.0, 0.0))
                arrival[net] = max(before, begin + delay), max(steepness, own)
    for gate in netlist.gates:
        for name, net in gate.nets.items():
            if gate.cell.next_state == name:
                begin, edge = arrival.get(net, (0.0, EDGE))
                latest = max(latest, begin + gate.cell.pins[name].ahead(edge))
    ends = (arrival.get(net, (0.0, EDGE))[0] for nets in netlist.outputs.values() for net in nets)
    return max(latest, *ends) if netlist.outputs else latest


def loads(netlist: Netlist) -> list[float]:
    """pF of the pins on each net."""
    found = [0.0] * netlist.nets
    for gate in netlist.gates:
        for name, net in gate.nets.items():
            found[net] += gate.cell.pins[name].capacitance
    return found


def _ordered(netlist: Netlist) -> list[Gate]:
    """Gates behind those that drive them; flip-flops begin anew."""
    drivers = {
        net: number
        for number, gate in enumerate(netlist.gates)
        for name, net in gate.nets.items()
        if gate.cell.pins[name].function is not None
    }
    before: dict[int, set[int]] = {}
    for number, gate in enumerate(netlist.gates):
        nets = [] if gate.cell.next_state is not None else gate.nets.values()
        before[number] = {drivers[net] for net in nets if net in drivers} - {number}
    try:
        return [netlist.gates[number] for number in TopologicalSorter(before).static_order()]
    except CycleError as error:
        raise HardwareError("a netlist must have no loop without a flip-flop") from error
