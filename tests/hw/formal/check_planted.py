"""Every claim, small and full; every planted bug; that no claim is about nothing. Minutes: not part of the tests."""

from __future__ import annotations

import pytest

from regrain.hw.formal.claims import CLAIMS, FULL
from regrain.hw.formal.prove import Verdict, prove, refute

SIZES = {"small": CLAIMS, "full": FULL}


@pytest.mark.parametrize(("size", "name"), [(size, name) for size, claims in SIZES.items() for name in claims])
def test_holds(size, name):
    assert prove(SIZES[size][name](), seconds=900).verdict is Verdict.PROVED


def test_refuted(plant, bug):
    proof = refute(plant(bug))
    assert proof.verdict is Verdict.REFUTED
    assert proof.broken


@pytest.mark.parametrize("name", CLAIMS)
def test_is_about_something(name):
    """Assumptions that can't all hold would prove anything."""
    claim = CLAIMS[name]()
    claim.deny = True
    proof = refute(claim)
    assert proof.verdict is Verdict.REFUTED
    assert all("claim.py" in place for place in proof.broken)
