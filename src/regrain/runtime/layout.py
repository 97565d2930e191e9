"""How a matrix is laid out at one time: an immutable value, which is replaced as a whole."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Protocol, Self

from regrain.kernels.integers import Integers
from regrain.kernels.panels import Panels
from regrain.kernels.product import Floats, Product
from regrain.kernels.rows import Rows
from regrain.kernels.skipping import Skipping
from regrain.policies import Decision

NEVER = sys.maxsize
"""A number of tokens that no call has."""


_NAMES = {Panels: "panels", Skipping: "columns", Rows: "rows", Integers: "int8 x int8"}


class Biased(Product, Protocol):
    """A product whose bias can be replaced."""

    def with_bias(self, bias: Floats) -> Self:
        """The same weights, in the same memory, with another bias (R,)."""
        ...


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Layout:
    """`few` serves calls of fewer than `border` tokens, `many` the others; where that is None the original module does,
    which is faster then. `number` counts the layouts of a matrix from 0. `decision` is what it follows, None for one
    that nothing decided.
    """

    few: Biased
    many: Biased | None = None
    border: int = NEVER
    number: int = 0
    decision: Decision | None = None

    @property
    def idle(self) -> bool:
        """Whether the original module serves every call."""
        return self.many is None and self.border == 0

    def trimmed(self) -> Self:
        """Without a product that no call needs."""
        if self.many is None or 0 < self.border < NEVER:
            return self
        return replace(self, few=self.few if self.border else self.many, many=None, border=NEVER)

    @property
    def nbytes(self) -> int:
        """Bytes of its products."""
        return self.few.nbytes + (0 if self.many is None else self.many.nbytes)

    @property
    def description(self) -> str:
        """What serves how many tokens: "i8 columns, i8 panels from 3 tokens"."""
        if self.border == NEVER:
            return _name(self.few)
        return f"{_name(self.few)}, {'torch' if self.many is None else _name(self.many)} from {self.border} tokens"


def _name(product: Product) -> str:
    return f"{getattr(product, 'value', '')} {_NAMES.get(type(product), type(product).__name__)}".strip()
