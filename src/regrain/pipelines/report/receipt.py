"""The receipt of an artifact as frozen values: what a report shows. Everything but the two sizes may be absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of all files of weights; bits per weight count everything."""

    original: int
    artifact: int
    lossless: int | None
    bits_per_weight: float | None
    original_bits_per_weight: float | None

    @property
    def ratio(self) -> float | None:
        """How many times smaller the artifact is."""
        return self.original / self.artifact if self.artifact else None


@dataclass(frozen=True, slots=True)
class Limits:
    """The budget. Drops are fractions of the baseline, or in the metric's units (`max_drop_abs`)."""

    max_drop: float | None
    max_drop_abs: float | None
    min_fidelity: float | None
    max_bytes: int | None
    bits: float | None
    confidence: float | None
    max_work: float | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric before and after. `drop`, its bounds and `limit` are in the metric's units; positive is worse."""

    name: str
    before: float | None
    after: float | None
    drop: float | None
    relative: float | None
    lower: float | None
    upper: float | None
    limit: float | None
    n: int | None
    higher_is_better: bool
    method: str | None

    def share(self, value: float | None) -> float | None:
        """A value in the metric's units as a fraction of the baseline."""
        share = value / abs(self.before) if value is not None and self.before else None
        return share if share is not None and math.isfinite(share) else None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Closeness to the original on the same inputs. D = 1 - mean cosine; `kl` in nats; the others are fractions.

    A least fidelity limits D, and of logits (`kind`) the divergence where it was measured: `loss` is what it limits.
    """

    kind: str | None
    n: int | None
    distance: float | None
    distance_upper: float | None
    kl: float | None
    kl_upper: float | None
    top1: float | None
    neighbor_overlap: float | None

    @property
    def diverges(self) -> bool:
        """Whether the loss is a divergence, not a distance."""
        return self.kind == "logits" and self.kl is not None

    @property
    def loss(self) -> float | None:
        """The divergence of logits in nats, or else D."""
        return self.kl if self.diverges else self.distance

    @property
    def upper(self) -> float | None:
        """The loss's upper bound."""
        return self.kl_upper if self.diverges else self.distance_upper


@dataclass(frozen=True, slots=True)
class Judgment:
    """One recipe on held-out data. `step` is its predicted loss as a fraction of the best point's, and `point` that
    point's number if it is the one; `ok` is None where the budget limits no quality; `checks` are sentences.
    """

    step: float | None
    point: int | None
    accepted: bool
    ok: bool | None
    checks: tuple[str, ...]
    metrics: tuple[Metric, ...]
    fidelity: Fidelity | None


@dataclass(frozen=True, slots=True)
class Point:
    """One candidate that was built and evaluated on the search split: `relative` and `upper` drops by metric.

    `loss` is D, or the divergence of logits. The lossless point has no number.
    """

    number: int | None
    bits_per_weight: float | None
    nbytes: int | None
    predicted: float | None
    loss: float | None
    metrics: Mapping[str, Mapping[str, float]]
    feasible: bool
    chosen: bool
    work: int | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between ascending edges, one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One tensor. `predicted_loss` is its share of D; `cell` is the granularity as rows x columns of weights. Of a
    pruned one, `pattern` says which weights are kept or dropped together, and `density` which fraction is kept.
    """

    name: str
    shape: tuple[int, ...]
    kind: str | None = None
    weights: int | None = None
    granularity: str | None = None
    cell: tuple[int, ...] = ()
    scheme: str | None = None
    step: float | None = None
    bits: float | None = None
    nbytes: int | None = None
    predicted_loss: float | None = None
    sensitivity: float | None = None
    why: str | None = None
    statistics: Mapping[str, float] | None = None
    histogram: Histogram | None = None
    pattern: str | None = None
    density: float | None = None

    @property
    def kept(self) -> str | None:
        """Pattern and density: `16x1 · 0.70`; None unless it is pruned."""
        if self.pattern is None or self.density is None:
            return None
        return f"{self.pattern.removeprefix('block:')} \N{MIDDLE DOT} {self.density:.2f}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """All of it. `recipe` is shown and handed on as it is; `predicted` pairs bits per weight with loss; `guard` is the
    least fidelity that holds where the budget names none. `work` are multiply-adds of an example before and after,
    `minimized` is what was made small, and `slim` how many channels were removed and how many weights are left.
    """

    mode: str | None
    outcome: str | None
    version: str | None
    model_sha256: str | None
    weights: int | None
    task: str | None
    task_sha256: str | None
    kind: str | None
    limits: Limits
    guard: float | None
    sizes: Sizes
    judgments: tuple[Judgment, ...]
    frontier: tuple[Point, ...]
    predicted: tuple[tuple[float, float], ...]
    latency: Mapping[str, float]
    batch: str | None
    seconds: float | None
    peak_memory: int | None
    phases: Mapping[str, float]
    machine: str | None
    seed: int | None
    command: str | None
    recipe: Mapping[str, object]
    layers: tuple[Layer, ...]
    predicted_work: tuple[tuple[float, float], ...] = ()
    work: tuple[int, int] | None = None
    minimized: str | None = None
    selector: str | None = None
    slim: tuple[int, int] | None = None

    @property
    def spared(self) -> tuple[int, int] | None:
        """Multiply-adds before and after, if anything was pruned."""
        return self.work if any(layer.pattern is not None for layer in self.layers) else None

    @property
    def accepted(self) -> Judgment | None:
        """The judgment that the result rests on."""
        return next((judgment for judgment in self.judgments if judgment.accepted), None)

    @property
    def loss_limit(self) -> float | None:
        """The largest loss of fidelity allowed. Where no metric is judged, limits of drops are limits of it."""
        limits = self.limits
        least = self.guard if limits.min_fidelity is None else limits.min_fidelity
        allowed = [None if least is None else 1 - least]
        if not any(judgment.metrics for judgment in self.judgments):
            allowed += [limits.max_drop, limits.max_drop_abs]
        return min((limit for limit in allowed if limit is not None), default=None)
