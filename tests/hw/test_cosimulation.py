"""A short run of the co-simulation, and that it would see a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import cosimulation

CASES = 480


@pytest.fixture(scope="module")
def campaign():
    return cosimulation.Campaign(default_machine=True)


def test_the_three_models_agree_in_all_bins(campaign):
    for seed in range(CASES):
        campaign.case(seed)
    assert not [name for name, count in campaign.bins.items() if not count]


def test_a_cycle_too_many_is_seen(campaign, monkeypatch):
    true = cosimulation.simulate

    def wrong(*arguments):
        timing = true(*arguments)
        return replace(timing, cycles=timing.cycles + 1)

    monkeypatch.setattr(cosimulation, "simulate", wrong)
    with pytest.raises(AssertionError, match="cycles"):
        campaign.case(1)
