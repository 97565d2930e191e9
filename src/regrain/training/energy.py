"""What changing a weight costs, from the gradients that training makes anyway: running means of g^2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regrain.training.weights import as_matrix

MEMORY = 0.9
"""Share of the running mean that stays when a gradient is added."""


class Energy:
    """E[g^2] of each weight as the product of its row's and its column's (Shazeer and Stern, Adafactor, 2018).

    A change d of a weight adds about sum E[g^2] d^2 / 2 to the loss, up to a factor that is the same for all weights:
    gradients are those of batches, not of examples. They are looked at while `on`.
    """

    def __init__(self) -> None:
        self.on = True
        self._rows: dict[str, Tensor] = {}
        self._columns: dict[str, Tensor] = {}

    def of(self, name: str) -> Tensor | None:
        """E[g^2] (R, C) of a weight seen as a matrix; None where no gradient has been seen."""
        if name not in self._rows:
            return None
        rows, columns = self._rows[name], self._columns[name]
        return torch.outer(rows, columns / rows.sum().clamp_min(1e-38))

    def add(self, name: str, gradient: Tensor) -> None:
        """One gradient of a weight, dropped ones included; left out unless finite: mixed precision has some."""
        if not self.on:
            return
        energy = as_matrix(gradient.detach().float()).square()
        rows, columns = energy.sum(dim=1), energy.sum(dim=0)
        if not bool(torch.isfinite(rows.sum())):
            return
        for kept, new in ((self._rows, rows), (self._columns, columns)):
            kept[name] = new if name not in kept else torch.lerp(new, kept[name], MEMORY)

    def state(self) -> dict[str, Tensor]:
        """Tensors to go on with."""
        rows = {f"{name}/rows": value for name, value in self._rows.items()}
        return rows | {f"{name}/columns": value for name, value in self._columns.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`."""
        for key, value in state.items():
            name, _, side = key.rpartition("/")
            (self._rows if side == "rows" else self._columns)[name] = value.clone()
