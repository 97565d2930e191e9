"""Limits as they are typed, made a budget."""

from __future__ import annotations

from regrain.core.budget import Budget, parse_fraction, parse_size


def budget_of(
    *,
    max_drop: float | str | None = None,
    max_drop_abs: float | None = None,
    min_fidelity: float | str | None = None,
    max_size: int | str | None = None,
    bits: float | None = None,
    max_work: float | str | None = None,
    confidence: float = 0.95,
) -> Budget | None:
    """The budget of those limits, None if there are none.

    `max_drop`, `min_fidelity` and `max_work` are fractions, or text such as "1%"; `max_size` is bytes, or text such as
    "12MB". Raises BudgetError.
    """
    if all(limit is None for limit in (max_drop, max_drop_abs, min_fidelity, max_size, bits, max_work)):
        return None
    return Budget(
        max_drop=_fraction(max_drop, "max_drop"),
        max_drop_abs=max_drop_abs,
        min_fidelity=_fraction(min_fidelity, "min_fidelity"),
        max_bytes=parse_size(max_size) if isinstance(max_size, str) else max_size,
        bits=bits,
        max_work=_fraction(max_work, "max_work"),
        confidence=confidence,
    )


def _fraction(value: float | str | None, name: str) -> float | None:
    return parse_fraction(value, name) if isinstance(value, str) else value
