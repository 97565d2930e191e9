"""Cell libraries, mapped netlists, their paths and energies: by hand on a small library, and on mapped circuits."""

import json
import re

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.machine import Machine
from regrain.hw.rtl.dense_pe import DensePE
from regrain.hw.rtl.pe import PE
from regrain.hw.synthesis import actions, gates, liberty, paths, yosys
from regrain.hw.synthesis.expressions import evaluate, postfix
from regrain.hw.synthesis.gates import Simulation, to_bits, to_numbers


def table(name, *rows):
    """A table of loads and edges, or of edges alone, whose rows are the same for all edges."""
    axes = 'index_1 ("0.0, 0.1"); index_2 ("0.1, 0.3");' if len(rows) == 2 else 'index_1 ("0.1, 0.3");'
    return f"{name}(t{len(rows)}) {{ {axes} values ({', '.join(chr(34) + row + chr(34) for row in rows)}); }}\n"


def power(*values):
    row = ", ".join(map(str, values))
    return f"internal_power() {{ {table('rise_power', row)} {table('fall_power', row)} }}\n"


def delay(pin, light, heavy, kind="combinational"):
    rows = [f"{light}, {light}", f"{heavy}, {heavy}"]
    tables = "".join(table(name, *rows) for name in ("cell_rise", "cell_fall"))
    tables += "".join(table(name, "0.1, 0.1", "0.1, 0.1") for name in ("rise_transition", "fall_transition"))
    sense = "non_unate" if kind != "combinational" else "negative_unate"
    return f'timing() {{ related_pin : "{pin}"; timing_type : {kind}; timing_sense : {sense}; {tables} }}\n'


def gate(name, area, inputs, function):
    pins = "".join(f"pin({pin}) {{ direction : input; capacitance : 0.01; }}\n" for pin in inputs)
    arcs = "".join(delay(pin, 1.0, 3.0) for pin in inputs)
    out = f'pin(Y) {{ direction : output; max_capacitance : 1; function : "{function}"; {arcs} {power(0.5, 0.5)} }}'
    return f"cell ({name}) {{ area : {area}; cell_leakage_power : 0.1; {pins} {out} }}\n"


LIBRARY = (
    """/* a comment { */ library(tiny) { delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V";
  capacitive_load_unit (1, pf); nom_voltage : 2; default_max_transition : 9;
  lu_table_template(t1) { variable_1 : input_net_transition; index_1 ("0.1, 0.3"); }
  lu_table_template(t2) { variable_1 : total_output_net_capacitance; variable_2 : input_net_transition;
    index_1 ("0.0, 0.1"); \\
    index_2 ("0.1, 0.3"); }
"""
    + gate("INV", 1, "A", "(!A)")
    + gate("BUF", 1.5, "A", "A")
    + gate("NAND2", 2, "AB", "(!(A B))")
    + gate("NOR2", 2, "AB", "(!(A+B))")
    + gate("XOR2", 3, "AB", "(A^B)")
    + 'cell (DFF) { area : 8; ff (IQ, IQN) { next_state : "D"; clocked_on : "CLK"; }\n'
    + f"pin(CLK) {{ direction : input; clock : true; capacitance : 0.02; {power(0.1, 0.3)} }}\n"
    + 'pin(D) { direction : input; capacitance : 0.01; timing() { related_pin : "CLK"; timing_type : setup_rising;\n'
    + table("rise_constraint", "0.25, 0.25", "0.25, 0.25")
    + "} }\n"
    + f'pin(Q) {{ direction : output; function : "IQ"; {delay("CLK", 0.5, 0.5, "rising_edge")} {power(1, 1)} }} }} }}'
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "tiny.lib"
    path.write_text(LIBRARY)
    return path, liberty.read(path)


def mapped(tiny, build, **ports):
    """A module of ports a, b ... and what `build` makes of it, as gates."""
    m = Module()
    signals = [Signal(shape, name=name) for name, shape in ports.items()]
    out = build(m, *signals)
    text = rtlil.convert(m, name="design", ports=[*signals, out], emit_src=False)
    return yosys.to_cells(text, "design", *tiny)


def chain(*kinds):
    """Gates one after the other: kinds of cells, or FF."""
    cells = {}
    for number, kind in enumerate(kinds):
        pins = {"CLK": [2], "D": [10 + number], "Q": [11 + number]}
        cells[str(number)] = {
            "type": kind,
            "connections": pins if kind == "DFF" else {"A": [10 + number], "Y": [11 + number]},
        }
    ports = {
        "clk": {"direction": "input", "bits": [2]},
        "a": {"direction": "input", "bits": [10]},
        "y": {"direction": "output", "bits": [10 + len(kinds)]},
    }
    return json.dumps({"modules": {"design": {"ports": ports, "cells": cells}}})


def test_a_library_is_read(tiny):
    library = tiny[1]
    assert (library.name, library.voltage, sorted(library.cells)) == (
        "tiny",
        2,
        ["BUF", "DFF", "INV", "NAND2", "NOR2", "XOR2"],
    )
    flip_flop = library.cells["DFF"]
    assert (flip_flop.clock, flip_flop.next_state, flip_flop.area) == ("CLK", "D", 8)
    assert library.cells["NAND2"].pins["Y"].function == "(!(A B))"
    assert flip_flop.pins["CLK"].energy(0, 0.2) == pytest.approx(0.2)
    assert flip_flop.pins["CLK"].energy(0, 5.0) == pytest.approx(0.3)
    assert flip_flop.pins["D"].ahead(0.1) == 0.25
    assert library.cells["INV"].pins["Y"].arcs["A"].at(0.05, 0.1)[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("library(tiny)", "librory(tiny)"),
        ("(1, pf)", "(1, ff)"),
        ('"1V"', '"1mV"'),
        ("nom_voltage : 2;", ""),
        ("nom_voltage : 2;", "nom_voltage : high;"),
        ('values ("0.5, 0.5")', 'values ("0.5")'),
    ],
)
def test_what_is_no_such_library_is_refused(tmp_path, old, new):
    path = tmp_path / "bad.lib"
    path.write_text(LIBRARY.replace(old, new, 1))
    with pytest.raises(HardwareError, match=r"bad\.lib must be a Liberty library"):
        liberty.read(path)


