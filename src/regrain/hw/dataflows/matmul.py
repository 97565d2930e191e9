"""What is computed, on how many elements, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from regrain.core.errors import HardwareError


@dataclass(frozen=True, slots=True)
class Matmul:
    """The product of `tokens` x `inputs` activations and `inputs` x `outputs` weights.

    A convolution is one of as many tokens as output pixels, and kernel height x width x channels inputs.
    """

    tokens: int
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.tokens * self.inputs * self.outputs

    def sparse(self, kept: int, block: int) -> Matmul:
        """The product of what is left when every `block` weights of an output, in turn, keep `kept` of them.

        The kept ones close ranks; a last block that is shorter keeps `kept`, or all it has.
        """
        if not 1 <= kept <= block:
            raise HardwareError(f"kept must be from 1 to block, not {kept} of {block}")
        sizes = (min(block, self.inputs - first) for first in range(0, self.inputs, block))
        return replace(self, inputs=sum(min(kept, size) for size in sizes))


@dataclass(frozen=True, slots=True)
class Grid:
    """Elements that multiply and accumulate, in rows and columns."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        _positive(self)

    def folds(self, height: int, width: int) -> Iterator[tuple[int, int]]:
        """Parts of a height x width matrix that fit on the grid, down each column of parts: (rows, columns) in use."""
        for left in range(0, width, self.columns):
            for top in range(0, height, self.rows):
                yield min(self.rows, height - top), min(self.columns, width - left)


@dataclass(frozen=True, slots=True)
class Run:
    """What running a product took."""

    cycles: int
    folds: int
    """Parts into which the product was cut."""
    macs: int
    elements: int
    """Multiply-accumulates that there could have been in a cycle."""

    @property
    def utilization(self) -> float:
        """Multiply-accumulates done, of those there could have been in that time."""
        return self.macs / (self.cycles * self.elements)


def _positive(value: Matmul | Grid) -> None:
    for field in fields(value):
        number = getattr(value, field.name)
        if type(number) is not int or number < 1:
            raise HardwareError(f"{field.name} must be a whole number from 1 on, not {number!r}")
