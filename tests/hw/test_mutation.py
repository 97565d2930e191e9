"""Bugs that are put into circuits: they are there when they are asked for, and tests and proofs tell which show."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from regrain.hw.cosim import Simulation
from regrain.hw.cosim.build import default_cache


class Turnstile(Component):
    """Counts `push` to two and begins anew with `pull`; `full` holds twice over, so that a part of it never shows."""

    def __init__(self):
        super().__init__({"push": In(1), "pull": In(1), "full": Out(1)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(2)
        with m.If(self.pull):
            m.d.sync += count.eq(0)
        with m.Elif(self.push & (count < 2)):
            m.d.sync += count.eq(count + 1)
        m.d.comb += self.full.eq((count == 2) | ((count == 2) & self.push))
        return m


class Drawer(Component):
    """Four words; one that is asked for by `read` is on `word` a cycle later, while `given` is 1."""

    def __init__(self):
        ports = {"write": In(1), "place": In(2), "new": In(2), "read": In(1)}
        super().__init__(ports | {"given": Out(1), "word": Out(2)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = Memory(shape=2, depth=4, init=[])
        into, out = words.write_port(), words.read_port()
        m.d.sync += self.given.eq(self.read)
        m.d.comb += [into.en.eq(self.write), into.addr.eq(self.place), into.data.eq(self.new)]
        m.d.comb += [out.en.eq(self.read), out.addr.eq(self.place), self.word.eq(out.data)]
        return m


@pytest.fixture(scope="module")
def tool(root):
    """Imports a module of the tool."""
    sys.path.insert(0, str(root / "tools" / "mutation"))
    try:
        yield import_module
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def cache():
    """Where everything that is compiled is kept by a digest of its text, mutants and all."""
    return default_cache()


@pytest.fixture(scope="module")
def mutated(tool, root, cache):
    """The component with mutants: its simulation, and what the tool knows of it."""
    builder = tool("builder").Builder("Turnstile", 30, 1, root, cache)
    with builder.installed():
        simulation = Simulation(Turnstile())
    return simulation, builder.model


def watch(mutated, number):
    """What a mutant gives in the same two thousand cycles of random inputs."""
    simulation, model = mutated
    model.select(number)
    simulation.reset()
    random = np.random.default_rng(1)
    return simulation.run({"push": random.random(2000) < 0.6, "pull": random.random(2000) < 0.3})["full"]


def test_without_a_mutant_it_is_the_circuit_as_written(mutated):
    random, count, wanted = np.random.default_rng(1), 0, []
    for push, pull in zip(random.random(2000) < 0.6, random.random(2000) < 0.3, strict=True):
        wanted.append(count == 2)
        count = 0 if pull else min(count + push, 2)
    np.testing.assert_array_equal(watch(mutated, 0), wanted)


def test_proofs_agree_with_long_runs(tool, mutated):
    """A difference that two thousand random cycles show is no equality; one that they don't show is one here."""
    plain = watch(mutated, 0)
    seen = {mutant: (watch(mutated, mutant.number) != plain).any() for mutant in mutated[1].mutants}
    assert 20 < sum(seen.values()) < 30
    hidden = [mutant for mutant, shows in seen.items() if not shows]
    shown = [mutant for mutant, shows in seen.items() if shows]
    for mutant in hidden:
        assert tool("equivalence").verdict(mutated[1].circuit, mutant) == "equal"
    for mutant in shown[:4]:
        assert tool("equivalence").verdict(mutated[1].circuit, mutant).startswith("differs after")


def test_proofs_know_what_is_promised(tool, root):
    """A word that was not asked for is of no meaning; one that was written wrong is, if it is read."""
    mutants, contracts, verdict = tool("mutants"), tool("contracts"), tool("equivalence").verdict
    circuit = mutants.netlist(rtlil.convert(Drawer(), name="dut"))
    circuit = mutants.with_names(circuit, {name: name for name in ("given", "word")})
    found = {(each.port, each.mode): each for each in mutants.mutants(circuit, 300, 1, root)}

    def promise(m, port):
        return contracts.Contract(meant={"word": port["given"]})

    assert verdict(circuit, found["RD_EN", "const1"]).startswith("differs after")
    assert verdict(circuit, found["RD_EN", "const1"], promise) == "promised"
    assert verdict(circuit, found["WR_DATA", "inv"], promise).startswith("differs after")
    assert verdict(circuit, found["RD_ADDR", "const0"], promise).startswith("differs after")


def test_the_same_seed_gives_the_same_mutants(tool, mutated, root):
    mutants, (_, model) = tool("mutants"), mutated
    assert mutants.mutants(model.circuit, 30, 1, root) == model.mutants
    assert mutants.mutants(model.circuit, 30, 2, root) != model.mutants
    assert len({mutant.options for mutant in model.mutants}) == 30


def campaign(root, cache, *more):
    """What the command finds, on few mutants; benchmarks/hw/mutation.py is the long run, on all components."""
    options = ["--count", "12", "--size", "1", "--cache", str(cache), *more]
    command = [sys.executable, "tools/mutation/campaign.py", "Fifo", "tests/hw/rtl/test_fifo.py", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_a_campaign_finds_the_tests_of_the_queue_good(root, cache, tmp_path):
    found = campaign(root, cache)
    assert found["mutants"] == len(found["outcomes"]) == 12
    assert found["caught"] >= 11
    named = {each["caught"] for each in found["outcomes"]}
    assert any("test_order_and_level" in name for name in named if name)
    some = [each["options"] for each in found["outcomes"][3:5]]
    (tmp_path / "some.txt").write_text("\n".join(some))
    again = campaign(root, cache, "--only", str(tmp_path / "some.txt"))
    assert [each["options"] for each in again["outcomes"]] == some
    assert again["circuit"] == found["circuit"]
