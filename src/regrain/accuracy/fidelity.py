"""Fidelity: how close a model's outputs are to the original's on the same inputs. It needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regrain.accuracy.drops import NO_INTERVAL, Drop, compare
from regrain.accuracy.neighbors import Sample, overlaps
from regrain.accuracy.outputs import Rows, cosine_distances, divergences
from regrain.accuracy.spread import Spread, mean_spread
from regrain.core.errors import TaskError
from regrain.core.scores import Scores, Values

Kind = Literal["embeddings", "logits"]
KINDS: tuple[Kind, ...] = ("embeddings", "logits")


@dataclass(frozen=True, slots=True, eq=False)
class Fidelity:
    """What n >= 1 pairs of output rows say.

    `losses` (n,) are cosine distances, 0 to 2, of embeddings, or KL(original || compressed) in nats, >= 0, of logits;
    `agrees` (n,) whether the largest logit is the same one, of logits only; `overlaps` the share of each sampled
    row's nearest neighbors that is kept, of embeddings only and None for too few rows. `clusters` (n,), 0 to G - 1,
    say which rows are not independent; None if all are.
    """

    kind: Kind
    losses: Values
    agrees: NDArray[np.bool_] | None
    overlaps: Values | None
    clusters: NDArray[np.int64] | None

    @property
    def n(self) -> int:
        """Rows compared."""
        return len(self.losses)

    @property
    def value(self) -> float:
        """D or KL: the mean loss, what a budget's fidelity limits."""
        return float(self.losses.mean())

    @property
    def D(self) -> float | None:  # noqa: N802 - the quantity's name
        """1 - mean cosine, 0 to 2; None for logits."""
        return self.value if self.kind == "embeddings" else None

    @property
    def kl(self) -> float | None:
        """Mean KL(original || compressed), nats; None for embeddings."""
        return self.value if self.kind == "logits" else None

    @property
    def top1(self) -> float | None:
        """Fraction of rows whose largest logit is the original's; None for embeddings."""
        return None if self.agrees is None else float(self.agrees.mean())

    @property
    def neighbor_overlap(self) -> float | None:
        """Mean share of the 10 nearest rows by cosine that is kept; None for logits or fewer than 21 rows."""
        return None if self.overlaps is None else float(self.overlaps.mean())

    def loss(self, confidence: float = 0.95) -> Drop:
        """D or KL as a drop from 0, with its bounds. An exact copy has the bound 0."""
        return self._from_zero(self.value, mean_spread(self.losses, self.clusters), confidence)

    def disagreement(self, confidence: float = 0.95) -> Drop | None:
        """Top-1 agreement as a drop from 1, with its bounds."""
        if self.agrees is None:
            return None
        perfect = Scores(np.ones(self.n), clusters=self.clusters)
        return compare(perfect, Scores(self.agrees, clusters=self.clusters), confidence=confidence)

    def displacement(self, confidence: float = 0.95) -> Drop | None:
        """Neighbor overlap as a drop from 1. Its bounds take rows for independent, though they share neighbors."""
        if self.overlaps is None:
            return None
        lost = 1.0 - self.overlaps
        mean = float(lost.mean())
        return Drop(1.0, 1.0 - mean, mean, confidence, len(lost), "t interval", mean_spread(lost, None))

    def to_json(self, confidence: float = 0.95) -> dict[str, object]:
        """A JSON object with every figure and its bounds; it holds no arrays."""
        figures: dict[str, object] = {"kind": self.kind, "n": self.n, "confidence": confidence}
        name = "D" if self.kind == "embeddings" else "kl"
        figures |= _bounded(name, self.loss(confidence), from_one=False)
        for name, drop in (
            ("top1", self.disagreement(confidence)),
            ("neighbor_overlap", self.displacement(confidence)),
        ):
            if drop is not None:
                figures |= _bounded(name, drop, from_one=True)
        return figures

    def _from_zero(self, value: float, spread: Spread | None, confidence: float) -> Drop:
        method = NO_INTERVAL if spread is None else "t interval"
        return Drop(0.0, value, value, confidence, self.n, method, spread)


class FidelityMeter:
    """Takes in outputs batch by batch; of each row it keeps a number or two, and of embeddings a bounded sample."""

    def __init__(self, kind: Kind) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
        self._kind = kind
        self._losses: list[Values] = []
        self._agrees: list[NDArray[np.bool_]] = []
        self._clusters: list[NDArray[np.int64]] = []
        self._sample = Sample()

    def add(self, original: Rows, compressed: Rows, clusters: ArrayLike | None = None) -> None:
        """Outputs of both models on the same inputs, (n, d) each, finite.

        `clusters`, an integer for all rows or (n,) integers, says which rows are not independent, as the tokens of a
        sequence; give it always or never. Raises TaskError.
        """
        original, compressed = _checked(original, compressed)
        if self._kind == "embeddings":
            self._losses.append(cosine_distances(original, compressed))
            self._sample.add(original, compressed)
        else:
            losses, agrees = divergences(original, compressed)
            self._losses.append(losses)
            self._agrees.append(agrees)
        if clusters is not None:
            self._clusters.append(np.broadcast_to(np.asarray(clusters, np.int64), len(original)))
        if len(self._clusters) not in (0, len(self._losses)):
            raise TaskError("clusters must be given with every batch, or with none")

    def result(self) -> Fidelity:
        """All rows so far. Raises TaskError if there are none."""
        if not self._losses:
            raise TaskError("fidelity must be measured on one output or more, not none")
        clusters = np.unique(np.concatenate(self._clusters), return_inverse=True)[1] if self._clusters else None
        return Fidelity(
            kind=self._kind,
            losses=np.concatenate(self._losses),
            agrees=np.concatenate(self._agrees) if self._agrees else None,
            overlaps=overlaps(*self._sample.rows()) if self._kind == "embeddings" else None,
            clusters=clusters,
        )


def _checked(original: Rows, compressed: Rows) -> tuple[Rows, Rows]:
    first, second = np.asarray(original), np.asarray(compressed)
    if first.ndim != 2 or first.size == 0 or first.shape != second.shape:
        raise TaskError(f"outputs must both have the same shape (n, d), not {first.shape} and {second.shape}")
    for name, rows in (("original", first), ("compressed", second)):
        if not np.isfinite(rows).all():
            raise TaskError(f"outputs of the {name} model must be finite, not {rows[~np.isfinite(rows)][0]!s}")
    return first, second


def _bounded(name: str, drop: Drop, *, from_one: bool) -> dict[str, object]:
    low, high = drop.lower, drop.upper
    if from_one:
        low, high = (None if bound is None else 1.0 - bound for bound in (high, low))
    return {name: drop.after, f"{name}_lower": low, f"{name}_upper": high}
