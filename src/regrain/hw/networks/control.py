"""A matrix under the accelerator's own control: what its monitor sees of each call, and what is decided by it.

As `rtl/top` has it: the bytes of a call's inputs are watched while they are written, the matrix that runs next is told
their metric, and its first tile already has the granularity that is decided by it. Where more than a ReLU stands
between two matrices (a norm, a sum), the bytes are those that come out of it: whoever computes it writes them back
through the monitor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.core.granularity import Granularity
from regrain.hw.machine import Machine
from regrain.hw.model.codes import Code
from regrain.hw.model.decide import Decided, Deciding, begin, boundary, tick
from regrain.hw.model.descriptor import WIDTHS, Descriptor
from regrain.hw.model.observe import LEAST_LOG2, MOST_LOG2, MOST_METRIC, QUARTERS, Observing, observe
from regrain.policies import Thresholds

Floats = NDArray[np.float64]

MARGIN = 0.1
"""Of a threshold, to either side: a band in which the granularity stays."""

COST = 16
"""Words that a unit of a descriptor's costs is."""


@dataclass(frozen=True, slots=True)
class OwnControl:
    """Monitor and control of the machine decide. `thresholds`: of the mean variance of a matrix' input channels, above
    `high` fine and below `low` coarse; None: what parts the metrics of calibration data in three, for each matrix, in
    the network as it begins to run, when matrices before this one have lost weights already. `dwell` + 1 calls in a row
    must ask for a change. `inverted`: what varies more is coarser.

    Raises HardwareError for a dwell that a descriptor has no room for.
    """

    thresholds: Thresholds | None = None
    dwell: int = 1
    inverted: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dwell < 1 << WIDTHS["dwell"]:
            raise HardwareError(f"dwell must be 0 to {(1 << WIDTHS['dwell']) - 1} calls, not {self.dwell!r}")

    @property
    def name(self) -> str:
        """On the command line."""
        return "hardware"

    @property
    def origin(self) -> str:
        """Where thresholds are from, in words."""
        if self.thresholds is None:
            return "part the calls of calibration data in three"
        return f"stand for variances of {self.thresholds.low:g} and {self.thresholds.high:g}"


class Samples:
    """What the monitor would see of calibration data: of each call the variances of the channels, (C,), over its first
    `count` tokens: a power of two, the largest that the first call has so many of.
    """

    def __init__(self) -> None:
        self.log2 = 0
        self.variances: list[Floats] = []

    @property
    def count(self) -> int:
        """Tokens."""
        return 1 << self.log2

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take in the inputs (n, C) of a call."""
        if not self.log2 and len(rows) >= 1 << LEAST_LOG2:
            self.log2 = min(MOST_LOG2, len(rows).bit_length() - 1)
        if self.log2 and len(rows) >= self.count:
            self.variances.append(rows[: self.count].var(0, dtype=np.float64))

    def metrics(self, steps: Floats) -> Floats:
        """The monitor's metric of each call, in squared steps; `steps` (C,) are those of the channels."""
        return np.array([metric(variance, steps) for variance in self.variances])


def metric(variance: Floats, steps: Floats) -> float:
    """The sum of variances (C,) in squared steps, over the power of two from the number of channels up."""
    return float((variance / steps**2).sum() / (1 << log2_channels(len(steps))))


def log2_channels(count: int) -> int:
    """The power of two from a number of channels up."""
    return (count - 1).bit_length()


def bounds(own: OwnControl, samples: Samples, variance: Floats, steps: Floats) -> tuple[float, float]:
    """Thresholds of the metric, in squared steps. Those of variances are brought to it by the ratio of the two on
    calibration data, where the inputs have `variance` (C,).
    """
    if own.thresholds is None:
        return thirds(samples.metrics(steps))
    mean = float(variance.mean())
    ratio = metric(variance, steps) / mean if mean > 0.0 else 0.0
    return (own.thresholds.low * ratio, own.thresholds.high * ratio) if ratio else (0.0, 0.0)


def thirds(metrics: Floats) -> tuple[float, float]:
    """What parts them in three."""
    low, high = np.quantile(metrics, [1 / 3, 2 / 3])
    return float(low), float(high)


