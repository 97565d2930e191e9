"""Bugs that claims about the hardware are there to find."""

from __future__ import annotations

import importlib
import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from regrain.hw.formal.claims import CLAIMS

PLANTED = {
    "queue takes when it is full": ("queue", "fifo", "self.level != self.depth", "1"),
    "queue reads beyond its end": ("queue", "fifo", "pointer == self.depth - 1", "pointer == self.depth"),
    "queue takes two for one": ("queue", "fifo", "self.level + push - pop", "self.level + push"),
    "switch without a boundary": ("granularity", "control", " & self.boundary & ~self.load", " & ~self.load"),
    "switch before the shadow is ready": (
        "granularity",
        "control",
        " & self.ready & self.boundary",
        " & self.boundary",
    ),
    "two steps at a time": ("granularity", "control", "wished.eq(rank + 1)", "wished.eq(2)"),
    "a tick too early": (
        "granularity",
        "control",
        "agreed >= self.settings.dwell",
        "agreed + 1 >= self.settings.dwell",
    ),
    "dwell forgotten by a switch": (
        "granularity",
        "control",
        "state.request.eq(0), state.agreed.eq(0)]\n        with m.Elif(self.heeds",
        "state.request.eq(0), state.agreed.eq(self.settings.dwell)]\n        with m.Elif(self.heeds",
    ),
    "a saved state where nothing is dynamic": (
        "granularity",
        "control",
        "with m.If(self.settings.dynamic & sound)",
        "with m.If(sound)",
    ),
    "no matter what it costs": ("granularity", "control", "product > price", "product > 0"),
    "the other threshold": (
        "granularity",
        "control",
        "self.metric < self.settings.down",
        "self.metric < self.settings.up",
    ),
    "a tick of the matrix before": ("granularity", "control", "came & ~self.load, asked", "came, asked"),
    "the price of the other step": ("granularity", "control", "pays[self.turn].eq(", "pays[~self.turn].eq("),
    "a granularity that is none": ("granularity", "control", "(saved.granularity != 3) & ", ""),
    "a half is written while it is sent": (
        "halves",
        "compactor",
        'free = ~self._of(self.filling, "full")',
        "free = 1",
    ),
    "the last word doesn't wait": ("halves", "compactor", " & (~end_of_step | ends | goes_on)", ""),
    "the end of a tile is lost": ("halves", "compactor", "output.last.eq(end_of_step & ends)", "output.last.eq(0)"),
    "a half isn't emptied": ("halves", "compactor", "half.final.eq(0), half.size.eq(0)", "half.final.eq(0)"),
    "words without room": ("in_flight", "reorganizer", "~group.end & self.pending.ready", "~group.end"),
    "a word that nobody asked for": (
        "in_flight",
        "reorganizer",
        "self.master.valid & (asked != 0)",
        "self.master.valid",
    ),
    "a tile too soon": ("samples", "monitor", "(count == samples)", "(count == 1)"),
    "sums that go on": ("samples", "monitor", "Mux(self.begin, 0, total) + x", "total + x"),
    "samples without an end": ("samples", "monitor", "(self.taken != 0) & (self.taken < samples)", "self.taken != 0"),
    "a full bank is written": ("banks", "bank", "self.stream.ready.eq(~self.full & ", "self.stream.ready.eq("),
    "written while the last word is read": ("banks", "bank", " & ~swapped & ", " & "),
    "a tile before its last word": ("banks", "bank", "self.full.eq(word.last)", "self.full.eq(1)"),
    "the bank that is filled is read": ("banks", "bank", "bank.eq(~self.filling)", "bank.eq(self.filling)"),
    "the old list is read": ("banks", "bank", "bank.eq(self.filling ^ ~self.swap)", "bank.eq(~self.filling)"),
    "half a swap": ("banks", "bank", "self.active.eq(self.shadow),", "self.active.end.eq(self.shadow.end),"),
    "a tile that ends amid a step": ("banks", "bank", " | (word.last & (remaining != 0))", ""),
    "a step amid another": ("banks", "bank", "(word.first != (self.left == 0))", "(~word.first & (self.left == 0))"),
    "a list too long": ("banks", "bank", "self.steps >= self.machine.list_entries", "self.steps > 3"),
    "a swap before the shadow is full": ("bounds", "sequencer", "wanting & self.full", "wanting"),
    "beyond the last word": (
        "bounds",
        "sequencer",
        "last.eq(self.word == self.active.end)",
        "last.eq(self.word.all())",
    ),
    "the wrong entry": ("bounds", "sequencer", "self.step.eq(self.number + 1)", "self.step.eq(self.number)"),
    "an entry that nobody needs": (
        "bounds",
        "sequencer",
        "self.read_step.eq(self.active.listed), self.step",
        "self.read_step.eq(1), self.step",
    ),
    "the old tile's entry": (
        "bounds",
        "sequencer",
        "self.read_step.eq(self.shadow.listed)",
        "self.read_step.eq(self.active.listed)",
    ),
    "a step too long": ("bounds", "sequencer", "ends.eq(self.position == count)", "ends.eq(self.position.all())"),
    "a product too narrow": ("width", "pe", "product = Signal(signed(16)", "product = Signal(signed(15)"),
    "an accumulator too narrow": ("width", "pe", "total = Signal(signed(width)", "total = Signal(signed(width - 1)"),
    "a sum that goes on": ("width", "pe", "Mux(token.clear, 0, total)", "total"),
}
"""What is wrong: the claim that must find it, the module, and the text that is replaced."""


def pytest_generate_tests(metafunc):
    """All bugs for `check_planted`, which takes minutes; the first of each claim elsewhere."""
    if "bug" in metafunc.fixturenames:
        first = {claim: bug for bug, (claim, *_) in reversed(PLANTED.items())}
        everything = metafunc.module.__name__.endswith("check_planted")
        metafunc.parametrize("bug", list(PLANTED) if everything else sorted(first.values()))


@pytest.fixture
def plant(monkeypatch):
    """Put a module with one text replaced where the claims look for its components; gives the claim."""

    def planted(bug):
        claim, module, right, wrong = PLANTED[bug]
        whole = importlib.import_module(f"regrain.hw.rtl.{module}")
        text = Path(whole.__file__).read_text(encoding="utf-8")
        assert text.count(right) == 1, f"{module}.py must have {right!r} once: plant the bug anew"
        broken = module_from_spec(spec_from_loader(whole.__name__, loader=None, origin=whole.__file__))
        monkeypatch.setitem(sys.modules, whole.__name__, broken)
        exec(compile(text.replace(right, wrong), whole.__file__, "exec"), broken.__dict__)
        for name, value in vars(broken).items():
            if getattr(value, "__module__", None) == whole.__name__ and isinstance(value, type):
                monkeypatch.setattr(f"regrain.hw.formal.claims.{name}", value, raising=False)
        return CLAIMS[claim]()

    return planted
