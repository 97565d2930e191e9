"""Half of the products, beside all of them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from regrain.profiling.gram import BLOCK, add_gram, mirror


@given(
    n=st.integers(1, 2 * BLOCK + 3),
    k=st.integers(1, 40),
    times=st.integers(1, 3),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sums_are_those_of_whole_products(n: int, k: int, times: int, turned: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    total, whole = torch.zeros(n, n), np.zeros((n, n))
    for _ in range(times):
        rows = rng.normal(0.2, 1, (n, k)).astype(np.float32)
        add_gram(total, torch.from_numpy(np.ascontiguousarray(rows.T)).T if turned else torch.from_numpy(rows))
        whole += rows.astype(np.float64) @ rows.T
    mirror(total)
    assert torch.equal(total, total.T)
    np.testing.assert_allclose(total.numpy(), whole, rtol=1e-5, atol=1e-5 * whole.diagonal().max())
