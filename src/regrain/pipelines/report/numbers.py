"""Numbers as a report writes them. Absent ones are a dash."""

from __future__ import annotations

NONE = "\N{EN DASH}"

_SPACE = "\N{NO-BREAK SPACE}"

DISTANCE = "D = 1 \N{MINUS SIGN} cosine"

DIVERGENCE = "KL divergence, nats"


def megabytes(count: float | None) -> str:
    """Bytes in units of 10^6 with the unit: three significant digits at least."""
    if count is None:
        return NONE
    value = count / 1e6
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}{_SPACE}MB"


def count(value: int | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,}"


def rough(value: int) -> str:
    """A whole number to be read aloud: `22.7 million`, `1.1 billion`; small ones exactly."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if value >= size:
            return f"{value / size:,.1f}{_SPACE}{name}"
    return count(value)


def bits(value: float | None) -> str:
    """Bits per weight, without the unit."""
    return NONE if value is None else f"{value:.2f}"


def percent(fraction: float | None) -> str:
    """A fraction of 1 in percent with the unit, to a hundredth: `1 %`, `0.22 %`, `-0.05 %`."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:.2f}".rstrip("0").rstrip(".")
    return f"{'0' if text == '-0' else text}{_SPACE}%"


def significant(value: float | None, digits: int = 4) -> str:
    """A number of unknown scale."""
    if value is None:
        return NONE
    text = f"{value:.{digits}g}"
    return "0" if text == "-0" else text


def seconds(value: float | None) -> str:
    """A time span: `41 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None:
        return NONE
    if value < 10:
        return f"{value:.1f}{_SPACE}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{_SPACE}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    return f"{minutes // 60}{_SPACE}h {minutes % 60}{_SPACE}min"


def times(ratio: float | None) -> str:
    """A ratio: `7.95x`."""
    return NONE if ratio is None else f"{ratio:.{1 if ratio >= 10 else 2}f}\N{MULTIPLICATION SIGN}"
