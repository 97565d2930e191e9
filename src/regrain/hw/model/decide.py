"""What control decides, as pure functions of values: the yardstick of its hardware."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from regrain.core.errors import HardwareError
from regrain.hw.model.codes import Code
from regrain.hw.model.observe import MOST_METRIC, QUARTERS

HEEDED = 3
"""Cycles from one in which control is told a metric to the one in which it counts."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """How a matrix' granularity follows its metric; fields and units as in the hardware's `SETTINGS`.

    Ranks are what the metric asks for: 2 is fine and 0 coarse, or, with `reverse`, 2 coarse. `up[r]`: the metric from
    which rank r is too low; `down[r]`: below it, rank r + 1 is too high.

    Raises HardwareError for bounds that contradict one another, or numbers that don't fit their fields.
    """

    up: tuple[int, int]
    down: tuple[int, int]
    dynamic: bool = True
    predefined: Code = Code.FINE
    reverse: bool = False
    priced: bool = False
    dwell: int = 0
    cost: tuple[int, int, int] = (0, 0, 0)
    uses: int = 0
    reorganization: int = 0

    def __post_init__(self) -> None:
        numbers = (*self.up, *self.down, *self.cost)
        if min(numbers) < 0 or max(numbers) > MOST_METRIC:
            raise HardwareError(f"thresholds and costs must be 0 to {MOST_METRIC}, not {numbers}")
        if not (self.down[0] <= self.up[0] <= self.up[1] and self.down[0] <= self.down[1] <= self.up[1]):
            raise HardwareError(
                f"thresholds must rise with the rank, and `down` must not be above `up`, not {self.down} and {self.up}"
            )
        for name, bits in (("dwell", 8), ("uses", 8), ("reorganization", 24)):
            if not 0 <= getattr(self, name) < 1 << bits:
                raise HardwareError(f"{name} must be 0 to 2^{bits} - 1, not {getattr(self, name)!r}")

    @classmethod
    def by_variance(
        cls, low: float = 0.2, high: float = 0.5, *, scale: float, predefined: Code = Code.FINE
    ) -> Deciding:
        """A variance above `high` is fine, one below `low` coarse, the rest medium: no band, no dwell, no costs.

        `scale`: variances are in squares of so many steps of the outputs, which are what the monitor sees.
        Since metric > t exactly if metric >= floor(t) + 1, and metric < t exactly if metric < ceil(t), it is exact.
        """
        unit = QUARTERS * scale * scale
        bottom, top = -int(-low * unit // 1), int(high * unit // 1) + 1
        return cls((bottom, top), (bottom, top), predefined=predefined)

    def rank(self, granularity: Code) -> int:
        """0, 1 or 2: how much of the metric a granularity is for."""
        return int(granularity) if self.reverse else 2 - granularity

    def granularity(self, rank: int) -> Code:
        """The inverse of `rank`."""
        return Code(rank if self.reverse else 2 - rank)

    def packed(self) -> int:
        """The bits of the hardware's `SETTINGS`, first field lowest."""
        widths = {"dynamic": 1, "predefined": 2, "reverse": 1, "priced": 1, "dwell": 8, "uses": 8, "reorganization": 24}
        word, at = 0, 0
        order = "dynamic predefined reverse priced up down dwell cost uses reorganization".split()
        assert sorted(order) == sorted(field.name for field in fields(self))
        for name in order:
            value = getattr(self, name)
            for part in value if isinstance(value, tuple) else (value,):
                word |= int(part) << at
                at += widths.get(name, 16)
        return word


@dataclass(frozen=True, slots=True)
class Decided:
    """The state of a matrix: granularity, and what it is about to become.

    `agreed` ticks in a row have wished for `target`; with `request` it waits for a boundary with the shadow ready.
    """

    granularity: Code
    target: Code = Code.FINE
    request: bool = False
    agreed: int = 0

    @property
    def next(self) -> Code:
        """What the shadow is to be filled with."""
        return self.target if self.request else self.granularity


def begin(deciding: Deciding, saved: Decided) -> Decided:
    """The state with which a matrix begins to run: what was saved, if it is dynamic."""
    return saved if deciding.dynamic else Decided(deciding.predefined)


def tick(deciding: Deciding, state: Decided, metric: int) -> Decided:
    """A new metric."""
    if not deciding.dynamic or state.request:
        return state
    wish = wished(deciding, state.granularity, metric)
    if wish == state.granularity or not pays(deciding, state.granularity, wish):
        return replace(state, target=wish, agreed=0)
    agreed = 1 + (state.agreed if wish == state.target else 0)
    if agreed > deciding.dwell:
        return replace(state, target=wish, request=True, agreed=0)
    return replace(state, target=wish, agreed=agreed)


def boundary(deciding: Deciding, state: Decided, *, ready: bool) -> Decided:
    """Between two tiles or layers; `ready`: the shadow bank is full, in granularity `next`."""
    return Decided(state.target, state.target) if state.request and deciding.dynamic and ready else state


def wished(deciding: Deciding, granularity: Code, metric: int) -> Code:
    """What the metric asks for, a step away at most."""
    rank = deciding.rank(granularity)
    if rank < 2 and metric >= deciding.up[rank]:
        return deciding.granularity(rank + 1)
    if rank > 0 and metric < deciding.down[rank - 1]:
        return deciding.granularity(rank - 1)
    return granularity


def pays(deciding: Deciding, now: Code, then: Code) -> bool:
    """Whether a switch saves more than it costs, or is for one that costs more and is asked for nevertheless."""
    saved = deciding.cost[now] - deciding.cost[then]
    return not deciding.priced or saved <= 0 or saved * deciding.uses > deciding.reorganization
