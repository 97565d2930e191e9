"""Indexing one tensor: which run of elements to read, and what NumPy then does with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from types import EllipsisType
from typing import NamedTuple

Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]


class Run(NamedTuple):
    """Elements first .. first + prod(shape), as an array of `shape`; to be indexed by `rest`, unless that is empty."""

    first: int
    shape: tuple[int, ...]
    rest: tuple[slice | int, ...]


def narrow(key: Index, shape: Sequence[int]) -> Run:
    """The shortest run that holds x[key], for x of that shape in C order.

    Whole numbers and slices with a positive step mean what they mean to NumPy. Raises IndexError for a number out of
    range or too many indices, TypeError for any other kind of index, ValueError for a step below 1.
    """
    keys = _expand(key, len(shape))
    first, axis, stride = 0, 0, math.prod(shape)
    while axis < len(keys) and not isinstance(keys[axis], slice):
        stride = stride // shape[axis] if shape[axis] else 0
        first += _position(keys[axis], shape[axis], axis) * stride
        axis += 1
    if axis == len(keys):
        return Run(first, tuple(shape[axis:]), ())
    span, _ = _span(keys[axis], shape[axis])  # type: ignore[arg-type]  # the loop ends at a slice
    if len(span):
        first += span[0] * (stride // shape[axis])
    rows = span[-1] + 1 - span[0] if len(span) else 0
    rest = tuple(
        _span(key, size)[1] if isinstance(key, slice) else _position(key, size, at)
        for at, (key, size) in enumerate(zip(keys[axis + 1 :], shape[axis + 1 :], strict=False), axis + 1)
    )
    return Run(
        first, (rows, *shape[axis + 1 :]), (slice(None, None, span.step), *rest) if rest or span.step != 1 else ()
    )


def _expand(key: Index, axes: int) -> tuple[int | slice, ...]:
    """The index as a tuple without an ellipsis, whole axes at its end left off."""
    keys = key if isinstance(key, tuple) else (key,)
    dots = [at for at, item in enumerate(keys) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("index must have at most one ellipsis")
    if len(keys) - len(dots) > axes:
        raise IndexError(f"index must have at most {axes} items, not {len(keys) - len(dots)}")
    if dots:
        keys = (*keys[: dots[0]], *[slice(None)] * (axes - len(keys) + 1), *keys[dots[0] + 1 :])
    while keys and isinstance(keys[-1], slice) and keys[-1] == slice(None):
        keys = keys[:-1]
    return keys  # type: ignore[return-value]  # no ellipsis is left


def _position(key: object, size: int, axis: int) -> int:
    try:
        at = index(key)  # type: ignore[arg-type]  # raises TypeError
    except TypeError:
        raise TypeError(f"index must be a whole number, a slice or an ellipsis, not {type(key).__name__}") from None
    if not -size <= at < size:
        raise IndexError(f"index must be within axis {axis} of size {size}, not {at}")
    return at % size


def _span(key: slice, size: int) -> tuple[range, slice]:
    """The places that a slice selects, and the slice with its ends filled in."""
    if key.step is not None and index(key.step) < 1:
        raise ValueError(f"step must be at least 1, not {key.step}")
    ends = key.indices(size)
    return range(*ends), slice(*ends)
