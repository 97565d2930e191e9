"""Energy: tables are read strictly, their figures are those of the sources, and what is priced adds up."""

from __future__ import annotations

import json
import runpy
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.energy import Features, energy, traffic
from regrain.hw.energy_table import ACTIONS, load, names, parse
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory
from regrain.hw.model.program import dense, fine
from regrain.hw.model.timing import Events, Timing, simulate

MACHINE, MEMORY = Machine(), Memory()


def valid() -> dict[str, object]:
    return {
        "format": "regrain-energy-1",
        "name": "mine",
        "technology": "7 nm",
        "about": "a guess",
        "pj": {action: [1.0, "a guess"] for action in ACTIONS},
        "sram": {"reads": [[1024, 1.0], [4096, 2.0]], "write": 1.5, "source": "a guess"},
    }


@pytest.mark.parametrize("name", names())
def test_tables_of_the_package(name):
    table = load(name)
    assert table.name == name and set(table.pj) == set(ACTIONS)
    assert all(len(source) > 10 for source in table.sources.values())
    assert 0 < table.pj["gated"] < table.pj["multiply"] + table.pj["add"]
    assert table.pj["memory"] / 8 > table.read_bits(1 << 15) > table.read_bits(1 << 13)


def test_figures_of_the_sources():
    horowitz, accelergy = load("horowitz"), load("accelergy")
    assert [64 * horowitz.read_bits(size) for size in (8192, 32768, 1 << 20)] == pytest.approx([10, 20, 100])
    assert horowitz.pj["multiply"] == 0.2 and horowitz.pj["memory"] * 8 == (1300 + 2600) / 2
    assert 0.03 + (24 - 8) / (32 - 8) * (0.1 - 0.03) == pytest.approx(horowitz.pj["add"], rel=1e-3)
    assert 3.1 * (24 * 16) / (32 * 32) + 0.1 * 40 / 32 == pytest.approx(horowitz.pj["rescale"], rel=0.02)
    assert accelergy.pj["multiply"] == pytest.approx(0.561 - 0.21 / 4) and accelergy.pj["memory"] * 8 == 512
    assert accelergy.pj["gated"] == pytest.approx((0.5085 + 0.1575) * 0.103 / 2.2, rel=0.01)
    assert accelergy.pj["square"] == pytest.approx(0.5085 + 0.21 * 56 / 32)


@given(st.integers(64, 1 << 24), st.integers(64, 1 << 24), st.sampled_from(names()))
def test_larger_memories_cost_more(one, other, name):
    table = load(name)
    small, large = sorted((one, other))
    assert 0 < table.read_bits(small) <= table.read_bits(large)
    assert table.write_bits(small) == pytest.approx(table.write * table.read_bits(small))


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(valid()))
    table = load(path)
    assert table.pj["add"] == 1.0 and table.read_bits(2048) * 64 == pytest.approx(2**0.5)
    assert load(str(path)).name == "mine"


def _without(key):
    def change(table):
        del table[key]

    return change


def _with(key, value, inside=None):
    def change(table):
        (table if inside is None else table[inside])[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("about"), "it must be an object with exactly format, name,"),
        (_with("extra", 1), "it must be an object with exactly"),
        (_with("format", "regrain-energy-2"), "format must be 'regrain-energy-1', not 'regrain-energy-2'"),
        (_with("name", ""), "name must be words, not ''"),
        (_with("pj", []), "pj must be an object with exactly multiply, add, .* not list"),
        (_with("add", 0.1, "pj"), r"add must be \[pJ, source\], not 0.1"),
        (_with("add", [-1, "x"], "pj"), "add must be a number from 0 to 1e9, not -1"),
        (_with("add", [True, "x"], "pj"), "add must be a number from 0 to 1e9, not True"),
        (_with("add", [float("nan"), "x"], "pj"), "add must be a number from 0 to 1e9, not nan"),
        (_with("add", [1.0, " "], "pj"), "source of add must be words"),
        (_with("reads", [[1024, 1.0]], "sram"), "reads must be two pairs"),
        (_with("reads", [[4096, 1.0], [1024, 2.0]], "sram"), "reads must ascend in bytes"),
        (_with("reads", [[1024, 2.0], [4096, 1.0]], "sram"), "reads must ascend in bytes, and not fall in pJ"),
        (_with("reads", [[0, 1.0], [4096, 2.0]], "sram"), r"reads must be pairs \[bytes, pJ\]"),
        (_with("reads", [[1, 0.0], [4096, 2.0]], "sram"), "pJ of a read must be above 0"),
        (_with("write", 0, "sram"), "write must be above 0"),
    ],
)
def test_hostile_tables(change, message):
    table = valid()
    change(table)
    with pytest.raises(HardwareError, match=message):
        parse(json.dumps(table))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": 1, "a": 2}', "\ufffd"])
def test_what_is_no_json(text):
    with pytest.raises(HardwareError, match="it must be JSON"):
        parse(text)


def test_names_that_are_none(tmp_path):
    with pytest.raises(HardwareError, match="table must be one of accelergy, horowitz.*, or a file NAME.json"):
        load("x")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HardwareError, match=r"energy table '.*bad.json': it must be JSON"):
        load(path)


