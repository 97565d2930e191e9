"""Rank correlation, for scores that are pairs: what the model says and what people say."""

from __future__ import annotations

import numpy as np

from regrain.core.scores import Values


def spearman(values: Values) -> float:
    """Spearman's rank correlation of the two columns of (n, 2) values, -1 to 1; equal values share their mean rank.

    NaN where a column is constant: correlation is not defined there.
    """
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"values must have shape (n, 2), not {values.shape}")
    first, second = (_ranks(column) for column in values.T)
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / norm) if norm > 0.0 else float("nan")


def _ranks(column: Values) -> Values:
    """Ranks 1 to n, ties averaged: a value's mean rank is where its run starts plus half the run's length."""
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    ranks: Values = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return ranks
