"""Compiled simulations against Amaranth's own simulator, and all that a caller can do wrong."""

# No `from __future__ import annotations`: Amaranth reads signatures from annotations.

import shutil
from importlib import metadata

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, memory, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.sim import Simulator

from regrain.hw.cosim import Memory, Simulation, Source, ToolError, verilog
from regrain.hw.cosim.build import default_cache
from regrain.hw.cosim.tools import Tools
from regrain.hw.machine import Machine
from regrain.hw.rtl.array import Array
from regrain.hw.rtl.engine import Engine

WIDTHS = (1, 8, 31, 32, 33, 63, 64, 65, 100)
ROM = [3, 141, 59, 26, 5, 35, 89, 79]


class Mixer(Component):
    """Registers and sums of many widths, a nested interface, and names that aren't names in C++."""

    def __init__(self):
        ports = {f"in_{width}": In(width) for width in WIDTHS} | {f"out_{width}": Out(width) for width in WIDTHS}
        pair = data.StructLayout({"low": 5, "high": signed(7)})
        super().__init__(
            {
                **ports,
                "int": In(signed(9)),
                "class": Out(signed(40)),
                "pair": Out(pair),
                "from": In(stream.Signature(pair)),
                "rom": Out(8),
                "none": Out(0),
            }
        )

    def elaborate(self, platform):
        m = Module()
        for width in WIDTHS:
            given, made = getattr(self, f"in_{width}"), getattr(self, f"out_{width}")
            m.d.sync += made.eq((made << 1) + given)
        total, source = getattr(self, "class"), getattr(self, "from")
        m.d.sync += total.eq(total - self.int)
        m.d.comb += [source.ready.eq(self.in_1), self.pair.low.eq(~source.payload.low)]
        m.d.comb += self.pair.high.eq(source.payload.high)
        m.submodules.table = table = memory.Memory(shape=8, depth=8, init=ROM)
        read = table.read_port()
        m.d.comb += [read.addr.eq(self.in_8), read.en.eq(1), self.rom.eq(read.data)]
        return m


class Adder(Component):
    """Without registers."""

    a: In(8)
    b: In(signed(8))
    sum: Out(signed(10))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.sum.eq(self.a + self.b)
        return m


class Counter(Component):
    """Counts what it takes, and asks a memory for the number so far."""

    stalled: In(1)
    valid: In(1)
    ready: Out(1)
    item: In(20)
    wide: In(70)
    address: Out(8)
    asks: Out(1)
    word: In(70)
    total: Out(32)
    seen: Out(70)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.ready.eq(~self.stalled), self.asks.eq(self.ready), self.seen.eq(self.word)]
        with m.If(self.valid & self.ready):
            m.d.sync += [self.total.eq(self.total + self.item), self.address.eq(self.address + 1)]
        return m


@pytest.fixture(scope="module")
def counter():
    return Simulation(Counter())


@pytest.fixture
def adder():
    return Simulation(Adder())


def random_inputs(simulation, random, cycles):
    """Any bits, in every form that the width allows; and as integers."""
    inputs, integers = {}, {}
    for name, port in simulation.inputs.items():
        bits = random.integers(0, 2, (cycles, port.width), dtype=np.uint8)
        numbers = [int("".join(map(str, row[::-1])), 2) for row in bits]
        wide = np.pad(bits, ((0, 0), (0, -port.width % 32)))
        words = np.packbits(wide, axis=1, bitorder="little").view(np.uint32)
        narrow = np.packbits(bits, axis=1, bitorder="little")
        if port.width > 64:
            inputs[name] = (words, narrow)[int(random.integers(2))]
        else:
            as_array = np.array(numbers, np.uint64)
            inputs[name] = (words, narrow, as_array)[int(random.integers(3))]
        integers[name] = numbers
    return inputs, integers


def reference(component, integers, cycles):
    """Outputs of every cycle, as unsigned integers, by Amaranth's simulator."""
    members = {"__".join(path): value for path, _, value in component.signature.flatten(component)}
    inputs = {name: getattr(value, "as_value", lambda v=value: v)() for name, value in members.items()}
    outputs = {name: value for name, value in inputs.items() if name not in integers and len(value)}
    made = {name: [] for name in outputs}

    async def bench(ctx):
        for t in range(cycles):
            for name, numbers in integers.items():
                ctx.set(inputs[name], numbers[t])
            for name, value in outputs.items():
                made[name].append(ctx.get(value) & (1 << len(value)) - 1)
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return made


