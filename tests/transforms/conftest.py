"""Small matrices with a damage, and what is best for a mask by solving the whole system at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from regrain.transforms.damage import Damage

Case = Callable[..., tuple[np.ndarray, Damage]]
Exact = Callable[[np.ndarray, np.ndarray, Damage], np.ndarray]


def gram(rng: np.random.Generator, n: int) -> np.ndarray:
    rows = rng.normal(size=(2 * n + 3, n)) * rng.uniform(0.3, 1.5, n) + 0.7 * rng.normal(size=(2 * n + 3, 1))
    return (rows.T @ rows / len(rows) + 0.05 * np.eye(n)).astype(np.float32)


@pytest.fixture(scope="session")
def case() -> Case:
    """A matrix (R, C) and what changing it costs."""

    def make(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, Damage]:
        rng = np.random.default_rng(seed)
        return rng.normal(size=(rows, columns)).astype(np.float32), Damage(gram(rng, columns), gram(rng, rows))

    return make


@pytest.fixture(scope="session")
def exact() -> Exact:
    """The best matrix with zeros outside a mask: H = G (x) A, and H_kk d_k = H_kd w_d for kept k and dropped d."""

    def solve(weights: np.ndarray, mask: np.ndarray, damage: Damage) -> np.ndarray:
        whole = np.kron(damage.outputs.astype(float), damage.inputs.astype(float))
        kept = mask.reshape(-1)
        found = np.where(kept, weights.reshape(-1), 0.0).astype(float)
        missing = weights.reshape(-1)[~kept].astype(float)
        if kept.any():
            found[kept] += np.linalg.solve(whole[np.ix_(kept, kept)], whole[np.ix_(kept, ~kept)] @ missing)
        return found.reshape(weights.shape)

    return solve