def descriptor(
    own: OwnControl,
    shape: tuple[int, int],
    limits: tuple[float, float],
    metrics: Sequence[float],
    words: Mapping[Granularity, int],
    machine: Machine,
) -> Descriptor:
    """Of a matrix (outputs, inputs) whose metric was `metrics` on calibration data, and that takes so many `words` at a
    granularity: it begins with what their median asks for. Raises HardwareError for what no descriptor can say.
    """
    (low, high), usual = limits, float(np.median(metrics))
    margin = MARGIN if own.thresholds is None else own.thresholds.margin
    down, up = ([min(limit * (1 + by) * QUARTERS, MOST_METRIC) for limit in limits] for by in (-margin, margin))
    rank = int(usual >= low) + int(usual > high)
    return Descriptor(
        granularity=Code(rank if own.inverted else 2 - rank).granularity,
        outputs=shape[0],
        blocks=-(-shape[1] // machine.block),
        tokens=1,
        weights=0,
        channels=0,
        listed=True,
        dynamic=True,
        reverse=own.inverted,
        up0=math.ceil(up[0]),
        down0=math.ceil(down[0]),
        up1=min(MOST_METRIC, math.floor(up[1]) + 1),
        down1=min(MOST_METRIC, math.floor(down[1]) + 1),
        dwell=own.dwell,
        cost_fine=-(-words[Granularity.FINE] // COST),
        cost_medium=-(-words[Granularity.MEDIUM] // COST),
        cost_coarse=-(-words[Granularity.COARSE] // COST),
    )


def check_lanes(machine: Machine) -> None:
    """Raise HardwareError for a machine that no monitor can be built for (`rtl/monitor`)."""
    most = 1 << LEAST_LOG2
    if not 2 <= machine.outputs <= most:
        raise HardwareError(
            f"a monitor must have 2 to {most} lanes, as many as an array has outputs of a tile, not {machine.outputs}: "
            "choose other pes or lanes"
        )


def deciding(found: Descriptor, machine: Machine) -> Deciding:
    """How control decides of a dynamic matrix, as `rtl/top` sets it: a word that is saved is saved in each pass, and a
    switch costs the master copy, read once more.
    """
    tiles = -(-found.outputs // machine.outputs)
    return Deciding(
        (found.up0, found.up1),
        (found.down0, found.down1),
        predefined=Code.of(found.granularity),
        reverse=found.reverse,
        priced=True,
        dwell=found.dwell,
        cost=(found.cost_fine, found.cost_medium, found.cost_coarse),
        uses=min(255, -(-found.tokens // machine.rows)),
        reorganization=tiles * found.blocks * machine.block // COST,
    )


class MatrixControl:
    """One matrix, call after call: the granularity of its tiles, and how often it changed."""

    def __init__(self, found: Descriptor, samples: Samples, channels: int, machine: Machine) -> None:
        self.descriptor, self.machine = found, machine
        self.observing = Observing(samples.log2, found.down0, found.up1, log2_channels(channels))
        self.restart()

    def restart(self) -> None:
        """As after power-up."""
        self.state = Decided(Code.of(self.descriptor.granularity))
        self.watching: list[int] | None = None

    def watch(self) -> None:
        """From now on nothing is decided, and metrics are collected."""
        self.watching = []

    def run(self, inputs: NDArray[np.int8], tokens: int) -> tuple[Granularity, int | None]:
        """The granularity of a call with such inputs (rows, channels), whose first run has so many tokens; and what the
        monitor says of them, nothing of too few rows.
        """
        seen = observe(inputs, self.observing).metric if len(inputs) >= self.observing.samples else None
        if self.watching is not None:
            self.watching += [] if seen is None else [seen]
            return self.descriptor.granularity, seen
        settings = deciding(replace(self.descriptor, tokens=min(tokens, (1 << WIDTHS["tokens"]) - 1)), self.machine)
        state = begin(settings, self.state)
        if seen is not None:
            state = tick(settings, state, seen)
        self.state = boundary(settings, state, ready=True)
        return self.state.granularity.granularity, seen