def test_as_amaranth_simulates_it():
    cycles, component = 150, Mixer()
    simulation = Simulation(component)
    inputs, integers = random_inputs(simulation, np.random.default_rng(4), cycles)
    run = simulation.run(inputs)
    expected = reference(Mixer(), integers, cycles)
    assert set(simulation.outputs) == set(expected)
    for name, port in simulation.outputs.items():
        values = run[name]
        if port.width > 64:
            shown = [int.from_bytes(row.tobytes(), "little") for row in values]
        else:
            shown = [int(value) & (1 << port.width) - 1 for value in values]
            assert (values.min() < 0) == port.signed
        assert shown == expected[name], name


def test_ports_are_those_of_the_signature(adder):
    assert {name: port.width for name, port in adder.inputs.items()} == {"a": 8, "b": 8}
    assert {name: port.width for name, port in adder.outputs.items()} == {"sum": 10}
    run = adder.run({"a": [1, 2, 255], "b": -5})
    assert run["sum"].tolist() == [-4, -3, 250]
    assert run["a"].tolist() == [1, 2, 255] and run["b"].tolist() == [-5] * 3
    assert adder.run({"b": np.array([True, False])})["sum"].tolist() == [1, 0]
    assert adder.run(cycles=2)["sum"].tolist() == [0, 0]


def test_state_stays_until_reset(counter):
    counter.reset()
    assert counter.run({"valid": 1, "item": 5}, 3)["total"].tolist() == [0, 5, 10]
    assert counter.run({"valid": 1, "item": 1}, 3)["total"].tolist() == [15, 16, 17]
    counter.reset()
    assert counter.run(cycles=1)["total"].tolist() == [0]


def test_sources_hold_what_they_offer(counter):
    counter.reset()
    random = np.random.default_rng(2)
    items, stalled, offered = random.integers(0, 1 << 20, 40), random.random(200) < 0.5, random.random(200) < 0.3
    source = Source("valid", "ready", {"item": items}, offered)
    run = counter.run({"stalled": stalled}, sources=[source])
    assert run.taken == (40,)
    assert run["total"][-1] == items.sum()
    taken = (run["valid"] & run["ready"]).astype(np.bool_)
    np.testing.assert_array_equal(run["item"][taken], items)
    waits = run["valid"][:-1].astype(np.bool_) & ~taken[:-1]
    assert waits.sum() > 5 and run["valid"][1:][waits].all()
    np.testing.assert_array_equal(run["item"][1:][waits], run["item"][:-1][waits])
    begins = run["valid"][1:].astype(np.bool_) & ~waits
    assert offered[1:][begins].all()


def test_memories_answer_in_the_next_cycle(counter):
    counter.reset()
    contents = np.random.default_rng(3).integers(0, 256, (64, 9), dtype=np.uint8)
    contents[:, -1] &= 0x3F
    stalled = np.arange(50) % 3 == 0
    run = counter.run({"valid": 1, "stalled": stalled}, memories=[Memory("address", "word", contents, enable="asks")])
    shown, address = run["seen"].view(np.uint8)[:, :9], 0
    for t in range(1, 50):
        address = run["address"][t - 1] if run["asks"][t - 1] else address
        assert (shown[t] == contents[address]).all() if run["asks"][:t].any() else not shown[t].any()


