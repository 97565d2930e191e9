"""What a policy is told, what it never forgets, and what it says: of one weight matrix, as frozen values.

Arrays in them must not be written to. A *channel* is an input channel: for a convolution with `span` kernel positions
it is `span` columns of the matrix, kept or dropped together. Rows come in *panels* of 16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrain.core.granularity import Granularity

PANEL = 16
"""Rows that share a list of columns."""

ALIKE = 16
"""Tokens that an image is worth at most, however many positions it has: they are not independent."""

Vector = NDArray[np.float64]
Classes = NDArray[np.uint8]


class Class(IntEnum):
    """What becomes of the weights of one channel. The numbers stand in traces: they are for ever."""

    DENSE = 0  # kept in every panel
    BLOCK = 1  # kept in the panels where variance x |W[panel, channel]|^2 ranks high
    FINE = 2  # single weights are kept, where variance x w^2 ranks high
    DROPPED = 3  # kept nowhere; its mean goes into the bias


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """The inputs (C,) of a matrix over `count` tokens (or positions of an image): `mean`, and `variance` about it.

    `discarded` tokens are not among them, because their calls held a NaN or an infinity.
    """

    count: int
    mean: Vector
    variance: Vector
    discarded: int = 0

    def __post_init__(self) -> None:
        _counted("count", self.count)
        _counted("discarded", self.discarded)
        object.__setattr__(self, "mean", _vector("mean", self.mean))
        object.__setattr__(self, "variance", _vector("variance", self.variance, self.mean.size, positive=True))

    def about(self, mean: Vector) -> Vector:
        """E[(x - mean)^2] (C,) for another mean."""
        distance = self.mean - mean
        return np.asarray(self.variance + distance * distance)

    def brief(self) -> Observation:
        """With shorter numbers, which make a trace half as long: means are within 1e-4 standard deviations, or within
        what float32 tells apart, and variances within 1e-5 of themselves.
        """
        steps = np.maximum(1e-4 * np.sqrt(self.variance), 1e-7 * np.abs(self.mean))
        mean, variance = _brief(self.mean, steps), _brief(self.variance, 1e-5 * self.variance)
        return Observation(self.count, mean, variance, self.discarded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Observation) and self.to_json() == other.to_json()

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "discarded": self.discarded,
        }

    @classmethod
    def from_json(cls, value: object) -> Observation:
        """Inverse of `to_json`. Raises ValueError."""
        fields = _fields(value, "count", "mean", "variance", "discarded")
        mean, variance = (_numbers(name, fields[name]) for name in ("mean", "variance"))
        return cls(fields["count"], mean, variance, fields["discarded"])


@dataclass(frozen=True, eq=False)
class Matrix:
    """What never changes of a weight matrix (R, C x span).

    `energy` (ceil(R / 16), C) is |W[panel, channel]|^2. `mean` and `variance` (C,) are of the inputs on calibration
    data, `calibrated` tokens of them. An example has `positions` tokens that say much the same: those of an image for
    a convolution, 1 where tokens follow each other. `dynamic` is the descriptor's flag: off means that the matrix stays
    as it is stored. `density`, above 0 to 1, is the share of the weights that any decision may keep. `threshold` is
    that of `Decision`, calibrated to the same density; None where that wasn't done. `served` is what calibration data
    look like in the network as it starts, when the layers before this one have lost weights already; None if nobody
    looked. `candidates` are decisions whose weights were compensated beforehand, each for inputs of its mean and
    variance, numbered by their place; the first is the stored pattern.
    """

    name: str
    rows: int
    span: int
    energy: NDArray[np.float64]
    mean: Vector
    variance: Vector
    density: float = 1.0
    dynamic: bool = True
    calibrated: int = 0
    positions: int = 1
    threshold: float | None = None
    served: Observation | None = None
    candidates: tuple[Decision, ...] = ()

    def __post_init__(self) -> None:
        energy = np.asarray(self.energy, np.float64)
        panels = -(-self.rows // PANEL)
        if energy.ndim != 2 or energy.shape[0] != panels or not np.isfinite(energy).all() or (energy < 0).any():
            raise ValueError(
                f"energy of {self.name} must be ({panels}, channels) finite sums of squares, not {energy.shape}"
            )
        object.__setattr__(self, "energy", energy)
        object.__setattr__(self, "mean", _vector("mean", self.mean, energy.shape[1]))
        object.__setattr__(self, "variance", _vector("variance", self.variance, energy.shape[1], positive=True))
        _density(self.density)
        numbered = tuple(replace(candidate, candidate=number) for number, candidate in enumerate(self.candidates))
        object.__setattr__(self, "candidates", numbered)

    @classmethod
    def of(cls, name: str, weights: ArrayLike, mean: ArrayLike, variance: ArrayLike, **fields: Any) -> Matrix:
        """From the weights: (R, C) or (R, C, kernel...)."""
        array = np.asarray(weights)
        span = math.prod(array.shape[2:])
        return cls(name, array.shape[0], span, panel_energy(array), np.asarray(mean), np.asarray(variance), **fields)

    def tokens(self, seen: Observation) -> int:
        """Tokens that an observation is worth: an image is worth no more than ALIKE."""
        return round(seen.count * min(1.0, ALIKE / self.positions))

    def undisturbed(self, seen: Observation) -> Observation:
        """What would have been seen in the original network, as far as calibration tells: what pruning does to the
        inputs of calibration data, it does to others.

        A mean that has moved because layers before this one lost weights is an error; folded into the bias, it would be
        made good for by nothing.
        """
        if self.served is None:
            return seen
        floor = 1e-3 * float(self.served.variance.mean()) or 1.0
        ratio = self.variance / np.maximum(self.served.variance, floor)
        return replace(seen, mean=seen.mean - (self.served.mean - self.mean), variance=ratio * seen.variance)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.energy.shape[1])

    @property
    def columns(self) -> int:
        """C x span."""
        return self.channels * self.span

    @cached_property
    def column_energy(self) -> Vector:
        """|W_channel|^2 (C,)."""
        return np.asarray(self.energy.sum(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """How a matrix is laid out from now on.

    `granularity` is that of what is dropped, None where nothing is. FINE asks for the element-wise layout, the other
    two for panels; a layout of panels keeps channels of the class FINE whole, with zeros. `classes` (C,) hold a
    `Class` of each channel. `density`, above 0 to 1, is the share of all weights that is kept: channels that are DENSE
    are kept first, those that are BLOCK or FINE share what remains (`share`). `variance` (C,) is what their parts are
    ranked by, and `mean` (C,) what is put in the place of an input that is dropped:

        y = b + W mean + sum over kept weights of w (x - mean)

    With a `threshold` the columns are chosen for each token, and every channel is DENSE: a channel is left out where
    |x_c - mean_c| |W_c| < threshold; `density` is then what that is expected to keep. `candidate` is the number of
    the decision among `Matrix.candidates` whose compensated weights serve; None: the original weights, masked.
    """

    granularity: Granularity | None
    classes: Classes
    density: float
    mean: Vector
    variance: Vector
    threshold: float | None = None
    candidate: int | None = None

    def __post_init__(self) -> None:
        classes = np.asarray(self.classes)
        if classes.ndim != 1 or not np.isin(classes, [kind.value for kind in Class]).all():
            raise ValueError(f"classes must be one number of a Class (0 to 3) for each channel, not {self.classes!r}")
        object.__setattr__(self, "classes", classes.astype(np.uint8))
        object.__setattr__(self, "mean", _vector("mean", self.mean, classes.size))
        object.__setattr__(self, "variance", _vector("variance", self.variance, classes.size, positive=True))
        _density(self.density)
        if self.threshold is not None and not 0.0 <= self.threshold < math.inf:
            raise ValueError(f"threshold must be None, or 0 or more, not {self.threshold!r}")
        if self.candidate is not None and (not _integer(self.candidate) or self.candidate < 0):
            raise ValueError(f"candidate must be None, or a number from 0 on, not {self.candidate!r}")

    @property
    def share(self) -> float:
        """The part of the weights of BLOCK and FINE channels that is kept, 0 to 1."""
        dense = int(np.count_nonzero(self.classes == Class.DENSE))
        ranked = int(np.count_nonzero((self.classes == Class.BLOCK) | (self.classes == Class.FINE)))
        return min(1.0, max(0.0, (self.density * self.classes.size - dense) / ranked)) if ranked else 0.0

    def same_weights(self, other: Decision) -> bool:
        """Whether both keep the same weights, so that going from one to the other changes nothing but the bias."""
        return (
            (self.granularity, self.density, self.threshold, self.candidate)
            == (other.granularity, other.density, other.threshold, other.candidate)
            and np.array_equal(self.classes, other.classes)
            and (self.share in (0.0, 1.0) or np.array_equal(self.variance, other.variance))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self.to_json() == other.to_json()

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return {
            "granularity": None if self.granularity is None else str(self.granularity),
            "classes": self.classes.tolist(),
            "density": self.density,
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
            "threshold": self.threshold,
            "candidate": self.candidate,
        }

    @classmethod
    def from_json(cls, value: object) -> Decision:
        """Inverse of `to_json`. Raises ValueError."""
        fields = _fields(value, "granularity", "classes", "density", "mean", "variance", "threshold", "candidate")
        granularity = fields["granularity"]
        threshold = fields["threshold"]
        return cls(
            None if granularity is None else Granularity(granularity),
            np.asarray(_numbers("classes", fields["classes"])),
            _number("density", fields["density"]),
            _numbers("mean", fields["mean"]),
            _numbers("variance", fields["variance"]),
            None if threshold is None else _number("threshold", threshold),
            fields["candidate"],
        )


def panel_energy(weights: NDArray[Any]) -> NDArray[np.float64]:
    """|W[panel, channel]|^2 (ceil(R / 16), C) of weights (R, C) or (R, C, kernel...)."""
    rows, channels = weights.shape[:2]
    flat = weights.reshape(rows, channels, -1)
    squares = np.einsum("rcs,rcs->rc", flat, flat, dtype=np.float64)
    return np.asarray(np.add.reduceat(squares, np.arange(0, rows, PANEL), axis=0))


def _integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _counted(name: str, value: object) -> None:
    if not _integer(value) or value < 0:
        raise ValueError(f"{name} must be a number of tokens, 0 or more, not {value!r}")


def _density(value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"density must be a fraction above 0 to 1 (what is kept), not {value!r}")


def _vector(name: str, value: ArrayLike, size: int | None = None, *, positive: bool = False) -> Vector:
    array = np.asarray(value, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all() or (positive and (array < 0).any()):
        raise ValueError(f"{name} must be one axis of finite numbers{', 0 or more' if positive else ''}, not {value!r}")
    if size is not None and array.size != size:
        raise ValueError(f"{name} must have {size} numbers, one for each channel, not {array.size}")
    return array


def _brief(numbers: Vector, steps: Vector) -> Vector:
    """To multiples of the power of ten below the step of each, whose shortest decimals are as short; 0: as it is."""
    up = -np.floor(np.log10(np.where(steps > 0.0, steps, 1.0)))
    scale = 10.0 ** np.abs(up)
    rounded = np.where(up > 0.0, np.rint(numbers * scale) / scale, np.rint(numbers / scale) * scale)
    return np.asarray(np.where(steps > 0.0, rounded, numbers))


def _fields(value: object, *names: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or set(value) != set(names):
        found = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise ValueError(f"object must have exactly {', '.join(names)}, not {found}")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(value)


def _numbers(name: str, value: object) -> Vector:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list of numbers, not {value!r}")
    return np.array([_number(name, one) for one in value])
