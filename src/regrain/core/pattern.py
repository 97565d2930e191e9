"""Sparsity patterns: which weights of a matrix are kept or dropped together, and how a pruned tensor came about."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from regrain.core.errors import RecipeError
from regrain.core.granularity import Granularity

_PATTERN = re.compile(
    r"(fine|column|row)|([1-9][0-9]?):([1-9][0-9]?)|block:([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Weights that are kept or dropped together: `fine` (each on its own), `N:M` (N of each M that follow each other in
    a row), `block:RxC`, `column` (an input channel: all its kernel positions) or `row` (an output channel, a filter and
    the feature map it makes).

    >>> Pattern("block:16x1").unit((384, 1536)), Pattern("column").unit((64, 32, 3, 3)), Pattern("2:4").granularity
    ((16, 1), (64, 9), <Granularity.FINE: 'fine'>)
    """

    name: str

    def __post_init__(self) -> None:
        match = _PATTERN.fullmatch(self.name) if isinstance(self.name, str) else None
        if match is None or (match[2] is not None and int(match[2]) >= int(match[3])):
            raise RecipeError(f"pattern must be fine, N:M with N < M, block:RxC, column or row, not {self.name!r}")

    def unit(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of a unit of a tensor of that shape, seen as a matrix: the first axis and all others."""
        rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        match = _PATTERN.fullmatch(self.name)
        assert match is not None
        if match[4] is not None:
            return min(int(match[4]), rows), min(int(match[5]), columns)
        if self.name == "column":
            return rows, math.prod(shape[2:])
        return (1, columns) if self.name == "row" else (1, 1)

    @property
    def among(self) -> tuple[int, int] | None:
        """(N, M) of an N:M pattern: at most N are kept of each M in a row."""
        match = _PATTERN.fullmatch(self.name)
        assert match is not None
        return (int(match[2]), int(match[3])) if match[2] is not None else None

    @property
    def structured(self) -> bool:
        """Whether ordinary dense arithmetic can skip what is dropped: blocks of at least 16 weights, or channels."""
        match = _PATTERN.fullmatch(self.name)
        assert match is not None
        return self.name in ("column", "row") or (match[4] is not None and int(match[4]) * int(match[5]) >= 16)

    @property
    def granularity(self) -> Granularity:
        """The unit that is kept or dropped."""
        if self.name in ("column", "row"):
            return Granularity.COARSE
        return Granularity.MEDIUM if self.name.startswith("block") else Granularity.FINE


class Score(StrEnum):
    """What says which units are worth least."""

    OBS = "obs"  # the loss that dropping it adds after compensation (Hassibi and Stork, 1993)
    MAGNITUDE = "magnitude"  # sum of w^2
    WANDA = "wanda"  # sum of w^2 E[x^2] of its input (Sun et al., 2023)
    VARIANCE = "variance"  # sum of w^2 var(x) of its input: v * |W_col|^2 for a column


class Compensation(StrEnum):
    """What the weights that are kept do about those that are not."""

    LEAST_SQUARES = "least-squares"  # they change so that the calibration data notice least, and the bias with them
    SEQUENTIAL = "sequential"  # the same for what layers before make of the data now: also for what these have lost
    MEAN = "mean"  # the bias takes over the mean of what is missing
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is dropped of one tensor. `density` is the fraction of units that is kept, above 0 to 1; instead of it,
    `follows` names a tensor whose dropped columns are this one's rows: what makes them is needed no more.
    """

    pattern: Pattern
    density: float | None = None
    score: Score = Score.OBS
    compensation: Compensation = Compensation.LEAST_SQUARES
    follows: str | None = None

    def __post_init__(self) -> None:
        if self.follows is not None:
            defaults = None, Score.OBS, Compensation.LEAST_SQUARES
            if self.pattern.name != "row" or (self.density, self.score, self.compensation) != defaults:
                raise RecipeError(
                    "a pruning that follows another tensor must have the pattern row and no density, score or "
                    "compensation"
                )
        elif self.density is None or not 0.0 < self.density <= 1.0:
            raise RecipeError(f"density must be a fraction above 0 to 1 (what is kept), not {self.density!r}")
        elif self.pattern.among is not None and self.density != self.pattern.among[0] / self.pattern.among[1]:
            raise RecipeError(
                f"density of {self.pattern.name} must be {self.pattern.name.replace(':', '/')}, not {self.density!r}"
            )

    def to_json(self) -> dict[str, object]:
        """A JSON object; what is at its default is left out."""
        value: dict[str, object] = {"pattern": self.pattern.name}
        if self.follows is not None:
            return value | {"follows": self.follows}
        value["density"] = self.density
        if self.score is not Score.OBS:
            value["score"] = str(self.score)
        if self.compensation is not Compensation.LEAST_SQUARES:
            value["compensation"] = str(self.compensation)
        return value
