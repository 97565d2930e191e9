"""What data can show: the promise is that so many examples are enough."""

from __future__ import annotations

import numpy as np
import pytest

from regrain import Scores, TaskError
from regrain.accuracy import Budget, compare, resolve


def test_needed_examples_are_enough_and_fewer_are_not() -> None:
    (found,) = resolve(Scores(np.arange(200) % 10 > 0), Budget(max_drop_abs=0.005))
    assert not found.ok
    assert found.smallest > 0.005
    assert found.needed == pytest.approx(541, abs=12)
    assert found.needed is not None
    for count, ok in ((found.needed + 5, True), (found.needed - 15, False)):
        assert resolve(Scores(np.arange(count) % 10 > 0), Budget(max_drop_abs=0.005))[0].ok is ok


def test_a_trial_needs_more() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(1000) < 0.9
    after = before ^ (rng.random(1000) < 0.04)
    budget = Budget(max_drop=0.005)
    (best,), (real,) = resolve(Scores(before), budget), resolve(Scores(before), budget, Scores(after))
    assert best.ok and not real.ok
    drop = compare(Scores(before), Scores(after))
    assert real.smallest == pytest.approx(drop.relative_upper - drop.relative)  # type: ignore[operator]
    assert real.needed is not None
    more = -(-real.needed // 1000)
    (again,) = resolve(Scores(np.tile(before, more)), budget, Scores(np.tile(after, more)))
    assert again.ok


def test_lower_confidence_would_do() -> None:
    scores = Scores(np.arange(200) % 10 > 0)
    (found,) = resolve(scores, Budget(max_drop_abs=0.009))
    assert found.lower_confidence == 0.9
    assert resolve(scores, Budget(max_drop_abs=0.009, confidence=0.9))[0].ok
    assert str(found) == (
        "200 examples resolve a drop of 0.014 at 95 % confidence: 304 are needed for the limit of 0.009; "
        "they would do at a confidence of 0.9"
    )
    assert resolve(scores, Budget(max_drop_abs=0.0001))[0].lower_confidence is None


def test_enough() -> None:
    (found,) = resolve(Scores(np.ones(1000)), Budget(max_drop=0.01))
    assert (found.ok, found.needed, found.lower_confidence) == (True, 1000, None)
    assert str(found) == "1000 examples resolve a drop of 0.27 % at 95 % confidence: enough for the limit of 1 %"


def test_nothing_resolves_zero() -> None:
    (found,) = resolve(Scores(np.ones(1000)), Budget(max_drop=0))
    assert (found.ok, found.needed) == (False, None)
    assert "no number of examples resolves the limit of 0 %" in str(found)


def test_limits_that_are_no_drops() -> None:
    assert resolve(Scores(np.ones(9)), Budget(bits=4)) == ()
    assert resolve(Scores([1.0]), Budget(max_drop=0.1)) == ()
    assert len(resolve(Scores(np.ones(9)), Budget(max_drop=0.1, max_drop_abs=0.1))) == 2
    with pytest.raises(TaskError, match="baseline must not be 0"):
        resolve(Scores(np.zeros(9)), Budget(max_drop=0.1))
