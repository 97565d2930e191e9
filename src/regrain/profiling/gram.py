"""Sums of Gram matrices. They are symmetric: half of the products say everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BLOCK = 128
"""Rows of a Gram matrix that are found at once."""


def add_gram(total: torch.Tensor, rows: torch.Tensor) -> None:
    """total += rows rows^T, for `rows` (n, k) and `total` (n, n), in its lower half; the upper is undefined then."""
    for start in range(0, len(rows), BLOCK):
        end = start + BLOCK
        total[start:end, :end].addmm_(rows[start:end], rows[:end].T)


def mirror(total: torch.Tensor) -> None:
    """Make the upper half of `total` (n, n) what the lower one is."""
    for start in range(0, len(total), BLOCK):
        end = start + BLOCK
        total[:start, start:end] = total[start:end, :start].T
        corner = total[start:end, start:end]
        corner.copy_(corner.tril() + corner.tril(-1).T)
