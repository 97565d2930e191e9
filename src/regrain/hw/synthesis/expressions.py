"""Functions of cells as Liberty writes them.

From what binds most: !a or a'; a * b, a & b or a b; a ^ b; a + b or a | b.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regrain.core.errors import HardwareError

Words = NDArray[np.uint64]

_SYMBOL = re.compile(r"[A-Za-z_]\w*|[01()!'*&+|^]")
_BINDING = {"!": 4, "*": 3, "^": 2, "+": 1}
_SAME = {"&": "*", "|": "+"}


def postfix(text: str) -> tuple[str, ...]:
    """Pins and operators, each operator after what it is applied to: "(!a b)+c" is a ! b * c +.

    Raises HardwareError for what is no such function.
    """
    found: list[str] = []
    waiting: list[str] = []
    for symbol in _symbols(text):
        if symbol == "'":
            found.append("!")
        elif symbol in ("!", "("):
            waiting.append(symbol)
        elif symbol == ")":
            while waiting and waiting[-1] != "(":
                found.append(waiting.pop())
            if not waiting:
                raise HardwareError(f"a cell's function must close what it opens, not {text!r}")
            waiting.pop()
        elif symbol in _BINDING:
            while waiting and _BINDING.get(waiting[-1], 0) >= _BINDING[symbol]:
                found.append(waiting.pop())
            waiting.append(symbol)
        else:
            found.append(symbol)
    found += reversed(waiting)
    if "(" in found or not found or sum(_arity(symbol) for symbol in found) != 1:
        raise HardwareError(f"a cell's function must be a Boolean expression, not {text!r}")
    return tuple(found)


def evaluate(function: tuple[str, ...], pins: Mapping[str, Words]) -> Words:
    """Bit by bit, of arrays of the same shape."""
    stack: list[Words] = []
    for symbol in function:
        if symbol == "!":
            stack.append(~stack.pop())
        elif symbol in _BINDING:
            right, left = stack.pop(), stack.pop()
            stack.append(left & right if symbol == "*" else left ^ right if symbol == "^" else left | right)
        else:
            stack.append(pins[symbol])
    return stack.pop()


def _symbols(text: str) -> list[str]:
    """Symbols, with the signs of products that are left out."""
    found: list[str] = []
    for symbol in _SYMBOL.findall(text):
        begins = symbol not in ")'*&+|^"
        if found and begins and found[-1] not in ("(", "!", "*", "+", "^"):
            found.append("*")
        found.append(_SAME.get(symbol, symbol))
    return found


def _arity(symbol: str) -> int:
    """What a symbol does to the number of values: of a complete expression, one is left."""
    return 0 if symbol == "!" else -1 if symbol in _BINDING else 1
