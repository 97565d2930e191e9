"""When things happen, and how density goes down to its aim."""

from __future__ import annotations

from dataclasses import dataclass

from regrain.core.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Schedule:
    """In steps of the optimizer: the metric is evaluated every `every`, gradients are looked at every `sample`. A layer
    that was changed isn't made tighter for `dwell` evaluations; layers are made looser when the metric has been below
    its threshold for `patience` evaluations in a row; a ramp that is on its way stops first.
    """

    every: int = 200
    sample: int = 10
    dwell: int = 2
    patience: int = 1

    def __post_init__(self) -> None:
        for name in ("every", "sample", "dwell", "patience"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be a whole number from 1 on, not {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True)
class Ramp:
    """Density goes from 1 to a plan's d between two steps, fast at first and slower where it hurts:

        density(t) = d + (1 - d) (1 - (t - begin) / (end - begin))^3        (Zhu and Gupta, 2017)

    Masks are chosen anew every `every` steps; from `end` on they stay.
    """

    begin: int
    end: int
    every: int = 25

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise TrainingError(f"ramp must begin at 0 or later and end after that, not {self.begin} to {self.end}")
        if self.every < 1:
            raise TrainingError(f"every must be a whole number from 1 on, not {self.every!r}")

    def density(self, aim: float, step: int) -> float:
        """The density at a step on the way to `aim`."""
        left = 1.0 - min(max((step - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return aim + (1.0 - aim) * left**3

    def moves(self, step: int) -> bool:
        """Whether masks are chosen anew at this step."""
        return (self.begin <= step < self.end and (step - self.begin) % self.every == 0) or step == self.end
