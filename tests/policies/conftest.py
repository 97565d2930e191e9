"""Matrices and observations at random, but reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from regrain.policies import Matrix, Observation


@pytest.fixture(scope="session")
def make_matrix():
    """A matrix of weights that differ in size from channel to channel, and the weights as (R, C x span)."""

    def make(seed=0, rows=40, channels=12, span=1, **fields):
        random = np.random.default_rng(seed)
        weights = random.normal(size=(rows, channels, span)) * np.exp(random.normal(size=(1, channels, 1)))
        mean, variance = random.normal(size=channels), np.exp(random.normal(size=channels))
        matrix = Matrix.of("fc", weights, mean, variance, calibrated=1000, **{"density": 0.6, **fields})
        return matrix, weights.reshape(rows, -1)

    return make


@pytest.fixture(scope="session")
def make_observation():
    """What is seen of C channels, of another distribution for each seed."""

    def make(seed, channels=12, count=512):
        random = np.random.default_rng(1000 + seed)
        return Observation(count, random.normal(size=channels), np.exp(random.normal(size=channels)))

    return make
