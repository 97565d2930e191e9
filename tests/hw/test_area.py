"""Area: components as often as a machine has them; tables that are read strictly, and made of what was measured."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from regrain.core.errors import HardwareError
from regrain.hw.area import COMPONENTS, GRANULARITY, SELECTION, AreaTable, area, load, names, parse
from regrain.hw.components import COMPONENTS as CIRCUITS
from regrain.hw.machine import Machine
from regrain.hw.model.memory import Memory

MACHINE = Machine()
UM2 = {name: 1e6 * (number + 1) for number, name in enumerate(COMPONENTS)} | {"pe": 3e4, "plain_dense_pe": 2e4}
BITS = dict.fromkeys(UM2, 0) | {"bank": 7, "metadata": 4096, "writeback": 160}
TABLE = AreaTable("t", "t", "t", MACHINE, UM2, dict.fromkeys(UM2, "s"), BITS)
ROOT = Path(__file__).parents[2]


def test_parts_of_the_tables_own_machine():
    found = area(TABLE, MACHINE, Memory(), kept_bytes=10)
    assert found.parts["elements"] == pytest.approx(64 * 0.02 + UM2["array"] / 1e6)
    assert found.parts[SELECTION] == pytest.approx(64 * 0.01) and not found.missing
    assert found.parts[GRANULARITY] == sum(UM2[name] for name in ("monitor", "control", "reorganizer")) / 1e6
    alone = sum(um2 for name, um2 in UM2.items() if name not in ("pe", "plain_dense_pe")) / 1e6
    assert found.total == pytest.approx(alone + 64 * 0.03) and found.total == pytest.approx(found.dense + found.added)
    banks, lists, table = 2 * 4608 * 176, 2 * 576 * 13, 576 * 80
    others = Memory().buffer_bits + 80 + 4096 + 160
    assert found.bits == banks + lists + table + others and found.dense_bits == banks * 8 // 11 + others
    value = found.to_json()
    assert json.loads(json.dumps(value)) == value and value["added"] == pytest.approx(found.added / found.dense)


def test_other_machines():
    one = area(TABLE, MACHINE, Memory())
    taller = area(TABLE, replace(MACHINE, rows=32), Memory())
    assert taller.parts["elements"] == pytest.approx(2 * one.parts["elements"])
    assert {name: mm2 for name, mm2 in taller.parts.items() if name not in ("elements", SELECTION)} == {
        name: mm2 for name, mm2 in one.parts.items() if name not in ("elements", SELECTION)
    }
    wider = area(TABLE, replace(MACHINE, lanes=8), Memory())
    assert wider.parts[SELECTION] == pytest.approx(2 * one.parts[SELECTION])
    assert wider.parts["write-back"] == 2 * one.parts["write-back"] and wider.memories["writeback"] == 320
    assert wider.parts["metadata"] == one.parts["metadata"] and wider.memories["metadata"] == 4096


def test_components_without_cells_are_told():
    um2 = {name: UM2[name] for name in ("pe", "plain_dense_pe", "bank")}
    found = area(replace(TABLE, um2=um2, memory_bits={}), MACHINE, Memory())
    assert found.missing == tuple(name for name in COMPONENTS if name not in um2)
    assert set(found.parts) == {"elements", SELECTION, "feeding"} and found.added == found.parts[SELECTION]


def test_every_component_is_one_that_is_built():
    assert set(COMPONENTS) - {"plain_dense_pe"} <= set(CIRCUITS)


def test_the_tables_are_those_of_the_measurements():
    tool = runpy.run_path(str(ROOT / "tools" / "area_table.py"))
    measured = json.loads((ROOT / "benchmarks" / "results" / "hw" / "synthesis.json").read_text())
    assert set(names()) == set(tool["TECHNOLOGIES"])
    for name in names():
        made = json.loads((ROOT / "src" / "regrain" / "hw" / "tables" / "area" / f"{name}.json").read_text())
        assert made == tool["table"](measured, name)
        found = load(name)
        assert found.um2["pe"] > found.um2["plain_dense_pe"] and found.machine == Machine(**measured["machine"])


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    value = json.loads((ROOT / "src/regrain/hw/tables/area/osu018.json").read_text())
    path.write_text(json.dumps(value | {"name": "mine"}))
    assert load(str(path)).name == "mine"
    with pytest.raises(HardwareError, match=r"table must be one of osu018, osu035, or a file NAME\.json, not 'none'"):
        load("none")


@pytest.mark.parametrize(("change", "message"), [
    ({"format": "x"}, "format must be 'regrain-area-1', not 'x'"),
    ({"more": 1}, "it must be an object with exactly format, name"),
    ({"about": " "}, "about must be words"),
    ({"machine": {"rows": 16}}, "machine must be an object with exactly rows, pes"),
    ({"um2": {"pe": [1.0, "s"]}}, "um2 must be an object with pe, plain_dense_pe, and of pe, plain"),
    ({"um2": {"pe": [1.0, "s"], "plain_dense_pe": [1.0, "s"], "oven": [1.0, "s"]}}, "um2 must be an object with pe"),
    ({"um2": {"pe": [-1.0, "s"], "plain_dense_pe": [1.0, "s"]}}, "pe must be a number from 0 to 1e9, not -1.0"),
    ({"um2": {"pe": [0, "s"], "plain_dense_pe": [0, "s"]}}, "plain_dense_pe must be above 0, .* not 0 beside 0"),
    ({"um2": {"pe": [1.0, "s"], "plain_dense_pe": [2.5, "s"]}}, "not larger than pe, .* not 2.5 beside 1"),
    ({"um2": {"pe": 1.0, "plain_dense_pe": [1.0, "s"]}}, r"pe must be \[um2, source\], not 1.0"),
    ({"memory_bits": {}}, "memory_bits must be an object with exactly pe"),
    ({"memory_bits": {"pe": 0, "plain_dense_pe": 0.5}}, "memory_bits must be whole numbers, 0 or more"),
])  # fmt: skip
def test_what_is_no_table(change, message):
    good = {
        "format": "regrain-area-1", "name": "t", "technology": "t", "about": "t",
        "machine": {name: getattr(MACHINE, name) for name in Machine.__slots__},
        "um2": {"pe": [2.0, "s"], "plain_dense_pe": [1.0, "s"]}, "memory_bits": {"pe": 0, "plain_dense_pe": 0},
    }  # fmt: skip
    assert parse(json.dumps(good)).um2["pe"] == 2.0
    with pytest.raises(HardwareError, match=message):
        parse(json.dumps(good | change))
    with pytest.raises(HardwareError, match="it must be JSON"):
        parse(json.dumps(good)[:-1])