def timing(**events: int) -> Timing:
    return Timing(100, 0, 0, 0, Events(**events))


@pytest.mark.parametrize("field", [field.name for field in fields(Events)])
def test_every_event_costs_something(field):
    """Steps, words, bits ...: none is forgotten, and twice as many cost twice as much."""
    table = load("horowitz")
    one, two = (sum(energy(timing(**{field: n}), table, MACHINE, MEMORY).values()) for n in (1000, 2000))
    assert 0 < one == pytest.approx(two / 2)


def test_parts_by_hand():
    table = parse(json.dumps(valid()))
    found = energy(timing(macs=10, gated=6, words=2, outputs=3, steps=1), table, MACHINE, MEMORY, master_words=5)
    assert found["arithmetic"] == 20 and found["selection"] == 16 and found["gated lanes"] == 6
    assert found["write-back"] == 6 and found["memory"] == 3 and found["re-organization"] == 2 * 5 * 16 * 9
    assert found["registers"] == 2 * 16 * 176 + 16 * 4 * 64 + 10 * (16 + 24) + 3 * 24 * (1 + 8)
    assert found["weight banks"] == pytest.approx(2 * 176 * table.read_bits(4608 * 8))
    assert found["activation buffer"] == pytest.approx(16 * 64 * table.read_bits((1 << 18) / 16))
    stalled = replace(timing(), load_stalls=2, activation_stalls=1)
    assert energy(stalled, table, MACHINE, MEMORY)["stalls"] == 3 * 256


def test_traffic_of_a_matrix():
    weights = np.random.default_rng(0).integers(-9, 10, (32, 64)).astype(np.int8)
    found = traffic(simulate(dense(weights, MACHINE), 20, MACHINE, MEMORY).events, MACHINE)
    passes, words = 2, 2 * 64
    assert found["weight banks"].written == words * 22 and found["weight banks"].read == passes * words * 22
    assert found["memory"].written == 20 * 32 and found["memory"].read >= words * 22 + passes * 16 * 64
    assert found["activation buffer"].read == passes * 2 * 8 * 16 * 8
    assert found["activation buffer"].written == passes * 16 * 64 and found["lists"].read == 0


def test_features_that_stay_on_chip():
    events = Events(activation_bits_fetched=800, outputs=7, weight_bits_fetched=80)
    found = traffic(events, MACHINE, Features(2.0, 4096, inputs=True))
    assert (found["memory"].read, found["memory"].written) == (10, 7)
    assert (found["feature memory"].read, found["feature memory"].written) == (50, 0)
    run, table = Timing(1, 0, 0, 0, events), parse(json.dumps(valid()))
    kept = energy(run, table, MACHINE, MEMORY, Features(2.0, 4096, inputs=True, outputs=True))
    assert kept["feature memory"] == pytest.approx(8 * (50 * 2.0 + 7 * 3.0) / 64) and kept["memory"] == 10
    assert energy(run, table, MACHINE, MEMORY)["feature memory"] == 0


def test_rows_of_images_are_fetched_once():
    events = Events(activation_bits_fetched=9 * 800)
    assert traffic(events, MACHINE, Features(9.0))["memory"].read == 100
    assert traffic(events, MACHINE, Features(9.0))["activation buffer"].written == 900


def test_fewer_weights_cost_less():
    rng = np.random.default_rng(1)
    weights = rng.integers(-9, 10, (32, 64)).astype(np.int8)
    pruned = weights * (np.arange(64) % 2 == 0)
    costs = [
        sum(energy(simulate(program, 64, MACHINE, MEMORY), load(name), MACHINE, MEMORY).values())
        for name in names()
        for program in (fine(pruned.astype(np.int8), MACHINE), dense(pruned.astype(np.int8), MACHINE))
    ]
    assert all(sparse < whole for sparse, whole in zip(costs[::2], costs[1::2], strict=True))


@pytest.fixture
def made(root):
    """What tools/energy_table.py makes of the figures of synthesis."""
    tool = runpy.run_path(str(root / "tools" / "energy_table.py"))
    found = json.loads(tool["RESULTS"].read_text())
    return found, tool["table"](found, json.loads(tool["HOROWITZ"].read_text()))


def test_the_table_of_synthesis_is_made_of_its_figures(made, root):
    assert json.loads((root / "src/regrain/hw/tables/own.json").read_text()) == made[1]


def test_the_table_of_synthesis_gives_processing_elements_what_they_take(made):
    found, cost = made[0]["energy"], load("own").pj
    for lanes in (4, 0):
        row = found[f"osu018/pe/{lanes} lanes"]
        macs = row["macs"]
        cycle = macs * (cost["multiply"] + cost["add"] + 40 * cost["register"]) + (4 - macs) * cost["gated"]
        cycle += 4 * (cost["select"] + (11 + 2) * cost["register"])
        assert cycle == pytest.approx(row["switched"] + row["clock"], rel=1e-3)
    rest = found["osu018/pe/0 lanes, at rest"]
    assert 4 * cost["idle"] == pytest.approx(rest["switched"] + rest["clock"], rel=1e-3)
