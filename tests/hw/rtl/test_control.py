"""Control against the pure functions, tick by tick, and the rule by variance as it was written down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain.core.errors import HardwareError
from regrain.hw.cosim.simulation import Simulation
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import HEEDED, Decided, Deciding, begin, boundary, pays, tick
from regrain.hw.rtl.control import SETTINGS, STATE, Control


@pytest.fixture(scope="module")
def control():
    return Simulation(Control())


def bits(state):
    fields = {name: int(getattr(state, name)) for name in ("granularity", "target", "request", "agreed")}
    return STATE.const(fields).as_value().value


def rows(value, words):
    return [value >> 32 * at & 0xFFFFFFFF for at in range(words)]


@st.composite
def decidings(draw):
    low, high = sorted(draw(st.tuples(st.integers(0, 900), st.integers(0, 900))))
    bands = draw(st.tuples(st.integers(0, 99), st.integers(0, 99)))
    return Deciding(
        up=(low, high),
        down=(max(low - bands[0], 0), min(max(high - bands[1], low - bands[0], 0), high)),
        dynamic=draw(st.integers(0, 5)) > 0,
        predefined=draw(st.sampled_from(Code)),
        reverse=draw(st.booleans()),
        priced=draw(st.booleans()),
        dwell=draw(st.sampled_from([0, 1, 3])),
        cost=draw(st.tuples(*[st.integers(0, 40)] * 3)),
        uses=draw(st.integers(0, 20)),
        reorganization=draw(st.integers(0, 300)),
    )


@given(st.tuples(decidings(), decidings()), st.sampled_from(Code), st.integers(0, 2**32))
def test_random_streams(control, matrices, first, seed):
    """Two matrices, one after the other: ticks of the first that weren't heeded are dropped."""
    control.reset()
    random = np.random.default_rng(seed)
    cycles = 200
    loads = np.array([0, random.integers(1, cycles)])
    cycle = np.arange(cycles)
    metric = np.repeat(random.integers(0, 1000, cycles // 4), 4)
    ticks, at_boundary, ready = (random.random(cycles) < rate for rate in (0.7, 0.4, 0.6))
    settings = np.array([rows(each.packed(), 5) for each in matrices], np.uint32)
    run = control.run(
        {
            "settings": settings[(cycle >= loads[1]).astype(int)],
            "load": np.isin(cycle, loads),
            "saved": bits(Decided(first)),
            "tick": ticks,
            "metric": metric,
            "boundary": at_boundary,
            "ready": ready,
        }
    )
    assert not run["fault"].any()
    for deciding, load, end in zip(matrices, loads, (loads[1], cycles - 1), strict=True):
        state = begin(deciding, Decided(first))
        for now in range(load + 1, end + 1):
            assert run["state"][now] == bits(state)
            assert run["next"][now] == state.next
            if now in loads:
                continue
            before, came = state, now - HEEDED
            if at_boundary[now]:
                state = boundary(deciding, state, ready=bool(ready[now]))
            assert run["switch"][now] == (state.granularity != before.granularity)
            if state is before and came > load and ticks[came]:
                state = tick(deciding, state, int(metric[came]))
        assert deciding.dynamic or (run["next"][load + 1 : end + 1] == deciding.predefined).all()


def test_settings_are_packed_as_the_hardware_reads_them():
    deciding = Deciding((30, 90), (20, 70), True, Code.COARSE, True, True, 7, (11, 12, 13), 200, 1 << 20)
    view = SETTINGS.from_bits(deciding.packed())
    assert (view.dynamic, view.predefined, view.reverse, view.priced, view.dwell) == (1, 2, 1, 1, 7)
    assert [view.up[0], view.up[1], view.down[0], view.down[1]] == [30, 90, 20, 70]
    assert [view.cost[code] for code in Code] == [11, 12, 13]
    assert (view.uses, view.reorganization) == (200, 1 << 20)


@given(st.floats(0, 1), st.sampled_from([1.0, 7.5, 50.0]))
def test_rule_by_variance(variance, scale):
    """Above 0.5 fine, 0.2 to 0.5 medium, below coarse: after two steps, whatever held before."""
    deciding = Deciding.by_variance(0.2, 0.5, scale=scale)
    metric = round(4 * variance * scale * scale)
    seen = metric / (4 * scale * scale)
    wanted = Code.FINE if seen > 0.5 else Code.MEDIUM if seen >= 0.2 else Code.COARSE
    for start in Code:
        state = Decided(start)
        for _ in range(2):
            state = boundary(deciding, tick(deciding, state, metric), ready=True)
        assert state.granularity == wanted


def test_a_wish_must_pay_unless_it_costs_more():
    deciding = Deciding((1, 2), (1, 2), priced=True, cost=(100, 60, 50), uses=3, reorganization=119)
    assert pays(deciding, Code.FINE, Code.MEDIUM)
    assert not pays(deciding, Code.MEDIUM, Code.COARSE)
    assert pays(deciding, Code.COARSE, Code.MEDIUM)
    assert not pays(Deciding((1, 2), (1, 2), priced=True, cost=(100, 60, 50), uses=3, reorganization=120), 0, 1)


@pytest.mark.parametrize(
    ("saved", "predefined", "fault", "starts"),
    [
        ({"granularity": 3}, 1, True, Code.MEDIUM),
        ({"granularity": 0, "target": 2, "request": 1}, 1, True, Code.MEDIUM),
        ({"granularity": 2, "target": 3, "request": 1}, 2, True, Code.COARSE),
        ({"granularity": 3}, 3, True, Code.FINE),
        ({"granularity": 2}, 3, True, Code.COARSE),
        ({"granularity": 2, "target": 3}, 0, False, Code.COARSE),
    ],
)
def test_state_that_makes_no_sense(control, saved, predefined, fault, starts):
    control.reset()
    state = STATE.const({"target": 0, "request": 0, "agreed": 0, **saved}).as_value().value
    settings = SETTINGS.const({"dynamic": 1, "predefined": predefined}).as_value().value
    run = control.run({"settings": settings, "load": [1, 0, 0], "saved": state})
    assert run["fault"][-1] == fault
    assert run["next"][-1] == starts


def test_what_contradicts_itself_is_refused():
    with pytest.raises(HardwareError, match="`down` must not be above `up`"):
        Deciding((10, 20), (11, 20))
    with pytest.raises(HardwareError, match=r"thresholds must rise with the rank"):
        Deciding((20, 10), (5, 6))
    with pytest.raises(HardwareError, match="dwell must be 0 to 2\\^8 - 1, not 256"):
        Deciding((10, 20), (10, 20), dwell=256)
