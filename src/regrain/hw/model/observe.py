"""What the monitor sees, in plain integers, and when: the yardstick of its hardware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError
from regrain.hw.model.codes import Code

LEAST_LOG2, MOST_LOG2 = 4, 12
MOST_METRIC = (1 << 16) - 1
QUARTERS = 4
"""A variance of 1 in units of the metric and of thresholds."""

FIRST_RESULT, CONCLUDED = 3, 2
"""Cycles from a tile's last sample to its first channel's result, and from `conclude` to the metric of a monitor at
rest.
"""


@dataclass(frozen=True, slots=True)
class Observing:
    """How a layer is observed: 2^log2_samples tokens; a variance below `low` is coarse, above `high` fine, in quarters
    of a squared step; the metric is the sum of variances over 2^log2_channels.

    Raises HardwareError for what doesn't fit the monitor's registers.
    """

    log2_samples: int
    low: int
    high: int
    log2_channels: int = 0

    def __post_init__(self) -> None:
        if not LEAST_LOG2 <= self.log2_samples <= MOST_LOG2:
            raise HardwareError(f"log2_samples must be {LEAST_LOG2} to {MOST_LOG2}, not {self.log2_samples!r}")
        if not 0 <= self.low <= self.high <= MOST_METRIC:
            raise HardwareError(f"thresholds must be 0 <= low <= high <= {MOST_METRIC}, not {self.low}, {self.high}")
        if not 0 <= self.log2_channels < 1 << 4:
            raise HardwareError(f"log2_channels must be 0 to 15, not {self.log2_channels!r}")

    @property
    def samples(self) -> int:
        """n."""
        return 1 << self.log2_samples

    @property
    def shift(self) -> int:
        """Quarters to n^2 * variance: t / 4 * n^2 = t << shift."""
        return 2 * self.log2_samples - 2


@dataclass(frozen=True, slots=True)
class Observed:
    """spread (channels,): n^2 * variance; codes (channels,): `Code`; counts (3,) by code; metric in quarters."""

    spread: NDArray[np.int64]
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]
    metric: int


def observe(outputs: NDArray[np.int8], observing: Observing) -> Observed:
    """Of int8 outputs (tokens, channels), the first n tokens. n * sum(x^2) is below 2^39: int64 is exact.

    Raises HardwareError if there are fewer tokens: the monitor would give no result.
    """
    if outputs.ndim != 2 or outputs.dtype != np.int8 or len(outputs) < observing.samples:
        raise HardwareError(
            f"outputs must be int8 of at least {observing.samples} tokens by channels, not {outputs.dtype} "
            f"{outputs.shape}: use fewer samples"
        )
    x = outputs[: observing.samples].astype(np.int64)
    spread = observing.samples * (x * x).sum(0) - x.sum(0) ** 2
    codes = np.full(len(spread), int(Code.MEDIUM))
    codes[spread < observing.low << observing.shift] = Code.COARSE
    codes[spread > observing.high << observing.shift] = Code.FINE
    metric = int(spread.sum()) >> observing.shift >> observing.log2_channels
    return Observed(spread, codes, np.bincount(codes, minlength=3), min(metric, MOST_METRIC))


def result_cycles(completed: Sequence[int], lanes: int) -> Iterator[range]:
    """The cycles of each tile's results, channel by channel; `completed`: the cycles of the tiles' last samples."""
    for cycle in completed:
        yield range(cycle + FIRST_RESULT, cycle + FIRST_RESULT + lanes)


def metric_cycle(conclude: int, completed: int, lanes: int) -> int:
    """The cycle of the metric: `conclude` in one cycle, the matrix' last sample in the cycle `completed`."""
    return max(conclude + CONCLUDED, completed + FIRST_RESULT + lanes)