@pytest.mark.parametrize("part", range(0, 900, 90))
def test_a_library_that_is_cut_is_refused(tmp_path, part):
    path = tmp_path / "cut.lib"
    path.write_text(LIBRARY[: len(LIBRARY) * part // 901])
    with pytest.raises(HardwareError, match="must be a Liberty library"):
        liberty.read(path)


@st.composite
def expressions(draw, depth=2):
    """Liberty's text of a function, and Python's."""
    kind = draw(st.sampled_from(["pin"] if not depth else ["pin", "!", "'", "*", "&", " ", "^", "+", "|"]))
    if kind == "pin":
        name = draw(st.sampled_from(["A", "B", "C1"]))
        return name, name
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    if kind == "!":
        return f"!({left[0]})", f"~({left[1]})"
    if kind == "'":
        return f"({left[0]})'", f"~({left[1]})"
    sign = {"*": "&", " ": "&", "+": "|"}.get(kind, kind)
    return f"({left[0]}){kind}({right[0]})", f"(({left[1]}) {sign} ({right[1]}))"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(expressions())
def test_functions_mean_what_python_makes_of_them(expression):
    text, python = expression
    pins = {"A": np.uint64(0xF0), "B": np.uint64(0xCC), "C1": np.uint64(0xAA)}
    assert evaluate(postfix(text), pins) == eval(python, {}, pins)


def test_functions_bind_as_liberty_says():
    pins = {name: np.uint64(value) for name, value in zip("ABC", (0xF0, 0xCC, 0xAA), strict=True)}
    assert evaluate(postfix("A+B C"), pins) == 0xF0 | (0xCC & 0xAA)
    assert evaluate(postfix("A^B*C"), pins) == 0xF0 ^ (0xCC & 0xAA)
    assert evaluate(postfix("A+B^C"), pins) == 0xF0 | (0xCC ^ 0xAA)
    assert evaluate(postfix("!A B'"), pins) == ~np.uint64(0xF0) & ~np.uint64(0xCC)


@pytest.mark.parametrize("text", ["", "(A", "A)", "A+", "!", "*A", "A B)'(", "()"])
def test_what_is_no_function_is_refused(text):
    with pytest.raises(HardwareError, match="a cell's function must"):
        postfix(text)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 62), st.integers(0, 2**62 - 1))
def test_bits_are_numbers_again(width, number):
    numbers = np.array([number] * 64) & ((1 << width) - 1)
    assert (to_numbers(to_bits(numbers, width)) == numbers).all()


def test_a_path_is_as_long_as_its_gates(tiny):
    """A flip-flop, two inverters with a load of .01 pF each, a flip-flop: .5, 1.2 twice, and .25 before the clock."""
    netlist = gates.read(chain("DFF", "INV", "INV", "DFF"), tiny[1], "design")
    assert paths.longest(netlist) == pytest.approx(0.5 + 1.2 + 1.2 + 0.25)
    assert paths.longest(gates.read(chain("INV", "INV"), tiny[1], "design")) == pytest.approx(1.2 + 1.0)


