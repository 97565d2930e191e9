"""What tools/rtl_synth.py keeps of its results."""

import json
import runpy
import sys

import pytest


@pytest.fixture
def results(root, tmp_path, monkeypatch):
    """What tools/rtl_synth.py keeps its results by, in another file."""
    monkeypatch.setattr(sys, "path", [str(root / "tools"), *sys.path])
    tool = runpy.run_path(str(root / "tools" / "rtl_synth.py"))
    monkeypatch.setitem(tool["Results"].store.__globals__, "RESULTS", tmp_path / "results.json")
    return lambda **options: tool["Results"](**{"minutes": 1.0, "seeds": 5, "again": False, **options})


def test_a_run_of_synthesis_goes_on_where_it_was(results):
    run, speeds = results(), {"luts": 7, "megahertz": [100.0, 90.0]}
    assert run.lacks("cells", "x/pe", "one")
    run.store("cells", "x/pe", {"area": 3.0}, "one")
    assert not run.lacks("cells", "x/pe", "one")
    assert run.lacks("cells", "x/pe", "another circuit")
    assert results(again=True).lacks("cells", "x/pe", "one")
    run.store("fabric", "pe", speeds, "one")
    assert run.lacks("fabric", "pe", "one")
    assert not results(seeds=2).lacks("fabric", "pe", "one")
    assert run.begun("fabric", "pe", "one") == speeds
    assert run.begun("fabric", "pe", "another circuit") == {} == results(again=True).begun("fabric", "pe", "one")
    run.store("fabric", "pe", {**speeds, "megahertz": [100.0] * 5}, "one")
    assert not run.lacks("fabric", "pe", "one")


def test_a_limit_of_synthesis_is_kept_by_its_name(results, tmp_path):
    run = results()

    def stored():
        return json.loads((tmp_path / "results.json").read_text())

    run.store("fabric", "pe", {"luts": 7, "megahertz": []}, "one")
    run.limit("fabric", "pe", "larger than the chip", "one")
    assert stored()["limits"] == {"fabric pe": "larger than the chip"}
    assert stored()["fabric"] == {"pe": {"luts": 7, "megahertz": []}}
    assert not run.lacks("fabric", "pe", "one")
    run.limit("fabric", "pe", "too slow", "another circuit")
    assert stored()["fabric"] == {}
    run.store("fabric", "pe", {"luts": 7, "megahertz": [1.0] * 5}, "another circuit")
    assert stored()["limits"] == {}
