"""Which weights a decision keeps: the reference that every engine's layout is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regrain.policies.decision import PANEL, Class, Decision, Vector

Mask = NDArray[np.bool_]


def kept_blocks(decision: Decision, energy: NDArray[np.float64]) -> Mask:
    """Of the blocks (ceil(R / 16), C) those that a layout of panels stores, given |W[panel, channel]|^2.

    FINE channels are stored whole. Of blocks that rank equal the first is kept, in C order.
    """
    classes = decision.classes
    mask = np.zeros(energy.shape, bool)
    mask[:, (classes == Class.DENSE) | (classes == Class.FINE)] = True
    ranked = np.flatnonzero(classes == Class.BLOCK)
    mask[:, ranked] = _highest(energy[:, ranked] * decision.variance[ranked], decision.share)
    return mask


def kept_weights(decision: Decision, weights: NDArray[Any], energy: NDArray[np.float64]) -> Mask:
    """Of the weights (R, C x span) those that a decision keeps, given |W[panel, channel]|^2."""
    rows = weights.shape[0]
    span = weights.shape[1] // decision.classes.size
    mask = np.repeat(np.repeat(kept_blocks(decision, energy), PANEL, axis=0)[:rows], span, axis=1)
    fine = np.flatnonzero(np.repeat(decision.classes == Class.FINE, span))
    if fine.size:
        squares = np.square(weights[:, fine], dtype=np.float64)
        mask[:, fine] = _highest(squares * np.repeat(decision.variance, span)[fine], decision.share)
    return mask


def folded(decision: Decision, weights: NDArray[Any], mask: Mask) -> Vector:
    """What the bias (R,) gains from the weights (R, C x span) that are dropped: each times its input's mean."""
    span = weights.shape[1] // decision.classes.size
    return np.asarray(np.where(mask, 0.0, weights) @ np.repeat(decision.mean, span))


def _highest(scores: NDArray[np.float64], share: float) -> Mask:
    """True for that share of the scores, the highest; of equal ones the first."""
    count = round(share * scores.size)
    if count == 0 or count == scores.size:
        return np.full(scores.shape, count > 0)
    flat = scores.reshape(-1)
    last = np.partition(flat, flat.size - count)[flat.size - count]
    mask: Mask = flat > last
    mask[np.flatnonzero(flat == last)[: count - int(np.count_nonzero(mask))]] = True
    return mask.reshape(scores.shape)
