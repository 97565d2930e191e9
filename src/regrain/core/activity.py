"""What flows into a layer, and how much the task's output depends on its weights: what a profile with a task adds."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """One tensor in its task, over the calibration data.

    `sensitivity` is the trace of the empirical Fisher: independent errors of variance v in its weights add
    sensitivity * v / 2 to the loss, D or KL in nats. The rest is of the inputs that the weight matrix (R, C) meets, at
    `positions` places: by input (C of them; for a convolution channels x kernel positions) their mean, variance, least
    and most; empty where nothing is known of inputs. `trace` is that of their covariance, None if it wasn't gathered;
    `effective_rank` = trace(H)^2 / trace(H^2), 1 to C: how many directions they really have.
    """

    sensitivity: float
    positions: int = 0
    mean: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()
    trace: float | None = None
    effective_rank: float | None = None

    @property
    def mean_variance(self) -> float | None:
        """Of all inputs."""
        return sum(self.variance) / len(self.variance) if self.variance else None

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the most of all inputs."""
        return (min(self.least), max(self.most)) if self.least else None

    def to_json(self) -> dict[str, object]:
        """A JSON object with every field."""
        return asdict(self)