def test_a_run_ends_with_the_output_it_waits_for(counter):
    counter.reset()
    run = counter.run({"valid": 1, "item": 1}, 100, until="total")
    assert run.cycles == 2
    assert run["total"].tolist() == [0, 1]
    assert counter.run({"valid": 1, "item": 1}, 3)["total"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"c": [1]}, KeyError, "port must be one of a, b, not 'c'"),
        ({"a": [256]}, ValueError, "port a must be given values of 8 bits, not 256"),
        ({"a": [-1, -129 - 127]}, ValueError, "port a must be given values of 8 bits, not -256"),
        ({"b": [128, -129]}, ValueError, "port b must be given values of 8 bits, not -129"),
        ({"a": 1 << 70, "b": [0]}, ValueError, "port a must be given values of 8 bits, not 118059"),
        ({"a": [0.5]}, TypeError, "port a must be given integers, not float64"),
        ({"a": [1, 2], "b": [1]}, ValueError, "port b must be given 2 cycles, not 1"),
        ({"a": np.zeros((2, 2), np.uint8)}, ValueError, r"port a of 8 bits must be given \(cycles,\) integers"),
        ({"a": 1}, ValueError, "cycles must be given"),
    ],
)
def test_wrong_inputs(adder, inputs, error, message):
    with pytest.raises(error, match=message):
        adder.run(inputs)


def test_bits_above_a_wide_port(counter):
    with pytest.raises(ValueError, match="port wide must be given values of 70 bits: bits above are set"):
        counter.run({"wide": np.full((1, 9), 255, np.uint8)})


def test_wrong_surroundings(counter):
    counter.reset()
    with pytest.raises(IndexError, match="address must be an address of the memory's contents, not 3, in cycle 3"):
        counter.run({"valid": 1}, 9, memories=[Memory("address", "word", [1, 2, 3])])
    with pytest.raises(ValueError, match=r"offered must be \(9,\), not \(2,\)"):
        counter.run(cycles=9, sources=[Source("valid", "ready", {"item": [1]}, np.ones(2, np.bool_))])
    with pytest.raises(ValueError, match="port seen must have at most 32 bits here, not 70"):
        counter.run(cycles=9, until="seen")
    with pytest.raises(KeyError, match="port must be one of .*, not 'nothing'"):
        counter.run(cycles=1)["nothing"]


def test_a_component_is_built_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    for runtime in default_cache().glob("*.o"):  # ten seconds
        shutil.copy(runtime, cache)
    first = Simulation(Adder(), cache=cache)
    assert not list(cache.glob("building-*"))
    assert len(list(cache.glob("*.so"))) == 1
    monkeypatch.setattr(Tools, "verilate", None)
    second = Simulation(Adder(), cache=cache)
    assert second.run({"a": [7], "b": 3})["sum"].tolist() == first.run({"a": [7], "b": 3})["sum"].tolist() == [10]


def test_what_is_missing(tmp_path, monkeypatch):
    def missing(package):
        raise metadata.PackageNotFoundError(package)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(ToolError, match=r"a C\+\+20 compiler must be on the PATH"):
            Simulation(Adder(), cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", missing)
        with pytest.raises(ToolError, match=r"must be installed to simulate hardware: pip install 'regrain\[hw\]'"):
            Simulation(Adder(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tool_that_fails_says_why(tmp_path):
    with pytest.raises(ToolError, match="(?s)failed:.*nonsense"):
        Simulation(Adder(), cache=tmp_path, harness="nonsense;")
    assert not list(tmp_path.glob("building-*")) and not list(tmp_path.glob("*.so"))


def test_an_element_is_written_once():
    machine = Machine(rows=2, pes=3, lanes=1, bank_words=16, list_entries=4)
    text = verilog(Engine(machine, tiles=2), "engine")
    assert text.count("\nmodule engine(") == text.count("\nmodule pe(") == 1
    assert text.count("\n  pe \\array") + text.count("\n  pe pe_") == 6
    assert "src =" not in text and "/" not in text.replace("/*", "").replace("*/", "").replace("//", "")
    assert text == verilog(Engine(machine, tiles=2), "engine")
    assert "[15:0]" in text and "words_0[15] =" not in text  # a loop writes the zeros
    inlined = verilog(Array(machine, inline=True), "array")
    assert inlined.count("module ") == 7


def test_an_initial_memory_is_kept():
    assert "8'h8d" in verilog(Mixer(), "mixer")


def test_signals_can_be_unused():
    class Idle(Component):
        a: In(3)
        b: Out(2)

        def elaborate(self, platform):
            m = Module()
            m.d.sync += Signal(name="alone").eq(1)
            return m

    assert Simulation(Idle()).run({"a": [1, 2]})["b"].tolist() == [0, 0]