def test_loops_are_refused(tiny):
    cells = {str(n): {"type": "INV", "connections": {"A": [2 + n], "Y": [2 + (n + 1) % 3]}} for n in range(3)}
    text = json.dumps({"modules": {"design": {"ports": {}, "cells": cells}}})
    netlist = gates.read(text, tiny[1], "design")
    with pytest.raises(HardwareError, match="no loop"):
        paths.longest(netlist)
    with pytest.raises(HardwareError, match="no loop"):
        Simulation(netlist, 1)


def test_cells_of_other_libraries_are_refused(tiny):
    with pytest.raises(HardwareError, match="mapped to tiny, which has no 'LUT4'"):
        gates.read(chain("LUT4"), tiny[1], "design")


def test_energy_is_what_changes(tiny):
    """64 inverters whose input falls and rises: .5 pJ inside each, and half of C V^2 at the input and at the end."""
    netlist = gates.read(chain("INV", "INV"), tiny[1], "design")
    simulation = Simulation(netlist, 1)
    for cycle in range(5):
        simulation.step({"a": np.full((1, 64), cycle % 2, np.uint8)})
    energy = simulation.energy(tiny[1])
    per_change = 2 * 0.5 + 2 * (0.01 * 4 / 2)
    assert energy.switched == energy.settled == pytest.approx(64 * 4 * per_change)
    assert energy.clock == 0


def test_the_clock_costs_where_nothing_changes(tiny):
    netlist = gates.read(chain("DFF"), tiny[1], "design")
    simulation = Simulation(netlist, 2)
    for _ in range(10):
        simulation.step({"a": np.zeros((1, 128), np.uint8)})
    energy = simulation.energy(tiny[1])
    assert energy.switched == 0
    assert energy.clock == pytest.approx(10 * 128 * (2 * liberty_clock(tiny[1]) + 0.02 * 4))


def liberty_clock(library):
    return library.cells["DFF"].pins["CLK"].energy(0, gates.EDGE)


def test_glitches_count(tiny):
    """a xor (a after two inverters) is 0, but for two units of time after each change."""
    cells = {
        "1": {"type": "INV", "connections": {"A": [2], "Y": [3]}},
        "2": {"type": "INV", "connections": {"A": [3], "Y": [4]}},
        "3": {"type": "XOR2", "connections": {"A": [2], "B": [4], "Y": [5]}},
    }
    ports = {"a": {"direction": "input", "bits": [2]}, "y": {"direction": "output", "bits": [5]}}
    netlist = gates.read(json.dumps({"modules": {"m": {"ports": ports, "cells": cells}}}), tiny[1], "m")
    simulation = Simulation(netlist, 1)
    out = simulation.step({"a": np.ones((1, 64), np.uint8)})
    assert not out["y"].any()
    energy = simulation.energy(tiny[1])
    assert energy.switched - energy.settled == pytest.approx(64 * 2 * 0.5)


def test_mapped_circuits_compute(tiny):
    rng = np.random.default_rng(0)
    numbers = rng.integers(-128, 128, (20, 2, 64))

    def build(m, a, b):
        out = Signal(signed(17), name="out")
        m.d.sync += out.eq(a * b + a)
        return out

    netlist = mapped(tiny, build, a=signed(8), b=signed(8))
    assert sum(gate.cell.name == "DFF" for gate in netlist.gates) == 15  # a (b + 1) is from -2^14 on, and below 2^14
    assert netlist.area == sum(tiny[1].cells[name].area * count for name, count in netlist.cells.items())
    simulation, expected = Simulation(netlist, 1), None
    for a, b in numbers:
        out = to_numbers(simulation.step({"a": to_bits(a, 8), "b": to_bits(b, 8)})["out"])
        if expected is not None:
            assert ((out - expected) % (1 << 17) == 0).all()
        expected = a * b + a


def test_large_memories_and_parts_are_left_open(tiny):
    from amaranth.hdl import Instance
    from amaranth.lib.memory import Memory

    m, part = Module(), Module()
    address, given_, out = Signal(7, name="address"), Signal(9, name="given"), Signal(9, name="out")
    m.submodules.memory = memory = Memory(shape=9, depth=100, init=[])
    read, write = memory.read_port(), memory.write_port()
    m.d.comb += [read.addr.eq(address), write.addr.eq(~address), write.data.eq(given_), write.en.eq(1)]
    m.submodules.part = Instance("part", i_a=read.data, o_b=out)
    a, b = Signal(9, name="a"), Signal(9, name="b")
    part.d.comb += b.eq(~a)
    design = rtlil.convert(m, name="design", ports=[address, given_, out], emit_src=False)
    below = rtlil.convert(part, name="part", ports=[a, b], emit_src=False)
    netlist = yosys.to_cells(f"{design}\n{below}", "design", *tiny, parts=("part",))
    assert netlist.memories == ((9, 100),)
    assert netlist.parts == {"part": 1}
    assert netlist.cells == {"INV": 7}


