"""Control where it decides by little: numbers of all their bits, and a step to either side of every bound."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from regrain.hw.cosim.simulation import Simulation
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import HEEDED, Decided, Deciding, boundary, tick
from regrain.hw.rtl.control import SETTINGS, STATE, Control

TRIALS = 3000


@pytest.fixture(scope="module")
def control():
    return Simulation(Control())


def bits(state):
    fields = {name: int(getattr(state, name)) for name in ("granularity", "target", "request", "agreed")}
    return STATE.const(fields).as_value().value


def of_any_size(random, width):
    """A number of all bits, or one whose highest bit is as often at one place as at another."""
    return int(random.integers(0, 2 << random.integers(0, width) if random.integers(2) else 1 << width) % (1 << width))


def near(random, value, width):
    """A value, or one a step beside it, or one that differs in a bit."""
    other = random.choice([value - 1, value, value + 1, value ^ 1 << random.integers(width)])
    return min(max(int(other), 0), (1 << width) - 1)


def trial(random):
    """Settings, a state and a metric that is mostly near a threshold of its rank."""
    up = sorted(of_any_size(random, 16) for _ in range(2))
    down = sorted(min(near(random, each, 16), each) for each in up)
    cost = [of_any_size(random, 16) for _ in range(3)]
    if random.integers(2):  # a little more or less than the one before it
        cost = [cost[0], near(random, cost[0], 16), near(random, cost[0], 16)]
    granularity = Code(random.integers(3))
    uses = of_any_size(random, 8)
    gain = max(abs(int(cost[granularity]) - cost[other]) * uses for other in Code if abs(other - granularity) == 1)
    dwell = of_any_size(random, 8)
    deciding = Deciding(
        (up[0], up[1]),
        (down[0], down[1]),
        reverse=bool(random.integers(2)),
        priced=bool(random.integers(2)),
        dwell=dwell,
        cost=(cost[0], cost[1], cost[2]),
        uses=uses,
        reorganization=near(random, min(gain, (1 << 24) - 1), 24),
    )
    target = Code(random.choice([each for each in Code if abs(each - granularity) == 1]))
    state = Decided(granularity, target, agreed=near(random, dwell, 8))
    return deciding, state, near(random, int(random.choice([*up, *down])), 16)


def test_ticks_at_the_bounds(control):
    """Each trial loads a state, ticks, and reaches a boundary with the shadow ready once the tick was heeded."""
    random = np.random.default_rng(11)
    trials = [trial(random) for _ in range(TRIALS)]
    packed = np.array([[each.packed() >> 32 * at & 0xFFFFFFFF for at in range(5)] for each, _, _ in trials], np.uint32)
    ticks, heeded = 1, 2 + HEEDED
    length = heeded + 1
    at, which = np.arange(length * TRIALS + 1) % length, np.arange(length * TRIALS + 1) // length % TRIALS
    metric = np.array([metric for _, _, metric in trials])
    control.reset()
    run = control.run(
        {
            "settings": packed[which],
            "load": at == 0,
            "saved": np.array([bits(state) for _, state, _ in trials])[which],
            "tick": at == ticks,
            "metric": np.where(at == ticks, metric[which], random.integers(0, 1 << 16, len(at))),
            "boundary": at == heeded,
            "ready": 1,
        }
    )
    ticked = [tick(*each) for each in trials]
    done = [boundary(each, state, ready=True) for (each, _, _), state in zip(trials, ticked, strict=True)]
    for since in range(1, heeded):
        np.testing.assert_array_equal(run["state"][since::length], [bits(state) for _, state, _ in trials])
    np.testing.assert_array_equal(run["state"][heeded::length], [bits(state) for state in ticked])
    np.testing.assert_array_equal(run["switch"][heeded::length], [state.request for state in ticked])
    np.testing.assert_array_equal(run["state"][length::length], [bits(state) for state in done])
    assert not run["fault"].any()
    requests = sum(state.request for state in ticked)
    assert TRIALS // 10 < requests < TRIALS // 2


@pytest.mark.parametrize("agreed", [0, 200])
@pytest.mark.parametrize("predefined", range(4))
def test_every_state_that_could_be_saved(control, predefined, agreed):
    for granularity, target, request, dynamic in product(range(4), range(4), range(2), range(2)):
        saved = {"granularity": granularity, "target": target, "request": request, "agreed": agreed}
        sound = granularity != 3 and (not request or (target != 3 and abs(target - granularity) == 1))
        control.reset()
        run = control.run(
            {
                "settings": SETTINGS.const({"dynamic": dynamic, "predefined": predefined}).as_value().value,
                "load": [1, 0, 0],
                "saved": STATE.const(saved).as_value().value,
            }
        )
        assert run["fault"].tolist() == [0, *[predefined == 3 or (dynamic and not sound)] * 2]
        fresh = {"granularity": predefined % 3, "target": 0, "request": 0, "agreed": 0}
        assert run["state"][-1] == STATE.const(saved if dynamic and sound else fresh).as_value().value
