"""Layers of random weights with random sensitivities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regrain.planning.layer import Factors, Layer, factors
from regrain.profiling.sensitivity import Sensitivity


def gram(rng: np.random.Generator, n: int) -> np.ndarray:
    """Of samples that depend on each other, as those of real layers do."""
    rows = rng.normal(0, 1, (4 * n, n)) * rng.uniform(0.3, 1.5, n) + 0.7 * rng.normal(0, 1, (4 * n, 1))
    return (rows.T @ rows / len(rows)).astype(np.float32)


@pytest.fixture(scope="session")
def make_layer() -> Callable[..., Layer]:
    def make(
        rows: int = 48, columns: int = 64, *, name: str = "layer", seed: int = 0, trace: float = 5.0, **more: object
    ) -> Layer:
        rng = np.random.default_rng(seed)
        sensitivity = (
            Sensitivity(trace, gram(rng, columns), gram(rng, rows)) if rows > 1 else Sensitivity(trace, None, None)
        )
        weights = more.pop("weights", rng.normal(0, 0.1, (rows, columns)).astype(np.float32))
        known = factors(sensitivity, (rows, columns), None) if trace else Factors.alike(rows, columns)
        given = {"dtype": "F32", "kind": "linear", "shape": (rows, columns), "lossless": 3 * rows * columns} | more
        return Layer(name=name, weights=weights, factors=known, **given)

    return make