def test_the_same_gates_of_another_library(tiny, tmp_path):
    def build(m, a):
        out = Signal(4, name="out")
        m.d.sync += out.eq(a + 1)
        return out

    netlist = mapped(tiny, build, a=4)
    drawn = re.sub(r"area : ([\d.]+)", lambda found: f"area : {4 * float(found[1])}", LIBRARY)
    (tmp_path / "drawn.lib").write_text(drawn)
    larger = netlist.on(liberty.read(tmp_path / "drawn.lib"))
    assert larger.cells == netlist.cells
    assert larger.area == 4 * netlist.area > 0
    (tmp_path / "drawn.lib").write_text(LIBRARY.replace("cell (DFF)", "cell (FF)"))
    with pytest.raises(HardwareError, match="tiny must have the cell DFF"):
        netlist.on(liberty.read(tmp_path / "drawn.lib"))


def test_a_tool_that_takes_too_long_is_stopped(tiny):
    m, a, out = Module(), Signal(32, name="a"), Signal(64, name="out")
    m.d.comb += out.eq(a * a)
    design = rtlil.convert(m, name="design", ports=[a, out], emit_src=False)
    with pytest.raises(HardwareError, match=r"yosys must end within 0\.01 minutes of CPU time"):
        yosys.to_cells(design, "design", *tiny, minutes=0.01)


def test_what_is_larger_than_a_chip_is_said():
    taken = yosys.Fabric(luts=100_000, flip_flops=1, multipliers=157, block_rams=208, distributed_rams=0)
    assert taken.excess(yosys.LARGEST) == "100,000 luts, of 83,640, 157 multipliers, of 156"
    assert not yosys.LARGEST.excess(yosys.LARGEST)


ELEMENT = Machine(rows=2, pes=1, lanes=2)


@pytest.fixture(scope="module")
def elements(tiny):
    machine = ELEMENT
    return {
        name: yosys.to_cells(rtlil.convert(build(machine), name="x", emit_src=False), "x", *tiny)
        for name, build in (("sparse", PE), ("dense", DensePE))
    }


def test_an_element_at_rest_costs_its_clock(elements, tiny):
    rng = np.random.default_rng(0)
    shape = (17, 64)
    blocks = np.repeat(rng.integers(-128, 128, (8, 3, 64)), 8, axis=1)[:, :17]
    stream = {f"activation_{k}": block for k, block in enumerate(blocks)} | {"active": np.ones(shape, int)}
    stream |= {f"weight_{k}": rng.integers(-128, 128, shape) for k in range(2)}
    place = np.broadcast_to(np.arange(17)[:, None] % 8, shape)
    found = {}
    for live in range(3):
        lanes = {f"live_{k}": np.full(shape, int(k < live)) for k in range(2)}
        lanes |= {f"index_{k}": place * (k < live) for k in range(2)}  # as the element above holds it
        for name, netlist in elements.items():
            found[name, live], cycles = actions.element(netlist, tiny[1], ELEMENT, stream | lanes)
            assert cycles == 16 * 64
    for name in elements:
        idle, half, full = (found[name, live] for live in range(3))
        assert idle.clock == half.clock == full.clock > 0
        assert 0 <= idle.switched < 0.1 * half.switched
        assert half.switched - idle.switched == pytest.approx((full.switched - idle.switched) / 2, rel=0.1)
        assert full.settled < full.switched


def test_sums_are_right_in_gates(elements):
    """A block, eight words of one lane, drained: the same as in whole numbers."""
    rng = np.random.default_rng(1)
    block, weights = rng.integers(-128, 128, (8, 64)), rng.integers(-127, 128, (8, 64))
    weights[weights == 0] = 1
    simulation = Simulation(elements["sparse"], 1)
    sums = []
    for cycle in range(14):
        working = cycle < 8
        token = [cycle == 0, working, cycle == 0, cycle == 7, 0]
        lane = to_bits((weights[cycle] & 0xFF) | (cycle << 8) | (1 << 11), 12) if working else np.zeros((12, 64), int)
        out = simulation.step(
            {
                "token": np.array([[bit] * 64 for bit in token], np.uint8),
                "weights": np.concatenate([lane.astype(np.uint8), np.zeros((12, 64), np.uint8)]),
                "activations": np.concatenate([to_bits(row, 8) for row in block]),
            }
        )
        sums.append(to_numbers(out["sums_out"][: ELEMENT.accumulator]))
    expected = (block * weights).sum(axis=0) & ((1 << ELEMENT.accumulator) - 1)
    assert any((each == expected).all() for each in sums)
