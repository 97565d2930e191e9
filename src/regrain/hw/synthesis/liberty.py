"""Cell libraries in the Liberty format: areas, capacitances, functions and energies of cells; no more is read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from regrain.core.errors import HardwareError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}();:,]|[^\s{}();:,"]+')
_NOISE = re.compile(r"/\*.*?\*/|//[^\n]*|\\\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Table:
    """Energy (pJ) or time (ns) by the load of an output (pF; or the edge of the clock) and an input's edge (ns)."""

    loads: tuple[float, ...]
    edges: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, load: float, edge: float) -> float:
        """Between the listed points, linearly; outside of them, the nearest."""
        (low, high, above), (left, right, beside) = _between(self.loads, load), _between(self.edges, edge)
        rows = ((1 - beside) * row[left] + beside * row[right] for row in (self.values[low], self.values[high]))
        first, second = rows
        return (1 - above) * first + above * second


@dataclass(frozen=True, slots=True)
class Arc:
    """How an output follows an input: tables of delays and of its own edges, rising and falling."""

    delays: tuple[Table, ...]
    edges: tuple[Table, ...]

    def at(self, load: float, edge: float) -> tuple[float, float]:
        """ns until it follows, and ns of its edge: the slower of rising and falling."""
        return max(table.at(load, edge) for table in self.delays), max(table.at(load, edge) for table in self.edges)


@dataclass(frozen=True, slots=True)
class Pin:
    """An input takes energy when it changes, if the library says so; an output has a function, and energies too.

    `arcs` by the inputs that an output follows; `setup`: how long before the clock an input must stand.
    """

    name: str
    capacitance: float
    function: str | None
    energies: tuple[Table, ...]
    arcs: Mapping[str, Arc]
    setup: tuple[Table, ...]

    def energy(self, load: float, edge: float) -> float:
        """pJ of one change inside the cell: the mean over rising and falling, and over causes."""
        return fmean(table.at(load, edge) for table in self.energies) if self.energies else 0.0

    def ahead(self, edge: float) -> float:
        """ns that an input must stand before a clock's edge as steep as its own."""
        return max((table.at(edge, edge) for table in self.setup), default=0.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """`clock` and `next_state` are of a flip-flop; None where there is none."""

    name: str
    area: float
    leakage: float
    pins: Mapping[str, Pin]
    clock: str | None
    next_state: str | None


@dataclass(frozen=True, slots=True)
class Library:
    """Cells by name; areas in the library's unit, capacitances in pF, energies in pJ, leakage in nW."""

    name: str
    voltage: float
    cells: Mapping[str, Cell]


@dataclass(slots=True)
class _Group:
    """name(arguments) { attributes; lists; groups }."""

    name: str
    arguments: list[str]
    attributes: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list[_Group] = field(default_factory=list)

    def all(self, name: str) -> Iterator[_Group]:
        return (group for group in self.groups if group.name == name)


def read(path: Path) -> Library:
    """A library from its file.

    Raises HardwareError for a file that isn't one, or has other units than pF, V and nW.
    """
    try:
        top = _parse(_TOKEN.findall(_NOISE.sub(" ", path.read_text())))
        if top.name != "library":
            raise ValueError(f"begins with {top.name!r}")
        unit = [part.lower() for part in top.lists["capacitive_load_unit"]]
        if unit != ["1", "pf"] or top.attributes.get("voltage_unit") != "1V":
            raise ValueError("has other units than pF and V")
        cells = {group.arguments[0]: _cell(group) for group in top.all("cell")}
        return Library(top.arguments[0], float(top.attributes["nom_voltage"]), cells)
    except (ValueError, KeyError, IndexError) as error:
        raise HardwareError(f"{path.name} must be a Liberty library: {error}") from error


def _parse(tokens: list[str]) -> _Group:
    """The first group of a text."""
    position = 0

    def take(expected: str | None = None) -> str:
        nonlocal position
        if position == len(tokens):
            raise ValueError("ends early")
        token = tokens[position]
        position += 1
        if expected is not None and token != expected:
            raise ValueError(f"has {token!r} instead of {expected!r}")
        return token.strip('"')

    def arguments() -> list[str]:
        found = []
        take("(")
        while (word := take()) != ")":
            if word != ",":
                found.append(word)
        return found

    def statements(group: _Group) -> _Group:
        take("{")
        while (name := take()) != "}":
            if name == ";":
                continue
            if tokens[position : position + 1] == [":"]:
                take()
                group.attributes[name] = take()
                continue
            values = arguments()
            if tokens[position : position + 1] == ["{"]:
                group.groups.append(statements(_Group(name, values)))
            else:
                group.lists[name] = values
        return group

    return statements(_Group(take(), arguments()))


def _cell(group: _Group) -> Cell:
    pins = {pin.arguments[0]: _pin(pin) for pin in group.all("pin")}
    flip_flop = next(group.all("ff"), None)
    area, leakage = (float(group.attributes.get(name, 0)) for name in ("area", "cell_leakage_power"))
    clock, next_state = (
        (None, None) if flip_flop is None else (flip_flop.attributes.get(name) for name in ("clocked_on", "next_state"))
    )
    return Cell(group.arguments[0], area, leakage, pins, clock, next_state)


def _pin(group: _Group) -> Pin:
    arcs: dict[str, Arc] = {}
    setup: list[Table] = []
    for timing in group.all("timing"):
        kind = timing.attributes.get("timing_type", "combinational")
        if kind.startswith("setup"):
            setup += _tables(timing, "rise_constraint", "fall_constraint")
        elif any(timing.all("cell_rise")):
            arc = Arc(_tables(timing, "cell_rise", "cell_fall"), _tables(timing, "rise_transition", "fall_transition"))
            arcs[timing.attributes["related_pin"]] = arc
    energies = tuple(t for power in group.all("internal_power") for t in _tables(power, "rise_power", "fall_power"))
    capacitance, function = float(group.attributes.get("capacitance", 0)), group.attributes.get("function")
    return Pin(group.arguments[0], capacitance, function, energies, arcs, tuple(setup))


def _tables(group: _Group, *names: str) -> tuple[Table, ...]:
    return tuple(_table(table) for table in group.groups if table.name in names)


def _table(group: _Group) -> Table:
    """Two axes, or that of the edge alone."""
    axes = [_numbers(group.lists[name]) for name in ("index_1", "index_2") if name in group.lists]
    loads, edges = axes if len(axes) == 2 else ((0.0,), axes[0])
    flat = _numbers(group.lists["values"])
    if len(flat) != len(loads) * len(edges):
        raise ValueError("has a table of another size than its axes")
    return Table(loads, edges, tuple(flat[i : i + len(edges)] for i in range(0, len(flat), len(edges))))


def _numbers(texts: list[str]) -> tuple[float, ...]:
    return tuple(float(number) for text in texts for number in text.replace(",", " ").split())


def _between(axis: tuple[float, ...], value: float) -> tuple[int, int, float]:
    """Two neighbors and how far between them."""
    right = bisect_right(axis, value)
    if right in (0, len(axis)):
        nearest = min(right, len(axis) - 1)
        return nearest, nearest, 0.0
    return right - 1, right, (value - axis[right - 1]) / (axis[right] - axis[right - 1])
